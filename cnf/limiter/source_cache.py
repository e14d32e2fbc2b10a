"""A table of sources in a cache of the program's own. User space deletes nothing: the program counts what goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cnf.abi import DROPS, FAMILIES, LIMIT4_SET, LIMIT6_SET, LIMIT_OVER, LIMIT_SOURCE, Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.datapath.cache import Block, Cache, Crowded, MappedArray, Secrets
from cnf.datapath.counters import TableCounters
from cnf.limiter.maps import SOURCE_KEYS
from cnf.limiter.source_expiry import RuleOf, SourceDrain, SourceTable, has_bucket, idle

SETS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": LIMIT4_SET, "ipv6": LIMIT6_SET}


class CacheSources:
    """One family's sources.

    An idle source stays in its slot, as does one without a bucket of its own. Both make room for any other source, and
    are neither shown nor counted.
    """

    def __init__(self, family: Family, maps: Mapping[str, int], counters: TableCounters, capacity: int) -> None:
        """Take a datapath's maps, descriptors by name; the table is made for ``capacity`` sources."""
        sources, over = f"limit_sources{family[-1]}", f"limit_over{family[-1]}"
        self._cache = Cache(MappedArray(sources, maps[sources], SETS[family]))
        self._over = MappedArray(over, maps[over], LIMIT_OVER)
        self._secrets = Secrets(maps)
        self._crowded = Crowded(maps, len(FAMILIES) + FAMILIES.index(family))
        self._family: Family = family
        self._counters = counters
        self._capacity = capacity
        self.handover: list[int] = []  # the program itself counts what goes

    def get(self, key: Records) -> Records | None:
        """Return the source under ``key``: LIMIT_SOURCE, shape (); None if there is none."""
        block = self._cache.find(key, self._secrets.words())
        return None if block is None else self._sources(block)[0]

    def drain(self, clock: WallClock, rule_of: RuleOf) -> SourceDrain:
        """Read the table.

        Raises:
            MapError: the kernel refused to map it.

        """
        self._cache.age(clock.now.jiffies, lambda block: self._sources(block)["last_seen"])
        keys, values = [np.empty(0, SOURCE_KEYS[self._family])], [np.empty(0, LIMIT_SOURCE)]
        for block in self._cache.blocks():
            slots = self._cache.records(block.words)
            own = block.where(has_bucket(slots["key"], slots))
            sources = self._sources(own)
            chosen = ~idle(sources, clock, rule_of)
            keys.append(self._cache.records(own.words)["key"][chosen])
            values.append(sources[chosen])
        entries = sum(map(len, values))
        self._crowded.write(entries, self._cache.size)
        counters = self._counters.read_sources(self._family)
        table = SourceTable(
            entries=entries,
            capacity=self._cache.size,
            made_for=self._capacity,
            evicted=counters.evicted_entries,
            insert_errors=sum(count.packets for count in counters.errors.values()),
        )
        return SourceDrain(np.concatenate(keys), np.concatenate(values), table)

    def _sources(self, block: Block) -> Records:
        """Return a block's slots, with their counts over the limit: LIMIT_SOURCE, shape (N,)."""
        slots = self._cache.records(block.words)
        values = np.zeros(len(slots), LIMIT_SOURCE)
        for name in ("decision", "bucket", "packets", "bytes", "over_packets"):
            values[name] = slots[name]
        rows = np.flatnonzero(slots["over_packets"])
        if len(rows):
            over = self._over.at(block.places[rows])
            values["over_bytes"][rows], values["last_over"][rows] = over["bytes"], over["last"]
            for name in DROPS:
                values[name][rows] = over[name]
        # Each packet was either debited or over the limit.
        values["last_seen"] = np.maximum(values["bucket"]["last_used"], values["last_over"])
        return values
