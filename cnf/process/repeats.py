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

    def __init__(self) -> None:
        """Know of nothing."""
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def admit(self, key: Hashable, now: float) -> int | None:
        """Return how many lines like this were left out since the latest that was not; None to leave it out, too.

        ``now`` is in seconds, and never goes back.
        """
        kind = self._kinds.pop(key, None) or _Kind(BURST, now)
        self._kinds[key] = kind
        if len(self._kinds) > MOST_KINDS:
            self._kinds.popitem(last=False)
        kind.left, kind.since = min(BURST, kind.left + (now - kind.since) * PER_SECOND), now
        if kind.left < 1:
            kind.left_out += 1
            return None
        kind.left -= 1
        left_out, kind.left_out = kind.left_out, 0
        return left_out
