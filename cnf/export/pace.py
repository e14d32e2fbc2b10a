"""How fast a drain's records go out: evenly, since a collector's buffer holds a hundred messages or so. Pure."""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.9
"""Of the time from one drain to the next, this much is used for sending."""
TICK: Final = 0.0005
"""Shorter waits, in seconds, are added up: a thread cannot sleep for less and come back in time."""
SHORTEST: Final = 1 / 25_000
"""Seconds for a message, however late it is: no more than 13 go out at once. The default buffer of Linux, 212,992
bytes, holds about 90 of 1,400 bytes: 4 ms at this rate, in which a collector must have its turn on a CPU."""


class Pace:
    """The waits between the messages of one drain."""

    def __init__(self, records: int) -> None:
        """Spread so many ``records``."""
        self._left = records
        self._owed = 0.0

    def after(self, records: int, left: float) -> float:
        """Return the seconds to wait after a message of ``records``, with ``left`` seconds up to the deadline."""
        share = left * records / self._left if self._left else 0.0
        self._left -= records
        self._owed += max(share, SHORTEST)
        if self._owed < TICK or not self._left:
            return 0.0
        wait, self._owed = self._owed, 0.0
        return wait
