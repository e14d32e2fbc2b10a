"""Places of which there are few: who keeps one and is slow makes room when another wants in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cnf.server.connection import Connection


class Places:
    """Places for connections, given in the order in which they were asked for."""

    def __init__(self, count: int, grace: float, given_up: Callable[[], None]) -> None:
        """Have ``count``; whoever has been waited for longer than ``grace`` seconds may lose its own.

        ``given_up`` is called each time.
        """
        self._free = asyncio.Semaphore(count)
        self._grace = grace
        self._given_up = given_up
        self._holders: set[Connection] = set()
        self._waiting = 0
        self._relief: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Take a place; ``give_back()`` gives it back."""
        self._waiting += 1
        try:
            if self._free.locked() and (self._relief is None or self._relief.done()):
                self._relief = asyncio.create_task(self._relieve())
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        """Give a place back."""
        self._free.release()

    @contextmanager
    def held(self, connection: Connection) -> Iterator[None]:
        """Know ``connection`` as the holder of a place, which may have to leave."""
        self._holders.add(connection)
        try:
            yield
        finally:
            self._holders.discard(connection)

    def relieve(self) -> float:
        """Have the one leave that has been waited for longest, if that was too long.

        Return the seconds until there may be another one.
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
        self._given_up()
        return 0

    async def _relieve(self) -> None:
        while self._waiting:  # noqa: ASYNC110 - what it waits for is time
            await asyncio.sleep(self.relieve())
