"""The tables of a program under test, whatever they are made of: read, and emptied."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from cnf.abi import DROPS, FAMILIES, FLOW_DROPS, FLOW_VALUE, LIMIT_OVER, LIMIT_SOURCE, SLOT_DROPS, WAYS, Family
from cnf.arrays import Records
from cnf.datapath import build
from cnf.datapath.cache import Cache, FlowSettings, MappedArray, Secrets, sets_of
from cnf.flows.columns import KEYS
from cnf.flows.recorder import SETS
from cnf.kernel.maps import DirectArray, FlowMap
from cnf.limiter.maps import SOURCE_KEYS
from cnf.limiter.source_cache import SETS as SOURCE_SETS

NEVER: Final = 1 << 29
"""Ticks after which a flow expires: later than any test ends."""


class HashEntries(FlowMap):
    """A table in an LRU hash of the kernel."""

    def room(self, max_entries: int) -> int:
        """Return how many entries are there at most, in a table that was made for so many."""
        return max_entries

    def clear(self) -> None:
        """Empty it."""
        for keys in [keys.copy() for keys, _values in self.batches()]:
            self.take(keys)


class CacheEntries:
    """A table in a cache, read as if it were a hash; what slots keep apart is in a map ``aside``, if that is there."""

    def __init__(self, sets: MappedArray, aside: MappedArray | None, fds: Mapping[str, int]) -> None:
        """Take both, and a datapath's maps, descriptors by name."""
        self.sets, self.aside = sets, aside
        self.cache = Cache(sets)
        self._fds = fds

    def room(self, max_entries: int) -> int:
        """Return how many entries are there at most: all slots, which are twice as many as were asked for."""
        slots = -(-2 * max_entries // WAYS) * WAYS
        assert self.cache.size == slots
        return slots

    def writable(self) -> Records:
        """Return the sets, to be written as user space never does but in a test, while nothing counts."""
        return _mapped(self.sets, self._fds)

    def clear(self) -> None:
        """Empty it."""
        for memory in (self.sets, self.aside):
            if memory:
                _mapped(memory, self._fds).view(np.uint8)[:] = 0


class CacheFlows(CacheEntries):
    """A flow table in a cache."""

    def __init__(self, family: Family, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        flows, drops = f"flows{family[-1]}", f"flow_drops{family[-1]}"
        aside = MappedArray(drops, maps[drops], FLOW_DROPS) if drops in maps else None
        super().__init__(MappedArray(flows, maps[flows], SETS[family]), aside, maps)

    def batches(self) -> Iterator[tuple[Records, Records]]:
        """Yield (keys, values) until the table has been walked; each pair is overwritten by the next."""
        for block in self.cache.blocks():
            slots = self.cache.records(block.words)
            values = _values(slots, FLOW_VALUE)
            values["tcp_flags"] &= ~np.uint64(SLOT_DROPS)
            rows = np.flatnonzero(slots["tcp_flags"] & SLOT_DROPS)
            if len(rows):
                assert self.aside
                drops = self.aside.at(block.places[rows])
                values["dropped_packets"][rows], values["dropped_bytes"][rows] = drops["packets"], drops["bytes"]
            yield slots["key"], values


class CacheSlots(CacheEntries):
    """A table of sources in a cache."""

    def __init__(self, family: Family, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        sources, over = f"limit_sources{family[-1]}", f"limit_over{family[-1]}"
        super().__init__(
            MappedArray(sources, maps[sources], SOURCE_SETS[family]), MappedArray(over, maps[over], LIMIT_OVER), maps
        )

    def batches(self) -> Iterator[tuple[Records, Records]]:
        """Yield (keys, values) until the table has been walked; a source was last seen debited, or over its limit."""
        for block in self.cache.blocks():
            slots = self.cache.records(block.words)
            values = _values(slots, LIMIT_SOURCE)
            assert self.aside
            over = self.aside.at(block.places)
            values["over_bytes"], values["last_over"] = over["bytes"], over["last"]
            for name in DROPS:
                values[name] = over[name]
            values["last_seen"] = np.maximum(slots["bucket"]["last_used"], over["last"])
            yield slots["key"], values

    def put(self, key: Records, value: Records) -> None:
        """Have an entry there; a source that has been seen has been debited then, and not been over its limit."""
        number, *_ = sets_of(key, Secrets(self._fds).words(), self.sets.size)
        sets = self.writable()
        sets["head"]["sequence"][number] += 2
        slots = sets["slots"][number]
        (way, *_) = [way for way, slot in enumerate(slots) if slot["key"] == key or not slot["decision"]]
        for name in ("decision", "bucket", "packets", "bytes", "over_packets"):
            slots[way][name] = value[name]
        slots[way]["bucket"]["last_used"] = value["last_seen"]
        assert self.aside
        _mapped(self.aside, self._fds)[number * WAYS + way]["last"] = value["last_over"]
        slots[way]["key"] = key


def _values(slots: Records, kind: np.dtype[Any]) -> Records:
    values = np.zeros(len(slots), kind)
    for name in set(slots.dtype.names or ()) & set(kind.names or ()):
        values[name] = slots[name]
    return values


def _mapped(memory: MappedArray, fds: Mapping[str, int]) -> Records:
    size = memory.size * memory.value.itemsize
    whole = mmap.mmap(fds[memory.name], -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)  # for as long as the array is there
    return np.frombuffer(whole, memory.value, memory.size)


def tables_of(loaded: build.Datapath) -> dict[Family, HashEntries | CacheFlows]:
    """Return the flow tables of a datapath, by family."""
    families = FAMILIES[: 1 + loaded.blueprint.ipv6]
    if loaded.blueprint.table == "cache":
        return {family: CacheFlows(family, loaded.maps) for family in families}
    names = {family: f"flows{family[-1]}" for family in families}
    return {family: HashEntries(name, loaded.maps[name], KEYS[family], FLOW_VALUE) for family, name in names.items()}


def sources_of(loaded: build.Datapath) -> dict[Family, HashEntries | CacheSlots]:
    """Return the tables of sources of a datapath, by family."""
    families = FAMILIES[: 1 + loaded.blueprint.ipv6]
    if loaded.blueprint.table == "cache":
        return {family: CacheSlots(family, loaded.maps) for family in families}
    names = {family: f"limit_sources{family[-1]}" for family in families}
    return {
        family: HashEntries(name, loaded.maps[name], SOURCE_KEYS[family], LIMIT_SOURCE)
        for family, name in names.items()
    }


def crowd(loaded: build.Datapath) -> None:
    """Have no key be a guest in its second set: a test that fills one set then knows which slot makes room."""
    crowded = DirectArray("cache_crowded", loaded.maps["cache_crowded"], np.dtype("<u8"))
    crowded.write_many(np.arange(len(crowded)), np.ones(len(crowded), "<u8"))


def let_none_expire(loaded: build.Datapath) -> None:
    """Have no flow be over, however long it has been idle; a hash's flows are over when somebody deletes them."""
    if loaded.blueprint.table == "cache":
        FlowSettings(loaded.maps).write(NEVER, NEVER)
