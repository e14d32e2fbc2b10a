"""The records of one family's flows in an LRU hash. Pure numpy.

What of each flow has been recorded is carried from drain to drain in user space. The next daemon does not know it: what
live flows have counted by its first drain, it takes for recorded. What was not counts as lost, as do evicted flows.
"""

from __future__ import annotations

import numpy as np

from cnf.abi import FLOW4_SLOT, FLOW6_SLOT, FLOW_DROPS, FLOW_RECORDED, FLOW_UNTIL, Family
from cnf.arrays import Mask, Records, Rows, allot
from cnf.clock import WallClock
from cnf.flows.columns import FlowColumns
from cnf.flows.ledger import Counts, by_direction
from cnf.flows.matching import ByIdentity
from cnf.flows.records import FLOW_RECORD, REASONS, Before, note, part_of, reasons_of
from cnf.flows.stream import Due

SLOTS = {"ipv4": FLOW4_SLOT, "ipv6": FLOW6_SLOT}


class HashRecorder:
    """Make records of flows. A drain begins, shows all flows, those that it deletes, and those that stay."""

    def __init__(self, family: Family) -> None:
        """Begin with a table of which nothing is recorded."""
        self._family: Family = family
        self._made: list[Records] = []
        self._before: tuple[ByIdentity, Before] | None = None
        self._taken_over = False

    def take_over(self) -> None:
        """Take what is in the table for recorded."""
        self._taken_over = True

    def begin(self, clock: WallClock, due: Due) -> None:
        """Begin a drain that records what is ``due``."""
        self._clock, self._due = clock, due

    def show(self, flows: FlowColumns, order: ByIdentity) -> None:
        """Find what is recorded of all ``flows`` of the table, which stand in this order."""
        self._noted = Before(*allot(len(flows), FLOW_RECORDED, FLOW_UNTIL))
        if self._taken_over:
            self._note(np.arange(len(flows)), _slots(flows, slice(None)), flows.dropped)
            self._taken_over = False
        elif self._before and len(self._before[1].until):
            order_before, before = self._before
            for rows, rows_before, found in order.candidates(order_before):
                same = found & (before.counts["first_seen"][rows_before] == flows.first_seen[rows])
                for noted, noted_before in zip(self._noted, before, strict=True):
                    noted[np.asarray(rows)[same]] = noted_before[np.asarray(rows_before)[same]]

    def delete(self, rows: Rows, keys: Records, values: Records) -> None:
        """Record flows that were deleted: their ``rows`` among all flows, and final FLOW_VALUE, shape (N,)."""
        slots = np.zeros(len(rows), SLOTS[self._family])
        slots["key"] = keys
        for name in ("packets", "bytes", "first_seen", "last_seen", "tcp_flags"):
            slots[name] = values[name]
        dropped = np.empty(len(rows), FLOW_DROPS)
        for name in ("packets", "bytes"):
            dropped[name] = values[f"dropped_{name}"]
        self._made.append(part_of(slots, dropped, self._noted_of(rows), reasons_of(slots))[0])

    def keep(self, stays: Mask) -> None:
        """Follow ``FlowColumns.compress(stays)``."""
        before, self._noted = self._noted, Before(*allot(int(np.count_nonzero(stays)), FLOW_RECORDED, FLOW_UNTIL))
        for noted, noted_before in zip(self._noted, before, strict=True):
            noted[:] = noted_before[stays]

    def record(self, flows: FlowColumns, order: ByIdentity) -> Counts:
        """Record those of the live ``flows`` that have gone on for so long; return what is recorded of all."""
        whole = self._due.whole
        if whole:
            rows = np.arange(len(flows))
        else:
            active = self._clock.ago(self._due.active)
            rows = np.flatnonzero((flows.first_seen < active) & (self._noted.until < active))
        slots, dropped = _slots(flows, rows), flows.dropped[rows]
        reasons = np.full(len(rows), REASONS.index(whole or "active"), np.uint8)
        records, changed = part_of(slots, dropped, self._noted_of(rows), reasons)
        if len(records):
            self._made.append(records)
            self._note(rows[changed], slots[changed], dropped[changed])
        self._before = order, self._noted
        return by_direction(flows.flags, self._noted.counts["packets"], self._noted.counts["bytes"])

    def _noted_of(self, rows: Rows) -> Before:
        return Before(*(noted[rows] for noted in self._noted))

    def _note(self, rows: Rows, slots: Records, dropped: Records) -> None:
        note(self._noted.counts, rows, slots, dropped)
        self._noted.until[rows] = self._clock.now.jiffies

    def end(self) -> Records:
        """End the drain; return the records since the latest call: FLOW_RECORD, shape (N,)."""
        made, self._made = self._made, []
        return np.concatenate([np.empty(0, FLOW_RECORD[self._family]), *made])


def _slots(flows: FlowColumns, rows: Rows | slice) -> Records:
    """Return flows as slots of a cache: shape (N,)."""
    slots: Records = flows.words[rows].view(SLOTS[flows.family])[:, 0]
    return slots
