"""Changes of what is on an interface by pyroute2, each of which comes to an end.

By itself, pyroute2 reads for ever from a socket that fails, waits for ever for an answer, and refuses every request
once a read has failed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyroute2 import IPRoute, NetlinkError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

TIMEOUT: Final = 10.0
"""Seconds for an answer; the kernel takes milliseconds, unless others keep it busy with their interfaces."""
LOOKS: Final = 0.1
"""Seconds from one look at whether the socket has failed to the next."""


class Changer:
    """A netlink socket; after a failure, or for another thread, a new one. One thread at a time."""

    def __init__(self) -> None:
        """Open the socket. Raises OSError."""
        self._open()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._close()

    def change(self, request: Callable[[IPRoute], object]) -> None:
        """Have pyroute2 make one ``request``.

        Raises:
            NetlinkError: the kernel refused.
            OSError: the socket failed, or there was no answer in time.

        """
        if self._thread != threading.get_ident():  # pyroute2 takes no other thread than the one that has opened it
            self._close()
        if self._loop.is_closed():
            self._open()
        self._look(self._loop.time() + TIMEOUT)
        try:
            request(self._netlink)
        except asyncio.CancelledError:
            failed = self._failed()
            self._close()
            raise failed or TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        except OSError:
            self._close()
            raise
        finally:
            self._next_look.cancel()

    def _open(self) -> None:
        self._thread = threading.get_ident()
        self._loop = asyncio.new_event_loop()
        try:
            self._netlink = IPRoute(ext_ack=True, use_event_loop=self._loop)
        except BaseException:
            self._loop.close()
            raise

    def _close(self) -> None:
        if self._loop.is_closed():
            return
        self._netlink.close()
        self._loop.run_until_complete(asyncio.sleep(0))  # in which the socket goes
        self._loop.close()

    def _look(self, deadline: float) -> None:
        """Cancel the request that is under way if there will be no answer to it; or look again."""
        if self._failed() or self._loop.time() > deadline:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
        self._next_look = self._loop.call_later(LOOKS, self._look, deadline)

    def _failed(self) -> OSError | None:
        """Return what pyroute2 has met as it read, if anything."""
        error = self._netlink.status.get("error")
        return error if isinstance(error, OSError) else None


def words_of(error: OSError | NetlinkError) -> str:
    """Return the kernel's sentence, and the error's name."""
    if isinstance(error, NetlinkError):
        words, code = str(error.args[1]) if len(error.args) > 1 else "", error.code
    else:
        words, code = error.strerror or str(error), error.errno
    return f"{words} ({errno.errorcode.get(code or 0, code)})"
