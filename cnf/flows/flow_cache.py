"""A flow table in a cache of the program's own: nothing is taken out of it, and the program books what makes room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW4_SET, FLOW6_SET, FLOW_DROPS, SLOT_DROPS, Family
from cnf.arrays import allot
from cnf.clock import WallClock, in_ticks, tick_ns
from cnf.config import Flows
from cnf.counts import Count, count_of, total
from cnf.datapath.cache import Block, Cache, FlowSettings, Memory
from cnf.datapath.counters import TableCounters
from cnf.flows.columns import FlowColumns
from cnf.flows.expiry import has_expired
from cnf.flows.matching import Places, set_rates
from cnf.flows.snapshot import TableDrain, TableState

SETS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_SET, "ipv6": FLOW6_SET}


class CacheTable:
    """One family's flows, and where each was at the drain before.

    A flow that has expired stays in its slot until its next packet comes or another flow takes it. It counts as expired
    from when the program would start it anew.
    """

    def __init__(
        self, family: Family, maps: Mapping[str, int], counters: TableCounters, capacity: int, settings: Flows
    ) -> None:
        """Take a datapath's maps, descriptors by name; the table is made for ``capacity`` flows."""
        self.family = family
        flows, drops = f"flows{family[-1]}", f"flow_drops{family[-1]}"
        self._cache = Cache(Memory(flows, maps[flows], SETS[family]))
        self._drops = Memory(drops, maps[drops], FLOW_DROPS) if drops in maps else None
        self._program_settings = FlowSettings(maps)
        self._counters = counters
        self._capacity = capacity
        self._expired_flows = 0
        self._last: tuple[FlowColumns, Places] | None = None
        self._next: tuple[FlowColumns, Places] | None = None
        self.apply(settings)

    def memory(self) -> list[int]:
        """Return what the next daemon has to know."""
        return [self._expired_flows]

    def remember(self, document: list[int]) -> None:
        """Go on from what ``memory()`` returned."""
        (self._expired_flows,) = document

    def apply(self, settings: Flows) -> None:
        """Tell the program when a flow has expired."""
        self._settings = settings
        ticks = (in_ticks(seconds, tick_ns()) for seconds in (settings.idle_timeout, settings.ended_timeout))
        self._program_settings.write(*ticks)

    def drain(self, clock: WallClock, seconds: float | None) -> TableDrain:
        """Read the table; ``seconds`` have passed since the drain before, if there was one.

        Raises:
            MapError: the kernel refused.

        """
        self._cache.age(clock.now.jiffies, lambda block: self._cache.records(block.words)["last_seen"])
        booked = self._counters.read(self.family).expired_entries
        flows, places, expired, expired_flows = self._walk(clock)
        # Counters after flows: what makes room meanwhile may count twice until the next drain, but is never missing.
        counters = self._counters.read(self.family)
        if seconds is not None and self._last:
            before, places_before = self._last
            set_rates(flows, before, places.matches(places_before), seconds)
        self._next = flows, places
        # A longer idle_timeout brings flows back that had expired, and yet no counter goes down. For that none must
        # count twice: those are taken that had been booked before the walk.
        self._expired_flows = max(self._expired_flows, booked + expired_flows)
        state = TableState(
            entries=len(flows),
            capacity=self._cache.size,
            made_for=self._capacity,
            created=counters.inserted,
            expired=self._expired_flows,
            evicted=counters.evicted_entries,
            insert_errors={cause: count.packets for cause, count in counters.errors.items()},
        )
        insert_error = total(counters.errors.values())
        return TableDrain(flows, state, counters.expired.plus(expired), counters.evicted, insert_error)

    def settle(self) -> None:
        """Take the latest drain for the one before, now that all tables have been read."""
        self._last = self._next

    def _walk(self, clock: WallClock) -> tuple[FlowColumns, Places, Count, int]:
        """Return the flows that go on and their places; and what those that have expired had counted, and how many."""
        flows = FlowColumns.empty(self.family, self._cache.size)
        (places,) = allot(len(flows), np.uint32)
        count, expired, expired_flows = 0, Count(), 0
        for block in self._cache.blocks():
            slots = self._cache.records(block.words)
            gone = has_expired(slots["last_seen"], slots["tcp_flags"], clock, self._settings)
            if gone.any():
                expired = expired.plus(count_of(slots["packets"][gone], slots["bytes"][gone]))
                expired_flows += int(np.count_nonzero(gone))
            count += self._fill(flows, places, count, block.where(~gone))
        return flows.head(count), Places(places[:count]), expired, expired_flows

    def _fill(self, flows: FlowColumns, places: npt.NDArray[np.uint32], start: int, block: Block) -> int:
        """Write a block's flows into the rows from ``start`` on; return how many."""
        slots = self._cache.records(block.words)
        flows.fill(start, slots["key"], slots)
        places[start : start + len(slots)] = block.places
        rows = np.flatnonzero(slots["tcp_flags"] & np.uint64(SLOT_DROPS))
        if len(rows) and self._drops:
            drops = self._drops.at(block.places[rows])
            flows.dropped_packets[start + rows] = drops["packets"]
            flows.dropped_bytes[start + rows] = drops["bytes"]
        return len(slots)
