"""Flows that have left a table before a drain has seen them go. Pure.

Evicted ones are shown until they would have expired. The ledger has them as evicted: no sum counts them here.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

from cnf.abi import EVENT, EVENT_KINDS, FAMILIES, Family
from cnf.arrays import Records, Rows
from cnf.clock import WallClock
from cnf.flows.columns import KEYS, FlowColumns
from cnf.flows.snapshot import Finish, Part

KINDS: Final[dict[Finish, int]] = {
    "evicted": EVENT_KINDS.index("flow_evicted"),
    "expired": EVENT_KINDS.index("flow_expired"),
}
"""Of the events that tell of such flows, by what has become of these."""


class FinishedFlows:
    """Keep the latest finished flows of each family. One thread adds, another one shows."""

    def __init__(self, most: int) -> None:
        """Keep ``most`` flows of a family."""
        self._most = most
        self._lock = threading.Lock()
        self._added: dict[Family, list[Records]] = {family: [] for family in FAMILIES}
        self._flows: dict[Family, FlowColumns] = {family: FlowColumns.empty(family, 0) for family in FAMILIES}

    def add(self, records: Records) -> None:
        """Take in the flows that EVENT records, shape (N,), tell of; they are shown from the next ``shown()`` on."""
        evicted = records[records["kind"] == KINDS["evicted"]]
        for number, family in enumerate(FAMILIES):
            chosen = evicted[evicted["family"] == number][-self._most :]
            if not len(chosen):
                continue
            with self._lock:
                added = self._added[family]
                added.append(chosen)
                surplus = sum(map(len, added)) - self._most
                while surplus >= len(added[0]):
                    surplus -= len(added.pop(0))

    def shown(self, clock: WallClock, idle: float) -> tuple[Part, ...]:
        """Return the flows that had a packet within ``idle`` seconds, a part a family, the latest to finish last."""
        with self._lock:
            added, self._added = self._added, {family: [] for family in FAMILIES}
        oldest = clock.ago(idle)
        for family, flows in self._flows.items():
            new = finished_flows(np.concatenate([np.empty(0, EVENT), *added[family]]), family, "evicted")[0].flows
            last_seen = np.concatenate((flows.last_seen, new.last_seen))
            rows = np.flatnonzero(last_seen >= oldest)[-self._most :]
            if len(new) or len(rows) < len(flows):
                self._flows[family] = _joined(flows, new, rows)
        return tuple(Part(flows, "evicted") for flows in self._flows.values())


def _joined(flows: FlowColumns, new: FlowColumns, rows: Rows) -> FlowColumns:
    """Return ``rows`` of both, ``new`` behind ``flows``, as a copy: columns that were shown are not written again."""
    joined = FlowColumns.empty(flows.family, len(rows))
    joined.records[:] = np.concatenate((flows.records, new.records))[rows]
    joined.dropped[:] = np.concatenate((flows.dropped, new.dropped))[rows]
    return joined


def finished_flows(records: Records, family: Family, finish: Finish) -> tuple[Part, Rows]:
    """Return the flows of a family that EVENT records say have finished so, and the rows of these records."""
    of_family = records["family"] == FAMILIES.index(family)
    rows = np.flatnonzero(of_family & (records["kind"] == KINDS[finish]))
    key = KEYS[family]
    keys = np.ascontiguousarray(records["key"][rows]).view(np.uint8)[:, : key.itemsize]
    flows = FlowColumns.empty(family, len(rows))
    flows.fill(0, np.ascontiguousarray(keys).view(key)[:, 0], records["value"][rows])
    flows.packet_rate[:] = 0
    return Part(flows, finish), rows
