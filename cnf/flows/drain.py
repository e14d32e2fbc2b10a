"""The drain: read the counters and the flow tables, and return a snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy.typing as npt

from cnf.abi import DIRECTIONS, FAMILIES, Direction, Family
from cnf.arrays import Records
from cnf.clock import Clock, Reading, WallClock, tick_ns
from cnf.config import Flows
from cnf.counts import total
from cnf.datapath.blueprint import Table
from cnf.datapath.build import Datapath
from cnf.datapath.counters import TableCounters
from cnf.datapath.handover_map import Document
from cnf.flows.flow_cache import CacheTable
from cnf.flows.flow_hash import HashTable
from cnf.flows.ledger import NOTHING, Counts, InTables, Ledger, by_direction, draw_up, plus
from cnf.flows.lost import Sums
from cnf.flows.matching import Rates
from cnf.flows.snapshot import Snapshot, TableDrain
from cnf.flows.stream import Due, Stream, Whole


class FlowTable(Protocol):
    """One family's flow table, whatever it is made of."""

    family: Family

    def apply(self, settings: Flows) -> None:
        """Let flows expire as ``settings`` say, from now on."""

    def hand_over(self) -> list[int]:
        """Return what the next daemon must know."""

    def take_over(self, document: list[int]) -> None:
        """Go on from what ``hand_over()`` returned."""

    def begin(self, clock: WallClock, due: Due) -> None:
        """Have the next ``drain()`` record what is ``due``; it must be of the same clock. Raises MapError."""

    def end(self, clock: WallClock) -> Records:
        """Return FLOW_RECORD, shape (N,): what is recorded, now that all tables have been read. Raises MapError."""

    def drain(self, clock: WallClock) -> TableDrain:
        """Read the table.

        Raises:
            MapError: the kernel refused; nothing is lost, the next drain reads it again.

        """


TABLES: Final[dict[Table, Callable[[Family, Mapping[str, int], TableCounters, int, Flows], FlowTable]]] = {
    "cache": CacheTable,
    "lru_hash": HashTable,
}


class Received(Protocol):
    """The interfaces' totals."""

    names: dict[int, str]
    """By ifindex, also of departed interfaces; replaced whole, so that a snapshot keeps its own."""
    altnames: Mapping[int, tuple[str, ...]]
    """By ifindex, of present interfaces only; replaced whole."""
    incomplete: bool
    """Whether what departed interfaces had received is not known in full."""

    def all_totals(self) -> tuple[Mapping[str, npt.NDArray[Any]], npt.NDArray[Any]]:
        """Return INTERFACE_COUNTERS, shape (), by interface name, and the sum of those whose names are forgotten."""


class Tracker:
    """Drain the flow tables of a datapath. What the kernel counts is never reset."""

    def __init__(self, datapath: Datapath, received: Received, settings: Flows, stream: Stream | None = None) -> None:
        """Take the first reading of the clocks, and give the program the settings; ``stream`` gets the records."""
        self._datapath = datapath
        self._stream = stream
        self._received = received
        blueprint = datapath.blueprint
        make, self._counters = TABLES[blueprint.table], TableCounters(datapath.maps)
        self._tables = [
            make(family, datapath.maps, self._counters, blueprint.max_entries, settings)
            for family in FAMILIES[: 1 + blueprint.ipv6]
        ]
        self._clock = Clock(self._read_clocks(), tick_ns())
        self._rates = {table.family: Rates() for table in self._tables}

    def apply(self, settings: Flows) -> None:
        """Let flows expire as ``settings`` say, from now on."""
        for table in self._tables:
            table.apply(settings)

    def hand_over(self) -> Document:
        """Return what the next daemon must know, by family."""
        return {table.family: table.hand_over() for table in self._tables}

    def take_over(self, document: Document | None) -> None:
        """Go on from what ``hand_over()`` returned."""
        if not document:
            return
        parts = {table.family: list(map(int, document[table.family])) for table in self._tables}
        for table in self._tables:
            table.take_over(parts[table.family])

    def drain(self, whole: Whole = None) -> Snapshot:
        """Read everything once, and record what is due of the flows, or with ``whole`` all of them.

        Raises:
            MapError: the kernel refused a read; nothing is lost, the next drain reads it again.

        """
        started = time.monotonic()
        clock = self._clock.observe(self._read_clocks())
        booked = self._begin(clock, whole)
        # Before the flows: packets that come meanwhile make the ledger's difference negative, lost ones positive.
        received, departed = self._received.all_totals()
        drains = {table.family: table.drain(clock) for table in self._tables}
        # Only once all tables have been read: rates are over the time between two drains that both succeeded.
        for family, drain in drains.items():
            self._rates[family].update(drain.flows, drain.order, clock.now.monotonic)
        ledgers = self._draw_up((*received.values(), departed), tuple(drains.values()))
        snapshot = Snapshot(
            clock=clock,
            duration=time.monotonic() - started,
            flows={family: drain.flows for family, drain in drains.items()},
            tables={family: drain.state for family, drain in drains.items()},
            received=received,
            ledgers=ledgers,
            names=self._received.names,
            altnames=self._received.altnames,
        )
        if self._stream:
            records = {table.family: table.end(clock) for table in self._tables}
            self._stream.end(snapshot, records, _sums(booked, drains.values(), ledgers), whole)
        return snapshot

    def _begin(self, clock: WallClock, whole: Whole) -> Counts:
        """Have the tables record what is due; return the counts of flows that the program had booked as gone before."""
        if self._stream is None:
            return NOTHING
        booked, evicted = NOTHING, 0
        for table in self._tables:
            for direction in DIRECTIONS:
                sums = self._counters.read(table.family, (direction,))
                booked = plus(booked, {**NOTHING, direction: sums.expired.plus(sums.evicted)})
                evicted += sums.evicted_entries
        told = self._datapath.blueprint.finished_events
        due = self._stream.begin(clock, 0 if told else evicted, whole)
        for table in self._tables:
            table.begin(clock, due)
        return booked

    def _draw_up(self, interfaces: Sequence[npt.NDArray[Any]], drains: Sequence[TableDrain]) -> dict[Direction, Ledger]:
        blocks = [block for drain in drains for _, block in drain.flows.blocks()]
        live = [by_direction(block.flags, block.packets, block.bytes) for block in blocks]
        evicted = [drain.evicted for drain in drains]
        known = [counts for counts in evicted if counts is not None]
        ledgers = {
            direction: draw_up(
                direction,
                interfaces,
                InTables(
                    live=total(counts[direction] for counts in live),
                    expired=total(drain.expired[direction] for drain in drains),
                    insert_error=total(drain.insert_error[direction] for drain in drains),
                    evicted=total(counts[direction] for counts in known) if len(known) == len(evicted) else None,
                ),
            )
            for direction in DIRECTIONS
        }
        if self._received.incomplete:
            return {direction: ledger.completed() for direction, ledger in ledgers.items()}
        return ledgers

    def _read_clocks(self) -> Reading:
        jiffies, monotonic = self._datapath.read_clock()
        return Reading(jiffies, monotonic, time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


def _sums(booked: Counts, drains: Collection[TableDrain], ledgers: Mapping[Direction, Ledger]) -> Sums | None:
    """Return what all tables have found; None if not all have summed up what is recorded of live flows."""
    gone, live = booked, NOTHING
    for drain in drains:
        if drain.recorded is None:
            return None
        gone, live = plus(gone, drain.gone), plus(live, drain.recorded)
    if any(drain.evicted is None for drain in drains):
        gone = plus(gone, {direction: ledger.states["evicted"] for direction, ledger in ledgers.items()})
    return Sums(gone, live)
