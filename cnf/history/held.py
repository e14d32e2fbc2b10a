"""Which sources were held back from one block to the next, and by which rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import ENFORCE, FAMILIES, Family
from cnf.clock import WallClock
from cnf.flows.largest import largest
from cnf.flows.matching import identities
from cnf.limiter.limiter import Limiter

if TYPE_CHECKING:
    from cnf.limiter.sources import Held, Sources

MOST: Final = 200
"""Sources of a block: those with most packets over the limit. Buckets of whole prefixes come besides."""
COUNTS: Final = ("packets", "bytes", "over_packets", "over_bytes", "dropped_packets", "dropped_bytes")
_OVER: Final = COUNTS.index("over_packets")

Counts = npt.NDArray[np.uint64]
"""Shape (N, COUNTS)."""


class _Seen(NamedTuple):
    identities: npt.NDArray[np.uint64]
    """Ascending."""
    counts: Counts


_NONE: Final = _Seen(np.empty(0, np.uint64), np.empty((0, len(COUNTS)), np.uint64))


class HeldSources:
    """Follow the sources that are over a limit, from block to block."""

    def __init__(self) -> None:
        """Start with none."""
        self._seen: dict[Family, _Seen] = dict.fromkeys(FAMILIES, _NONE)
        self._shared: dict[tuple[str, int], Counts] = {}
        self._until = 0

    def since(self, limiter: Limiter, sources: Sources) -> list[dict[str, Any]]:
        """Return those that were over a limit since the latest call, with what they have counted since then.

        Raises:
            MapError: the kernel refused.

        """
        after, self._until = self._until, sources.clock.now.jiffies
        found = [
            (sources.held(family, row), counts) for family in FAMILIES for row, counts in self._own(family, sources)
        ]
        found.sort(key=lambda each: int(each[1][_OVER]), reverse=True)
        found = [*self._of_prefixes(limiter), *found[:MOST]]
        return [
            _described(held, counts, limiter, sources.clock)
            for held, counts in found
            if counts[_OVER] and held.value["last_over"] >= after
        ]

    def _own(self, family: Family, sources: Sources) -> list[tuple[int, Counts]]:
        """Return the rows of the family's largest, and what each has counted."""
        values = sources.values[family]
        rows = np.flatnonzero(values["over_packets"])
        keys = np.ascontiguousarray(sources.keys[family][rows])
        identity = identities(keys)
        order = np.argsort(identity)
        rows, identity = rows[order], identity[order]
        now = np.stack([values[name][rows] for name in COUNTS], axis=1)
        since, self._seen[family] = _since(_Seen(identity, now), self._seen[family]), _Seen(identity, now)
        chosen = largest(since[:, _OVER], MOST)
        return [(int(rows[place]), since[place]) for place in chosen]

    def _of_prefixes(self, limiter: Limiter) -> list[tuple[Held, Counts]]:
        """Return the buckets that all of a prefix share, and what each has counted."""
        before, self._shared = self._shared, {}
        found = []
        for held in limiter.shared():
            key = held.name, held.rule & ~ENFORCE
            now = np.array([held.value[name] for name in COUNTS], np.uint64)
            then = before.get(key)
            found.append((held, now - then if then is not None and (now >= then).all() else now))
            self._shared[key] = now
        return found


def _since(now: _Seen, before: _Seen) -> Counts:
    """Return what has been counted since: a source that was not there before, or has less by now, began from 0."""
    if not len(before.identities):
        return now.counts
    where = np.searchsorted(before.identities, now.identities)
    where[where == len(before.identities)] = 0
    then = before.counts[where]
    goes_on = (before.identities[where] == now.identities) & (now.counts >= then).all(axis=1)
    since: Counts = np.where(goes_on[:, np.newaxis], now.counts - then, now.counts)
    return since


def _described(held: Held, counts: Counts, limiter: Limiter, clock: WallClock) -> dict[str, Any]:
    rule = limiter.bucket_rule(held.rule & ~ENFORCE)
    moments = {
        name: int(clock.wall_ns(held.value[name].reshape(1))[0]) if held.value[name] else None
        for name in ("last_over", "last_drop")
    }
    return {
        "source": held.name,
        "shared": held.shared,
        "rule": rule.name if rule else None,
        "mode": rule.mode if rule else None,
        **dict(zip(COUNTS, counts.tolist(), strict=True)),
        **moments,
    }
