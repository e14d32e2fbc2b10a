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
    FLOW_UNTIL,
    PART_FLAGS_SHIFT,
    SLOT_DROPS,
    WAYS,
    Family,
)
from cnf.arrays import Gathered, Mask, Records, Rows, chosen
from cnf.clock import WallClock
from cnf.config import Flows
from cnf.datapath.cache import BLOCK, Block, MappedArray, Places
from cnf.flows.columns import KEYS
from cnf.flows.expiry import has_expired
from cnf.flows.ledger import NOTHING, Counts, by_direction, plus
from cnf.flows.records import FLOW_RECORD, REASONS, Before, note, part_of, reasons_of
from cnf.flows.stream import Due

SETS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_SET, "ipv6": FLOW6_SET}
SLOTS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_SLOT, "ipv6": FLOW6_SLOT}
_PART_FLAGS: Final = (FLOW4_SLOT.names or ()).index("tcp_flags") * 8 + PART_FLAGS_SHIFT // 8
"""The byte of a slot that has the flags of the part."""
EVICTED, EXPIRED = map(EVENT_KINDS.index, ("flow_evicted", "flow_expired"))
_EVICTED: Final = REASONS.index("evicted")
CHUNK: Final = 1 << 12
"""Flows that are recorded at a time, at least: few calls of numpy, and their copies stay in the processor's cache."""
LATE: Final = 1.0
"""Seconds: a packet's time is read before it is added to its flow, by much less than that."""
_NEVER: Final = np.uint64((1 << 64) - 1)
"""A jiffy after all others."""


class _Noted:
    """What is recorded of a table's flows, slot by slot, for as long as this is there."""

    def __init__(self, counts: MappedArray, until: MappedArray) -> None:
        """Map both arrays. Raises MapError."""
        access = mmap.PROT_READ | mmap.PROT_WRITE
        self._words = counts.window(0, counts.size, access)
        self.counts: Records = self._words.view(FLOW_RECORDED)[:, 0]
        self.until = until.window(0, until.size, access)[:, 0]

    def at(self, places: Places) -> Before:
        """Return a copy of the elements at ``places``."""
        return Before(self._words.take(places, axis=0).view(FLOW_RECORDED)[:, 0], self.until[places])


class _Due:
    """The flows of a walk that are to be recorded next."""

    def __init__(self, most: int, slot: np.dtype[Any]) -> None:
        """Have room for ``most`` flows, with slots of the dtype ``slot``."""
        self.count = 0
        self._places, self._gone = np.empty(most, np.intp), np.empty(most, np.bool_)
        self._slots = np.empty(most, slot)
        self._words = self._slots.view(np.uint64).reshape(most, -1)

    def add(self, block: Block, rows: Rows, gone: Mask) -> None:
        """Copy ``rows`` of a block, and which of its flows are ``gone``."""
        chosen = slice(self.count, self.count + len(rows))
        self._places[chosen], self._gone[chosen] = block.places[rows], gone[rows]
        block.words.take(rows, axis=0, out=self._words[chosen], mode="clip")  # another mode would copy them twice
        self.count += len(rows)

    def take(self) -> tuple[Places, Records, Mask]:
        """Return their places, slots, and which are gone, until the next one is added."""
        count, self.count = self.count, 0
        return self._places[:count], self._slots[:count], self._gone[:count]


class Recorder:
    """Make records of flows. A drain reads the clock, takes the events, then the walk's slots, and then the records.

    A flow that makes room after the events have been read leaves its slot to one that is younger than the clock's
    reading. That one is not recorded by this walk, so that what was recorded of the first is there for its event.
    """

    def __init__(self, family: Family, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._family: Family = family
        recorded, until, drops = (f"flow_{noun}{family[-1]}" for noun in ("recorded", "until", "drops"))
        self._arrays = (
            MappedArray(recorded, maps[recorded], FLOW_RECORDED),
            MappedArray(until, maps[until], FLOW_UNTIL),
        )
        self._noted: _Noted | None = None
        self._drops = MappedArray(drops, maps[drops], FLOW_DROPS) if drops in maps else None
        self._due = _Due(CHUNK + BLOCK * WAYS, SLOTS[family])
        self._made = Gathered(FLOW_RECORD[family])
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
        slots = np.zeros(len(told), SLOTS[self._family])
        key = KEYS[self._family]
        slots["key"] = np.ascontiguousarray(told["key"]).view(np.uint8)[:, : key.itemsize].copy().view(key)[:, 0]
        dropped = np.empty(len(told), FLOW_DROPS)
        for name in ("packets", "bytes"):
            slots[name], dropped[name] = told["value"][name], told["value"][f"dropped_{name}"]
        for name in ("first_seen", "last_seen", "tcp_flags"):
            slots[name] = told["value"][name]
        reasons = np.where(told["kind"] == EVICTED, _EVICTED, reasons_of(slots)).astype(np.uint8)
        before = _Noted(*self._arrays).at(told["slot"].astype(np.intp))
        self._made.add(part_of(slots, dropped, before, reasons)[0])

    def begin(self, clock: WallClock, settings: Flows, due: Due) -> None:
        """Begin a walk that records what is ``due``."""
        self._clock, self._settings = clock, settings
        # While the program counts, flows that are younger than the clock's reading are the next daemon's to record.
        self._active = _NEVER if due.whole == "stopped" else clock.ago(0.0 if due.whole else due.active)
        self._going_on = REASONS.index(due.whole or "active")
        self._due.count = 0
        self.live = NOTHING if due.look else None

    def take(self, block: Block, slots: Records, gone: Mask) -> None:
        """Record of a block's ``slots`` those that are ``gone``, and those that have gone on for so long.

        Raises:
            MapError: the kernel refused.

        """
        if self.live is not None:
            self.live = plus(self.live, self._recorded_of(block.places, slots, ~gone))
        rows = self._lately_gone(slots, gone)
        if len(rows):
            self._due.add(block, rows, gone)
        if self._active:
            rows = self._going_on_for_long(block, slots, gone)
            _begin_parts(block, slots, rows)
            self._due.add(block, rows, gone)
        if self._due.count >= CHUNK:
            self._record(int(block.places[-1]) + 1)

    def end_walk(self) -> None:
        """Record what is left of the flows that have been taken. Raises MapError."""
        if self._due.count:
            self._record(self._arrays[0].size)
        self._noted = None

    def end(self) -> Records:
        """End the drain; return the records since the latest call: FLOW_RECORD, shape (N,)."""
        self._drained = self._clock, self._settings
        return self._made.take()

    def _map(self) -> _Noted:
        if self._noted is None:
            self._noted = _Noted(*self._arrays)
        return self._noted

    def _recorded_of(self, places: Places, slots: Records, live: Mask) -> Counts:
        """Return what was recorded before this drain of the flows that are ``live``."""
        counts = self._map().at(places).counts
        rows = np.flatnonzero(live & (counts["first_seen"] == slots["first_seen"]))
        return by_direction(slots["key"]["flags"][rows], counts["packets"][rows], counts["bytes"][rows])

    def _lately_gone(self, slots: Records, gone: Mask) -> Rows:
        """Return the rows of flows that are ``gone``, but for those that the latest drain has recorded as such."""
        rows = np.flatnonzero(gone)
        if len(rows) and self._drained is not None and self._drained[1] == self._settings:
            rows = rows[~has_expired(slots["last_seen"][rows], slots["tcp_flags"][rows], *self._drained)]
        return rows

    def _going_on_for_long(self, block: Block, slots: Records, gone: Mask) -> Rows:
        """Return the rows of live flows whose part is long enough, and that may have counted anything in it."""
        rows = np.flatnonzero(~gone & (slots["first_seen"] < self._active))
        if not len(rows):
            return rows
        until = self._map().until[block.places[rows]]
        long = until < self._active
        rows, until = rows[long], until[long]
        late = self._clock.ticks(LATE)
        some = slots["last_seen"][rows] + np.uint64(late) >= until
        some |= slots["tcp_flags"][rows] & np.uint64(SLOT_DROPS) != 0
        return rows[some]

    def _record(self, reached: int) -> None:
        """Record what is due; the walk has reached this slot."""
        places, slots, gone = self._due.take()
        dropped = np.zeros(len(places), FLOW_DROPS)
        if self._drops:
            rows = np.flatnonzero(slots["tcp_flags"] & np.uint64(SLOT_DROPS))
            rows = rows[np.argsort(places[rows])]
            if len(rows):
                dropped[rows] = self._drops.at(places[rows])
        noted = self._map()
        reasons = np.where(gone, reasons_of(slots), self._going_on).astype(np.uint8)
        records, rows = part_of(slots, dropped, noted.at(places), reasons)
        self._made.add(records, reached / self._arrays[0].size)
        if self.live is not None:
            on = ~gone[rows]
            self.live = plus(self.live, by_direction(*(records[name][on] for name in ("flags", "packets", "bytes"))))
        places, slots, dropped = (chosen(each, rows) for each in (places, slots, dropped))
        note(noted.counts, places, slots, dropped)
        noted.until[places] = self._clock.now.jiffies


def _begin_parts(block: Block, slots: Records, rows: Rows) -> None:
    """Have the flows in ``rows`` begin a part: with the flags that have come since the block was copied.

    A byte is stored, so that the program's atomic OR of the word loses no other. A flag that has come since, and is
    in the copy, too, is taken for that one, as is one that comes between reading and writing here: microseconds.
    """
    flags = (slots["tcp_flags"][rows] >> np.uint64(PART_FLAGS_SHIFT)).astype(np.uint8)
    with_flags = np.flatnonzero(flags)
    if not len(with_flags):
        return
    sets, ways = np.divmod(block.places[rows[with_flags]], WAYS)
    where = sets - block.first, CACHE_HEAD.itemsize + ways * slots.dtype.itemsize + _PART_FLAGS
    block.sets.view(np.uint8)[where] &= ~flags[with_flags]
