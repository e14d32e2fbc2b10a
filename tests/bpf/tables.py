"""The flow tables of a program under test, whatever they are made of: read, and emptied."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from cnf.cache_table import BUCKETS
from cnf.hash_table import KEYS
from cnf.kernel import program
from cnf.kernel.cache import Cache, FlowSettings, Memory
from cnf.kernel.maps import FlowMap, Records
from cnf.records import FAMILIES, FLOW_DROPS, FLOW_VALUE, SLOT_DROPS, WAYS, Family

NEVER: Final = 1 << 62
"""Ticks after which no test's flow is over."""


class HashFlows(FlowMap):
    """A flow table in an LRU hash of the kernel."""

    def room(self, max_entries: int) -> int:
        """Return how many flows are there at most, in a table that was made for so many."""
        return max_entries

    def clear(self) -> None:
        """Empty it."""
        for keys in [keys.copy() for keys, _values in self.batches()]:
            self.take(keys)


class CacheFlows:
    """A flow table in a cache, read as if it were a hash: a flow's drops stand beside its other counts."""

    def __init__(self, family: Family, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        flows, drops = f"flows{family[-1]}", f"flow_drops{family[-1]}"
        self.buckets = Memory(flows, maps[flows], BUCKETS[family])
        self.cache = Cache(self.buckets)
        self.drops = Memory(drops, maps[drops], FLOW_DROPS) if drops in maps else None
        self._fds = maps

    def batches(self) -> Iterator[tuple[Records, Records]]:
        """Yield (keys, values) until the table has been walked; each pair is overwritten by the next."""
        for block in self.cache.blocks():
            slots = self.cache.records(block.words)
            values = np.zeros(len(slots), FLOW_VALUE)
            for name in set(slots.dtype.names or ()) & set(FLOW_VALUE.names or ()):
                values[name] = slots[name]
            values["tcp_flags"] &= SLOT_DROPS - 1
            rows = np.flatnonzero(slots["tcp_flags"] & SLOT_DROPS)
            if len(rows):
                assert self.drops
                drops = self.drops.at(block.places[rows])
                values["dropped_packets"][rows], values["dropped_bytes"][rows] = drops["packets"], drops["bytes"]
            yield slots["key"], values

    def room(self, max_entries: int) -> int:
        """Return how many flows are there at most: all slots, which are twice as many as flows asked for."""
        slots = -(-2 * max_entries // WAYS) * WAYS
        assert self.cache.size == slots
        return slots

    def writable(self) -> Records:
        """Return the buckets, to be written as user space never does but in a test, while nothing counts."""
        return _mapped(self.buckets, self._fds)

    def clear(self) -> None:
        """Empty it."""
        for memory in (self.buckets, self.drops):
            if memory:
                _mapped(memory, self._fds).view(np.uint8)[:] = 0


def _mapped(memory: Memory, fds: Mapping[str, int]) -> Records:
    size = memory.size * memory.value.itemsize
    whole = mmap.mmap(fds[memory.name], -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)  # for as long as the array is there
    return np.frombuffer(whole, memory.value, memory.size)


def tables_of(loaded: program.Datapath) -> dict[Family, HashFlows | CacheFlows]:
    """Return the flow tables of a datapath, by family."""
    families = FAMILIES[: 1 + loaded.blueprint.ipv6]
    if loaded.blueprint.table == "cache":
        return {family: CacheFlows(family, loaded.maps) for family in families}
    names = {family: f"flows{family[-1]}" for family in families}
    return {family: HashFlows(name, loaded.maps[name], KEYS[family], FLOW_VALUE) for family, name in names.items()}


def let_none_expire(loaded: program.Datapath) -> None:
    """Have no flow be over, however long it has been idle; a hash's flows are over when somebody deletes them."""
    if loaded.blueprint.table == "cache":
        FlowSettings(loaded.maps).write(NEVER, NEVER)
