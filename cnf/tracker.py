"""The drain: read the flow tables, let go what has ended, and leave a snapshot."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.clock import Clock, Reading, WallClock
from cnf.config import Flows
from cnf.flows import FlowColumns, Index, expired, identities, set_rates
from cnf.interfaces import Interfaces
from cnf.kernel.counters import TableCounters, TableSums
from cnf.kernel.maps import FlowMap, Records
from cnf.kernel.memory import Document
from cnf.kernel.program import Datapath, tick_ns
from cnf.ledger import Count, settle, total
from cnf.records import FLOW4_KEY, FLOW6_KEY, FLOW_VALUE, Family
from cnf.snapshot import Snapshot, TableState

KEYS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_KEY, "ipv6": FLOW6_KEY}
MAPS: Final[dict[Family, str]] = {"ipv4": "flows4", "ipv6": "flows6"}

SLACK: Final = 4096
"""Rows beyond a table's capacity: while flows come and go, a walk can meet more than it holds at any one time."""


@dataclass(slots=True)
class _Table:
    """One flow table and what has to be known of it from drain to drain."""

    family: Family
    map: FlowMap
    expired: Count = field(default_factory=Count)
    expired_flows: int = 0
    evicted_flows: int = 0
    last: tuple[FlowColumns, Index] | None = None
    next: tuple[FlowColumns, Index] | None = None


class Tracker:
    """Drain the flow tables of a datapath; counters in the kernel are cumulative and never reset."""

    def __init__(self, datapath: Datapath, interfaces: Interfaces, settings: Flows) -> None:
        """Take the first reading of the clocks."""
        self.settings = settings
        self._datapath = datapath
        self._interfaces = interfaces
        self._capacity = datapath.blueprint.max_entries
        self._counters = TableCounters(datapath.maps)
        self._tables = [
            _Table(family, FlowMap(name, datapath.maps[name], KEYS[family], FLOW_VALUE))
            for family, name in MAPS.items()
            if name in datapath.maps
        ]
        self._clock = Clock(self._read_clocks(), tick_ns())
        self._drained_at: int | None = None

    def memory(self) -> Document:
        """Return what the next daemon has to know: what was taken out of the tables, by family."""
        return {table.family: [*table.expired, table.expired_flows, table.evicted_flows] for table in self._tables}

    def remember(self, document: Document) -> None:
        """Go on from what ``memory()`` returned."""
        for table in self._tables if document else ():
            packets, octets, table.expired_flows, table.evicted_flows = document[table.family]
            table.expired = Count(packets, octets)

    def drain(self) -> Snapshot:
        """Read everything once.

        Raises:
            MapError: the kernel refused a read; nothing is lost, the next drain reads it again.

        """
        started = time.monotonic()
        clock = self._clock.observe(self._read_clocks())
        # Counters before flows: what comes meanwhile can hide an eviction until the next drain, but never feign one.
        received = self._interfaces.totals()
        counters = {table.family: self._counters.read(table.family) for table in self._tables}
        states = {table.family: self._drain_table(table, clock, counters[table.family]) for table in self._tables}
        # Only once all tables have been read: rates are over the time between two drains that both succeeded.
        self._drained_at = clock.now.monotonic
        for table in self._tables:
            table.last = table.next
        flows = {table.family: table.last[0] for table in self._tables if table.last}
        ledger = settle(
            received.values(),
            live=total(Count(_sum(columns.packets), _sum(columns.bytes)) for columns in flows.values()),
            expired=total(table.expired for table in self._tables),
            insert_error=total(error for sums in counters.values() for error in sums.errors.values()),
            any_evicted=any(table.evicted_flows for table in self._tables),
        )
        return Snapshot(
            clock=clock,
            duration=time.monotonic() - started,
            flows=flows,
            tables=states,
            received=received,
            ledger=ledger,
            names=self._interfaces.names,
        )

    def _drain_table(self, table: _Table, clock: WallClock, counters: TableSums) -> TableState:
        flows, index = _walk(table, self._capacity)
        keep = np.ones(len(flows), bool)
        keep[index.duplicates(flows)] = False
        present = int(np.count_nonzero(keep))
        table.evicted_flows = max(table.evicted_flows, counters.inserted - table.expired_flows - present)
        over = keep & expired(flows, clock, self.settings.idle_timeout, self.settings.ended_timeout)
        if over.any():
            self._expire(table, flows.keys(np.flatnonzero(over)))
            keep &= ~over
        if not keep.all():
            flows = flows.compress(keep)
            index.compress(keep)
        if self._drained_at is not None and table.last:
            seconds = max((clock.now.monotonic - self._drained_at) / 1e9, 1e-3)
            set_rates(flows, index, *table.last, seconds)
        table.next = flows, index
        return TableState(
            entries=len(flows),
            capacity=self._capacity,
            created=counters.inserted,
            expired=table.expired_flows,
            evicted=table.evicted_flows,
            insert_errors={cause: count.packets for cause, count in counters.errors.items()},
        )

    def _expire(self, table: _Table, keys: Records) -> None:
        taken, error = table.map.take(keys)
        table.expired = table.expired.plus(Count(_sum(taken["packets"]), _sum(taken["bytes"])))
        table.expired_flows += len(taken)
        if error is not None:
            raise error

    def _read_clocks(self) -> Reading:
        jiffies, monotonic = self._datapath.read_clock()
        return Reading(jiffies, monotonic, time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


def _walk(table: _Table, capacity: int) -> tuple[FlowColumns, Index]:
    """Read a whole table into new columns, and order them by identity."""
    flows = FlowColumns.empty(table.family, capacity + SLACK)
    identity = np.empty(len(flows), np.uint64)
    count = 0
    for keys, values in table.map.batches():
        if count + len(keys) > len(flows):
            flows, identity = flows.extended(2 * len(flows)), np.concatenate((identity, np.empty_like(identity)))
        flows.fill(count, keys, values)
        identity[count : count + len(keys)] = identities(keys)
        count += len(keys)
    return flows.head(count), Index(identity[:count])


def _sum(values: npt.NDArray[Any]) -> int:
    return int(values.sum(dtype=np.uint64))
