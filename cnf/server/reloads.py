"""Reloads that clients ask for: the main thread does them, and the client waits for the outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cnf.errors import CnfError, UnavailableError

PATIENCE: Final = 8.0
"""Seconds that a caller waits: less than cnfctl waits for the answer."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload that was done."""

    source: str
    """Where the settings came from."""
    restart_only: tuple[str, ...]
    """Keys whose new values are used only after a restart."""


class Reloads:
    """Reloads by number. ``ask()`` may be called from any thread; all else belongs to the main thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """Take ``wake``, which lets the main thread call ``do()`` soon."""
        self._wake = wake
        self._changed = threading.Condition()
        self._asked = 0
        self._done = 0
        self._outcome: Reloaded | CnfError = UnavailableError("nothing has been reloaded yet")
        self._closed = False

    def ask(self) -> Reloaded:
        """Let the settings be read again, and return the outcome once they are in force.

        Raises:
            CnfError: they were refused, and the previous ones stay.
            UnavailableError: the daemon is busy, or about to end.

        """
        with self._changed:
            self._asked += 1
            number = self._asked
            self._wake()
            self._changed.wait_for(lambda: self._closed or self._done >= number, PATIENCE)
            if self._done < number:
                why = "cnfd is about to end" if self._closed else f"cnfd has been busy for more than {PATIENCE:g} s"
                raise UnavailableError(
                    f"{why}: the settings have not been read again yet", remedy="see: journalctl -u cnfd"
                )
            outcome = self._outcome
        if isinstance(outcome, CnfError):
            raise outcome
        return outcome

    def do(self, reload: Callable[[], Reloaded]) -> None:
        """Do one reload for all who have asked until now; ``reload`` raises CnfError for settings that it refuses."""
        with self._changed:
            number = self._asked
        outcome: Reloaded | CnfError
        try:
            outcome = reload()
        except CnfError as error:
            outcome = error
        with self._changed:
            self._done, self._outcome = number, outcome
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
