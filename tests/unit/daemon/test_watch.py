"""The watch over the interfaces goes on whatever the kernel refuses."""

from __future__ import annotations

from typing import cast

import structlog
from structlog.testing import capture_logs

from cnf import config
from cnf.daemon.watch import Watch
from cnf.errors import KernelError
from cnf.interfaces.reconcile import Interfaces, InterfaceState
from cnf.kernel.links import Links
from cnf.server.state import State


class Changes:
    """The kernel's notifications, which it may refuse."""

    lost = 3
    refuses = False

    def changed(self) -> bool:
        """Tell that nothing has changed."""
        if self.refuses:
            raise KernelError("reading the interfaces' changes failed: Cannot allocate memory")
        return False


class Seen:
    """The interfaces, at which one may not be able to look."""

    states = (InterfaceState("eth0", "auto", "attached"),)
    refuses = False

    def reconcile(self) -> None:
        """Look."""
        if self.refuses:
            raise KernelError("listing the interfaces failed: Cannot allocate memory")


def watch(changes: Changes, seen: Seen) -> tuple[Watch, State]:
    """Return a watch, and where it publishes."""
    state = State(config.for_interfaces(["eth0"]), "command line", {})
    return Watch(cast("Interfaces", seen), cast("Links", changes), state, structlog.get_logger()), state


def test_notifications_that_cannot_be_read() -> None:
    """They count as a change, and are not waited for; once they can be read again, they are."""
    changes = Changes()
    watching, _state = watch(changes, Seen())
    assert (watching.changed(), watching.listening) == (False, True)
    changes.refuses = True
    with capture_logs() as logs:
        assert (watching.changed(), watching.listening) == (True, False)
    assert [line["event"] for line in logs] == ["notifications about interfaces not read"]
    changes.refuses = False
    assert (watching.changed(), watching.listening) == (False, True)


def test_a_look_that_fails() -> None:
    """It is logged, and what was known is published all the same."""
    seen = Seen()
    watching, state = watch(Changes(), seen)
    seen.refuses = True
    with capture_logs() as logs:
        watching.look()
    assert [line["event"] for line in logs] == ["looking at the interfaces failed"]
    assert (state.interfaces, state.lost_notifications) == (seen.states, 3)


def test_a_look_that_is_asked_for() -> None:
    """It is a change, once, whether notifications can be read or not."""
    changes = Changes()
    watching, _state = watch(changes, Seen())
    for changes.refuses in (False, True):
        watching.ask()
        assert watching.changed()
    changes.refuses = False
    assert not watching.changed()
