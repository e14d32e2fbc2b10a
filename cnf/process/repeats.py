"""How often a log line may come again: what clients or traffic cause, they could cause without end. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

BURST: Final = 100
"""Lines of one kind that are written however fast they come."""
PER_SECOND: Final = 1.0
"""Of more than that, so many."""
MOST_KINDS: Final = 4096
"""Kinds that are remembered; the one that has not come for longest is forgotten first."""


@dataclass(slots=True)
class _Kind:
    left: float
    since: float
    left_out: int = 0


class Repeats:
    """The lines that have come lately, by kind."""

    def __init__(self, burst: int = BURST, per_second: float = PER_SECOND) -> None:
        """Know of nothing; of a kind ``burst`` lines may come at once, and of more so many ``per_second``."""
        self._burst = burst
        self._per_second = per_second
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def admit(self, key: Hashable, now: float) -> int | None:
        """Return how many lines like this were left out since the latest that was not; None to leave it out, too.

        ``now`` is in seconds, and never goes back.
        """
        kind = self._kinds.pop(key, None) or _Kind(self._burst, now)
        self._kinds[key] = kind
        if len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)
        kind.left, kind.since = min(self._burst, kind.left + (now - kind.since) * self._per_second), now
        if kind.left < 1:
            kind.left_out += 1
            return None
        kind.left -= 1
        left_out, kind.left_out = kind.left_out, 0
        return left_out
