"""The daemon's watch over the interfaces: when they may have changed, and what is published of them."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from cnf.errors import CnfError, KernelError
from cnf.interfaces.reconcile import Interfaces
from cnf.kernel.links import Links
from cnf.server.state import State


class Watch:
    """Look at the interfaces, and tell when there is a reason to."""

    def __init__(self, interfaces: Interfaces, links: Links, state: State, log: FilteringBoundLogger) -> None:
        """Publish in ``state`` what is seen."""
        self._interfaces = interfaces
        self._links = links
        self._state = state
        self._log = log
        self.listening = True
        """Whether ``fileno()`` tells of changes; while it fails, the loop looks by time alone."""
        self._asked = False

    def fileno(self) -> int:
        """Return the descriptor that is readable after a change."""
        return self._links.fileno()

    def ask(self) -> None:
        """Have ``changed()`` tell so the next time; any thread may call it."""
        self._asked = True

    def changed(self) -> bool:
        """Tell whether the interfaces may have changed."""
        asked, self._asked = self._asked, False
        try:
            changed = self._links.changed()
        except KernelError as error:
            self.listening = False
            self._log.error("notifications about interfaces not read", error=str(error))
            return True
        self.listening = True
        return changed or asked

    def look(self) -> None:
        """Attach and detach as the configuration wants it, and publish how the interfaces stand."""
        try:
            self._interfaces.reconcile()
        except CnfError as error:
            self._log.error("looking at the interfaces failed", error=str(error))
        self._state.interfaces = self._interfaces.states
        self._state.lost_notifications = self._links.lost
