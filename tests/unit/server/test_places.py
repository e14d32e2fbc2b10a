"""Whoever keeps a place leaves for others that wait, and for nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from cnf.server.connection import Connection
from cnf.server.places import Places


class Idle:
    """As much of a Connection as places need: it waits for its client since the beginning of time."""

    waiting_since = 0.0

    def __init__(self, gone: Callable[[], None]) -> None:
        """Call ``gone`` when it has to leave."""
        self.abort = gone


def test_an_idle_holder_leaves_once_another_waits_and_then_nobody_more() -> None:
    """The one who gets the place keeps it, idle or not, as long as nobody waits."""
    left: list[str] = []

    async def turn() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def main() -> None:
        places = Places(1, 0.0, lambda: None)

        def gone(name: str) -> Callable[[], None]:
            def leave() -> None:
                left.append(name)
                places.give_back()

            return leave

        await places.wait()
        with places.held(cast("Connection", Idle(gone("first")))):
            await turn()
            assert left == []
            await places.wait()
            assert left == ["first"]
            with places.held(cast("Connection", Idle(gone("second")))):
                await turn()
                assert left == ["first"]
                await places.wait()
        assert left == ["first", "second"]

    asyncio.run(main())
