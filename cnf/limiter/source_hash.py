"""A table of sources in an LRU hash of the kernel. User space deletes idle sources."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cnf.abi import LIMIT_SOURCE, Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.datapath.counters import TableCounters
from cnf.kernel.maps import FlowMap
from cnf.limiter.maps import SOURCE_KEYS
from cnf.limiter.source_expiry import RuleOf, SourceDrain, SourceTable, has_bucket, idle


class HashSources:
    """One family's sources."""

    def __init__(self, family: Family, maps: Mapping[str, int], counters: TableCounters, capacity: int) -> None:
        """Take a datapath's maps, descriptors by name; the table holds ``capacity`` sources."""
        name = f"limit_sources{family[-1]}"
        self.map = FlowMap(name, maps[name], SOURCE_KEYS[family], LIMIT_SOURCE)
        self._family: Family = family
        self._counters = counters
        self._capacity = capacity
        self.handover = [0, 0]
        """How many sources were deleted, and evicted."""

    def get(self, key: Records) -> Records | None:
        """Return the source under ``key``: LIMIT_SOURCE, shape (); None if there is none."""
        return self.map.get(key)

    def drain(self, clock: WallClock, rule_of: RuleOf) -> SourceDrain:
        """Read the table, and delete the idle sources.

        Raises:
            MapError: the kernel refused a read.

        """
        counters = self._counters.read_sources(self._family)
        keys, values = self._walk()
        deleted, evicted = self.handover
        evicted = max(evicted, counters.inserted - deleted - len(keys))
        forgotten = idle(values, clock, rule_of)
        self.handover = [deleted + self._forget(keys[forgotten], values[forgotten]), evicted]
        chosen = ~forgotten & has_bucket(keys, values)
        table = SourceTable(
            entries=int(np.count_nonzero(~forgotten)),
            capacity=self._capacity,
            made_for=self._capacity,
            evicted=evicted,
            insert_errors=sum(count.packets for count in counters.errors.values()),
        )
        return SourceDrain(keys[chosen], values[chosen], table)

    def _walk(self) -> tuple[Records, Records]:
        """Read the whole table; a source that is evicted and comes again meanwhile may be there twice."""
        batches = [(keys.copy(), values.copy()) for keys, values in self.map.batches()]
        if not batches:
            return np.empty(0, self.map.key), np.empty(0, self.map.value)
        keys, values = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return keys, values

    def _forget(self, keys: Records, values: Records) -> int:
        """Delete the sources that have had no packet since they were read; return how many."""
        still = [index for index in range(len(keys)) if _same(self.map.get(keys[index]), values[index])]
        return len(self.map.take(keys[still]).values)


def _same(now: Records | None, before: Records) -> bool:
    return now is not None and bool(now["last_seen"] == before["last_seen"])
