"""A limited number of places for clients: the slowest client loses its place when another one wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnf.server.connection import Connection


class Places:
    """Places for connections, given in the order of the requests for them."""

    def __init__(self, count: int, grace: float, disconnected: Callable[[], None]) -> None:
        """Begin with ``count`` free places.

        A client that the server has waited for longer than ``grace`` seconds may lose its place; then ``disconnected``
        is called.
        """
        self._free = asyncio.Semaphore(count)
        self._grace = grace
        self._disconnected = disconnected
        self._holders: set[Connection] = set()
        self._waiting = 0
        self._relief: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Wait for a place and take it; ``give_back()`` returns it."""
        self._waiting += 1
        try:
            if self._free.locked() and (self._relief is None or self._relief.done()):
                self._relief = asyncio.create_task(self._relieve())
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        """Return a place."""
        self._free.release()

    @contextmanager
    def held(self, connection: Connection) -> Iterator[None]:
        """Let ``connection``, which has a place, be disconnected when another one wants its place."""
        self._holders.add(connection)
        try:
            yield
        finally:
            self._holders.discard(connection)

    def relieve(self) -> float:
        """Disconnect the client that the server has waited for longest, if that is longer than the grace.

        Returns:
            Seconds until the next client may have to leave.

        """
        now = asyncio.get_running_loop().time()
        waits = {each: each.waiting_since for each in self._holders if each.waiting_since is not None}
        if not waits:
            return self._grace
        oldest = min(waits, key=waits.__getitem__)
        left = waits[oldest] + self._grace - now
        if left > 0:
            return left
        self._holders.discard(oldest)
        oldest.abort()
        self._disconnected()
        return 0

    async def _relieve(self) -> None:
        while self._waiting:  # noqa: ASYNC110 - what it waits for is time
            await asyncio.sleep(self.relieve())
