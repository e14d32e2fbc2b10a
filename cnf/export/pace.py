"""How fast a drain's records go out: evenly, since a collector's buffer holds a hundred messages or so. Pure."""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.9
"""Of the time from one drain to the next, this much is used for sending."""
TICK: Final = 0.0005
"""Shorter waits, in seconds, are added up: a thread cannot sleep for less and come back in time."""
SHORTEST: Final = 1 / 25_000
"""Seconds for a message, however late it is."""
AT_ONCE: Final = 16
"""Messages that may follow each other without a wait, after one that took too long. The default buffer of Linux,
212,992 bytes, holds about 90 of 1,400 bytes."""


class Pace:
    """The waits between the messages of one drain."""

    def __init__(self, records: int) -> None:
        """Spread so many ``records``."""
        self._left = records
        self._due = 0.0

    def after(self, records: int, now: float, deadline: float) -> float:
        """Return the seconds to wait after a message of ``records``; ``now`` and ``deadline`` are of one clock."""
        share = (deadline - now) * records / self._left if self._left else 0.0
        self._left -= records
        due = min(self._due, max(deadline, now + TICK))  # the deadline may come nearer
        self._due = max(due, now - AT_ONCE * SHORTEST) + max(share, SHORTEST)
        wait = self._due - now
        return wait if wait >= TICK and self._left else 0.0
