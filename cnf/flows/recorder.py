"""The records of one family's flows in a cache: from drain to drain, and of what has made room in between.

What of a slot's flow has been recorded stands in a map beside the table, so that the next daemon goes on from there,
however this one ended.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from cnf.abi import (
    CACHE_HEAD,
    EVENT_KINDS,
    FAMILIES,
    FLOW4_SET,
    FLOW4_SLOT,
    FLOW6_SET,
    FLOW6_SLOT,
    FLOW_DROPS,
    FLOW_RECORDED,
    PART_FLAGS_SHIFT,
    SLOT_DROPS,
    WAYS,
    Family,
)
from cnf.arrays import Mask, Records
from cnf.clock import WallClock
from cnf.config import Flows
from cnf.datapath.cache import WINDOW, MappedArray, Places
from cnf.flows.columns import KEYS
from cnf.flows.expiry import has_expired
from cnf.flows.ledger import NOTHING, Counts, by_direction, plus
from cnf.flows.records import FLOW_RECORD, REASONS, part_of, reasons_of, recorded
from cnf.flows.stream import Due

SETS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_SET, "ipv6": FLOW6_SET}
SLOTS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_SLOT, "ipv6": FLOW6_SLOT}
_PART_FLAGS: Final = (FLOW4_SLOT.names or ()).index("tcp_flags") * 8 + PART_FLAGS_SHIFT // 8
"""The byte of a slot that has the flags of the part."""
EVICTED, EXPIRED = map(EVENT_KINDS.index, ("flow_evicted", "flow_expired"))
_EVICTED: Final = REASONS.index("evicted")
_NEVER: Final = np.uint64((1 << 64) - 1)
"""A jiffy after all others."""


class Recorder:
    """Make records of flows. A drain reads the clock, takes the events, then the walk's slots, and then the records.

    A flow that makes room after the events have been read leaves its slot to one that is younger than the clock's
    reading. That one is not recorded by this walk, so that what was recorded of the first is there for its event.
    """

    def __init__(self, family: Family, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._family: Family = family
        recorded_name, drops_name = f"flow_recorded{family[-1]}", f"flow_drops{family[-1]}"
        self._recorded = MappedArray(recorded_name, maps[recorded_name], FLOW_RECORDED)
        flows_name = f"flows{family[-1]}"
        self._sets = MappedArray(flows_name, maps[flows_name], SETS[family])
        self._drops = MappedArray(drops_name, maps[drops_name], FLOW_DROPS) if drops_name in maps else None
        self._made: list[Records] = []
        self.live: Counts | None = None
        """What is recorded of the walk's live flows, where that is due."""
        self._drained: tuple[WallClock, Flows] | None = None

    def take_events(self, events: Records) -> None:
        """Record the flows that EVENT records, shape (N,), say have made room since the latest call.

        Raises:
            MapError: the kernel refused.

        """
        of_family = events["family"] == FAMILIES.index(self._family)
        told = events[of_family & np.isin(events["kind"], (EVICTED, EXPIRED))]
        if not len(told):
            return
        order = np.argsort(told["slot"], kind="stable")
        told = told[order]
        slots = np.zeros(len(told), SLOTS[self._family])
        key = KEYS[self._family]
        slots["key"] = np.ascontiguousarray(told["key"]).view(np.uint8)[:, : key.itemsize].copy().view(key)[:, 0]
        dropped = np.empty(len(told), FLOW_DROPS)
        for name in ("packets", "bytes"):
            slots[name], dropped[name] = told["value"][name], told["value"][f"dropped_{name}"]
        for name in ("first_seen", "last_seen", "tcp_flags"):
            slots[name] = told["value"][name]
        reasons = np.where(told["kind"] == EVICTED, _EVICTED, reasons_of(slots)).astype(np.uint8)
        records, _ = part_of(slots, dropped, self._recorded.at(told["slot"].astype(np.intp)), reasons)
        self._made.append(records)

    def begin(self, clock: WallClock, settings: Flows, due: Due) -> None:
        """Begin a walk that records what is ``due``."""
        self._clock, self._settings = clock, settings
        self._active = _NEVER if due.whole else clock.ago(due.active)
        self._going_on = REASONS.index(due.whole or "active")
        self.live = NOTHING if due.look else None

    def take(self, places: Places, slots: Records, gone: Mask) -> None:
        """Record of slots at ``places``, ascending, those that are ``gone``, and those that have gone on for so long.

        Raises:
            MapError: the kernel refused.

        """
        self._record(places, slots, gone)
        if self.live is not None:
            self.live = plus(self.live, self._recorded_of(places, slots, ~gone))

    def _recorded_of(self, places: Places, slots: Records, live: Mask) -> Counts:
        """Return what is recorded of the flows that are ``live``."""
        noted = self._recorded.at(places)
        rows = np.flatnonzero(live & (noted["first_seen"] == slots["first_seen"]))
        return by_direction(slots["key"]["flags"][rows], noted["packets"][rows], noted["bytes"][rows])

    def _record(self, places: Places, slots: Records, gone: Mask) -> None:
        due = gone.copy()
        if self._drained is not None and self._drained[1] == self._settings:
            due &= ~has_expired(slots["last_seen"], slots["tcp_flags"], *self._drained)
        due |= ~gone & (slots["first_seen"] < self._active)
        rows = np.flatnonzero(due)
        if not len(rows):
            return
        places, slots, gone = places[rows], slots[rows], gone[rows]
        first = int(places[0]) // WINDOW * WINDOW
        end = min(-(-(int(places[-1]) + 1) // WINDOW) * WINDOW, self._recorded.size)
        window = self._recorded.window(first, end - first, mmap.PROT_READ | mmap.PROT_WRITE)
        before = window[places - first].view(FLOW_RECORDED).reshape(len(places))
        since = np.where(before["first_seen"] == slots["first_seen"], before["until"], slots["first_seen"])
        due = gone | (since < self._active)
        dropped = np.zeros(len(rows), FLOW_DROPS)
        if self._drops:
            with_drops = np.flatnonzero(slots["tcp_flags"] & np.uint64(SLOT_DROPS))
            if len(with_drops):
                dropped[with_drops] = self._drops.at(places[with_drops])
        places, slots, before, dropped, gone = places[due], slots[due], before[due], dropped[due], gone[due]
        reasons = np.where(gone, reasons_of(slots), self._going_on).astype(np.uint8)
        records, rows = part_of(slots, dropped, before, reasons)
        if not len(rows):
            return
        self._made.append(records)
        going_on = rows[~gone[rows]]
        if len(going_on):
            self._begin_parts(places[going_on], slots[going_on])
        noted = recorded(slots[rows], dropped[rows], int(self._clock.now.jiffies))
        window[places[rows] - first] = noted.view(np.uint64).reshape(len(rows), -1)

    def _begin_parts(self, places: Places, slots: Records) -> None:
        """Have the flows at ``places`` begin a part: with the flags that have come since ``slots`` were copied.

        A byte is stored, so that the program's atomic OR of the word loses no other. A flag that has come since, and is
        in the copy, too, is taken for that one, as is one that comes between reading and writing here: microseconds.
        """
        sets = places // WAYS
        first = int(sets[0]) // WINDOW * WINDOW
        window = self._sets.window(first, int(sets[-1]) + 1 - first, mmap.PROT_READ | mmap.PROT_WRITE)
        where = sets - first, CACHE_HEAD.itemsize + places % WAYS * slots.dtype.itemsize + _PART_FLAGS
        window.view(np.uint8)[where] &= ~(slots["tcp_flags"] >> np.uint64(PART_FLAGS_SHIFT)).astype(np.uint8)

    def end(self) -> Records:
        """End the drain; return the records since the latest call: FLOW_RECORD, shape (N,)."""
        self._drained = self._clock, self._settings
        made, self._made = self._made, []
        return np.concatenate([np.empty(0, FLOW_RECORD[self._family]), *made])
