"""A flow table in a cache of the program's own. User space deletes nothing: the program counts what makes room."""

from __future__ import annotations

import mmap
from collections.abc import Mapping

import numpy as np

from cnf.abi import DIRECTIONS, FAMILIES, FLOW_DROPS, SLOT_DROPS, Family
from cnf.arrays import Records
from cnf.clock import WallClock, in_ticks, tick_ns
from cnf.config import Flows
from cnf.counts import total
from cnf.datapath.cache import Cache, Crowded, FlowSettings, MappedArray, Words
from cnf.datapath.counters import TableCounters, packets_by_cause
from cnf.flows.columns import FlowColumns
from cnf.flows.expiry import has_expired
from cnf.flows.ledger import NOTHING, Counts, by_direction, plus
from cnf.flows.matching import BySlot
from cnf.flows.recorder import SETS, Recorder
from cnf.flows.records import FLOW_RECORD
from cnf.flows.snapshot import TableDrain, TableState
from cnf.flows.stream import Due


class CacheTable:
    """One family's flows.

    A flow that has expired stays in its slot until its next packet comes or another flow takes the slot. From when its
    next packet would start it anew, it counts as expired.
    """

    def __init__(
        self, family: Family, maps: Mapping[str, int], counters: TableCounters, capacity: int, settings: Flows
    ) -> None:
        """Take a datapath's maps, descriptors by name; the table is made for ``capacity`` flows."""
        self.family = family
        flows, drops = f"flows{family[-1]}", f"flow_drops{family[-1]}"
        self._drops = MappedArray(drops, maps[drops], FLOW_DROPS) if drops in maps else None
        self._program_settings = FlowSettings(maps)
        self._crowded = Crowded(maps, FAMILIES.index(family))
        self._recorder = Recorder(family, maps) if f"flow_recorded{family[-1]}" in maps else None
        access = mmap.PROT_READ | mmap.PROT_WRITE if self._recorder else mmap.PROT_READ
        self._cache = Cache(MappedArray(flows, maps[flows], SETS[family]), access)
        self._counters = counters
        self._capacity = capacity
        self._expired_flows = 0
        self.apply(settings)

    def hand_over(self) -> list[int]:
        """Return what the next daemon must know."""
        return [self._expired_flows]

    def take_over(self, document: list[int]) -> None:
        """Go on from what ``hand_over()`` returned."""
        (self._expired_flows,) = document

    def apply(self, settings: Flows) -> None:
        """Tell the program when a flow expires."""
        self._settings = settings
        ticks = (in_ticks(seconds, tick_ns()) for seconds in (settings.idle_timeout, settings.ended_timeout))
        self._program_settings.write(*ticks)

    def begin(self, clock: WallClock, due: Due) -> None:
        """Have the next ``drain()`` record what is ``due``; it must be of the same clock.

        Raises:
            MapError: the kernel refused.

        """
        if self._recorder:
            self._recorder.take_events(due.events)
            self._recorder.begin(clock, self._settings, due)

    def end(self, clock: WallClock) -> Records:
        """Return what all drains up to that of ``clock`` have recorded, now that all tables have been read."""
        if self._recorder is None:
            return np.empty(0, FLOW_RECORD[self.family])
        self._program_settings.note_drain(clock.now.jiffies)
        return self._recorder.end()

    def drain(self, clock: WallClock) -> TableDrain:
        """Read the table.

        Raises:
            MapError: the kernel refused.

        """
        before = self._counters.read(self.family)
        if before.inserted:
            self._cache.age(clock.now.jiffies, lambda block: self._cache.records(block.words)["last_seen"])
            present = before.inserted - before.expired_entries - before.evicted_entries
            flows, order, expired, expired_flows = self._walk(clock, max(present, 0))
        else:
            flows, order, expired, expired_flows = FlowColumns.empty(self.family, 0), BySlot(0), NOTHING, 0
        self._crowded.write(len(flows), self._cache.size)
        # Counters after flows: what makes room meanwhile may count twice until the next drain, but is never missing.
        counters = {direction: self._counters.read(self.family, (direction,)) for direction in DIRECTIONS}
        # A longer idle_timeout brings back flows that had expired, yet no counter may go down: hence max(). No flow may
        # count twice then: hence the program's count from before the walk.
        self._expired_flows = max(self._expired_flows, before.expired_entries + expired_flows)
        state = TableState(
            entries=len(flows),
            capacity=self._cache.size,
            made_for=self._capacity,
            created=sum(each.inserted for each in counters.values()),
            expired=self._expired_flows,
            evicted=sum(each.evicted_entries for each in counters.values()),
            insert_errors=packets_by_cause(counters.values()),
        )
        return TableDrain(
            flows,
            order,
            state,
            expired=plus(expired, {direction: each.expired for direction, each in counters.items()}),
            evicted={direction: each.evicted for direction, each in counters.items()},
            insert_error={direction: total(each.errors.values()) for direction, each in counters.items()},
            gone=expired,
            recorded=self._recorder.live if self._recorder else None,
        )

    def _walk(self, clock: WallClock, expected: int) -> tuple[FlowColumns, BySlot, Counts, int]:
        """Return the live flows, their order, and of the expired flows the sum of their counts and their number.

        About ``expected`` flows are in the table.
        """
        flows, order = FlowColumns.empty(self.family, self._cache.size, expected), BySlot(self._cache.size)
        words = flows.words
        count, expired, expired_flows = 0, NOTHING, 0

        def room(slots: int) -> Words:
            return words[count : count + slots]

        for block in self._cache.blocks(room):
            places, slots = block.places, self._cache.records(block.words)
            gone = has_expired(slots["last_seen"], slots["tcp_flags"], clock, self._settings)
            if self._recorder:
                self._recorder.take(block, slots, gone)
            if gone.any():
                counts = (slots["key"]["flags"], slots["packets"], slots["bytes"])
                expired = plus(expired, by_direction(*(column[gone] for column in counts)))
                live = np.flatnonzero(~gone)
                expired_flows += len(places) - len(live)
                places, block.words[: len(live)] = places[live], block.words[live]
            order.add(places)
            if self._drops:
                rows = np.flatnonzero(slots["tcp_flags"][: len(places)] & np.uint64(SLOT_DROPS))
                if len(rows):
                    flows.dropped[count + rows] = self._drops.at(places[rows])
            count += len(places)
        if self._recorder:
            self._recorder.end_walk()
        return flows.head(count), order, expired, expired_flows
