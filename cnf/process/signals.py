"""Signals as something to wait for, beside descriptors: handlers only note them, so nothing is cut in half."""

from __future__ import annotations

import select
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

LEAVE: Final = signal.SIGUSR2
"""Asks to stop for a restart: the program goes on without the daemon, and the next one goes on with it."""
STOP: Final = (signal.SIGTERM, signal.SIGINT, LEAVE)


class HasFileno(Protocol):
    """A thing to wait on: a socket, or an object that has one."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Signals:
    """Catch SIGTERM, SIGINT, SIGUSR2 and SIGHUP; belongs to the main thread."""

    def __init__(self) -> None:
        """Catch them from now on."""
        self.stop: signal.Signals | None = None
        """The first signal that asked to stop; but LEAVE, if both came: the kernel may bring the second one first."""
        self._reload = False
        self._wakeup, self._raised = socket.socketpair()
        for end in (self._wakeup, self._raised):
            end.settimeout(0)
        self._fd_before = signal.set_wakeup_fd(self._raised.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in (*STOP, signal.SIGHUP)}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._wakeup.close()
        self._raised.close()

    def wait(self, timeout: float | None, *others: HasFileno) -> None:
        """Return when a signal has come, one of ``others`` is readable, or ``timeout`` seconds have passed."""
        poll = select.poll()
        for readable in (self._wakeup, *others):
            poll.register(readable, select.POLLIN)
        if self.stop is None and not self._reload:
            poll.poll(None if timeout is None else max(0, timeout) * 1000)
        try:
            while self._wakeup.recv(4096):
                pass
        except OSError:  # none is left; or none can be read, which the next call tries again
            return

    def wake(self) -> None:
        """Have ``wait()`` return, as after a signal; any thread may call it."""
        with suppress(OSError):  # it is full, so that the wait ends all the same; or closed, after the last one
            self._raised.send(b"\0")

    def take_reload(self) -> bool:
        """Tell whether SIGHUP has come since the last call."""
        reload, self._reload = self._reload, False
        return reload

    def _note(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        elif self.stop is None or number == LEAVE:
            self.stop = signal.Signals(number)
