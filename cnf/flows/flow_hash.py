"""A flow table in an LRU hash of the kernel. User space deletes what has expired, and works out what was evicted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from cnf.abi import DIRECTIONS, FLOW_EGRESS, FLOW_VALUE, Direction, Family
from cnf.arrays import Records, Rows
from cnf.clock import WallClock
from cnf.config import Flows
from cnf.counts import Count, count_of, total
from cnf.datapath.counters import TableCounters, packets_by_cause
from cnf.flows.columns import KEYS, FlowColumns
from cnf.flows.expiry import has_expired
from cnf.flows.hash_recorder import HashRecorder
from cnf.flows.ledger import NOTHING
from cnf.flows.matching import ByIdentity, identities
from cnf.flows.snapshot import TableDrain, TableState
from cnf.flows.stream import Due
from cnf.kernel.maps import FlowMap

_TCP_FLAGS: Final = (FLOW_VALUE.names or ()).index("tcp_flags")
"""The word of a flow that has them, in a value as in a column's record."""
SLACK: Final = 4096
"""Rows beyond a table's capacity: while flows come and go, a walk may meet more flows than fit in at once."""


class HashTable:
    """One family's flows, and what those that are gone had counted."""

    def __init__(
        self, family: Family, maps: Mapping[str, int], counters: TableCounters, capacity: int, settings: Flows
    ) -> None:
        """Take a datapath's maps, descriptors by name; the table holds ``capacity`` flows."""
        self.family = family
        self._recorder = HashRecorder(family)
        self._is_recording = False
        name = f"flows{family[-1]}"
        self._map = FlowMap(name, maps[name], KEYS[family], FLOW_VALUE)
        self._counters = counters
        self._capacity = capacity
        self._settings = settings
        self._expired: dict[Direction, Count] = dict(NOTHING)
        self._expired_flows = 0
        self._evicted_flows = 0

    def hand_over(self) -> list[int]:
        """Return what the next daemon must know: the counts of flows that were deleted, and how many were evicted."""
        counts = (number for direction in DIRECTIONS for number in self._expired[direction])
        return [*counts, self._expired_flows, self._evicted_flows]

    def take_over(self, document: list[int]) -> None:
        """Go on from what ``hand_over()`` returned."""
        self._recorder.take_over()
        *counts, self._expired_flows, self._evicted_flows = document
        self._expired = {
            direction: Count(*counts[2 * place : 2 * place + 2]) for place, direction in enumerate(DIRECTIONS)
        }

    def apply(self, settings: Flows) -> None:
        """Delete the flows that have expired by ``settings``, from the next drain on."""
        self._settings = settings

    def begin(self, clock: WallClock, due: Due) -> None:
        """Have the next ``drain()`` record what is ``due``; it must be of the same clock."""
        self._is_recording = True
        self._recorder.begin(clock, due)

    def end(self, clock: WallClock) -> Records:  # noqa: ARG002 - caches note it
        """Return what all drains up to that of ``clock`` have recorded."""
        return self._recorder.end()

    def drain(self, clock: WallClock) -> TableDrain:
        """Read the table, and delete the flows that have expired.

        Raises:
            MapError: the kernel refused; nothing is lost, the next drain reads it again.

        """
        # Counters before flows: flows that come meanwhile may hide an eviction until the next drain, but not feign one.
        counters = {direction: self._counters.read(self.family, (direction,)) for direction in DIRECTIONS}
        created = sum(each.inserted for each in counters.values())
        flows, order = self._walk()
        keep = np.ones(len(flows), bool)
        keep[order.duplicates(flows)] = False
        present = int(np.count_nonzero(keep))
        self._evicted_flows = max(self._evicted_flows, created - self._expired_flows - present)
        if self._is_recording:
            self._recorder.show(flows, order)
        gone = keep & has_expired(flows.last_seen, flows.tcp_flags, clock, self._settings)
        if gone.any():
            self._expire(flows, np.flatnonzero(gone))
            keep &= ~gone
        if not keep.all():
            flows = flows.compress(keep)
            order.compress(keep)
            if self._is_recording:
                self._recorder.keep(keep)
        recorded = self._recorder.record(flows, order) if self._is_recording else None
        state = TableState(
            entries=len(flows),
            capacity=self._capacity,
            made_for=self._capacity,
            created=created,
            expired=self._expired_flows,
            evicted=self._evicted_flows,
            insert_errors=packets_by_cause(counters.values()),
        )
        return TableDrain(
            flows,
            order,
            state,
            expired=dict(self._expired),
            evicted=None if self._evicted_flows else NOTHING,
            insert_error={direction: total(each.errors.values()) for direction, each in counters.items()},
            gone=dict(self._expired),
            recorded=recorded,
        )

    def _walk(self) -> tuple[FlowColumns, ByIdentity]:
        """Read the whole table into new columns, and order these by identity."""
        flows = FlowColumns.empty(self.family, self._capacity + SLACK)
        identity = np.empty(len(flows), np.uint64)
        count = 0
        for keys, values in self._map.batches():
            if count + len(keys) > len(flows):
                flows, identity = flows.extended(2 * len(flows)), np.concatenate((identity, np.empty_like(identity)))
            flows.fill(count, keys, values)
            if self._is_recording:  # with what stands beside the flags
                flows.words[count : count + len(keys), _TCP_FLAGS] = values["tcp_flags"]
            identity[count : count + len(keys)] = identities(keys)
            count += len(keys)
        return flows.head(count), ByIdentity(identity[:count])

    def _expire(self, flows: FlowColumns, rows: Rows) -> None:
        sent = (flows.flags[rows] & FLOW_EGRESS) != 0
        of_direction: dict[Direction, Rows] = {"ingress": rows[~sent], "egress": rows[sent]}
        for direction, chosen in of_direction.items():
            keys = flows.keys(chosen)
            taken, found, error = self._map.take(keys)
            self._expired[direction] = self._expired[direction].plus(count_of(taken["packets"], taken["bytes"]))
            self._expired_flows += len(taken)
            if self._is_recording:
                self._recorder.delete(chosen[found], keys[found], taken)
            if error is not None:
                raise error
