"""The per-CPU counters of interfaces and flow tables: which slot is whose, and their sums."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from cnf.abi import (
    DIRECTIONS,
    FAMILIES,
    INSERT_ERRORS,
    INTERFACE,
    INTERFACE_COUNTERS,
    MALFORMED,
    OUTCOMES,
    SLOT_COUNTERS,
    TABLE_COUNT,
    TABLE_COUNTERS,
    Direction,
    Family,
)
from cnf.arrays import Records
from cnf.counts import Count, total
from cnf.errors import AttachError
from cnf.kernel import libbpf
from cnf.kernel.maps import CounterArray, DirectArray, FlowMap

UNASSIGNED: Final = 0
"""The ifindex under which packets of interfaces without a slot stand; the kernel gives no interface this number."""

_IFINDEX: Final = np.dtype("<u4")


class InterfaceCounters:
    """The slots of the interfaces: ``interface_find()`` of counters.h finds what ``assign()`` and ``join()`` wrote."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name, with the slots that they have for interfaces.

        Raises:
            MapError: the kernel refused to read them.

        """
        self._interfaces = FlowMap("interfaces", maps["interfaces"], _IFINDEX, INTERFACE)
        self._direct = DirectArray("interfaces_direct", maps["interfaces_direct"], INTERFACE)
        self._places = len(self._direct)
        self._counters = CounterArray("interface_counters", maps["interface_counters"])
        self._sent = CounterArray("interface_sent", maps["interface_sent"]) if "interface_sent" in maps else None
        self.room = libbpf.map_info(maps["interface_counters"]).max_entries // SLOT_COUNTERS - 1
        """The number of interfaces that can have a slot; the slot of this number counts for all others."""
        self._slots: dict[int, int] = {}
        """Slots by ifindex, of all interfaces but members."""
        self.members: dict[int, int] = {}
        """By ifindex of a member of a bond, the ifindex of the bond that it is counted as."""
        self._at: dict[int, list[int]] = {}
        """Interfaces by their lowest bits; where several share these, the array finds the first."""
        for _ifindexes, values in self._interfaces.batches():
            for ifindex, slot, counted_as, _no_ethernet in values.tolist():
                self._at.setdefault(ifindex % self._places, []).append(ifindex)
                if ifindex == counted_as:
                    self._slots[ifindex] = slot
                else:
                    self.members[ifindex] = counted_as
        self._free: list[int] = sorted({*range(self.room)} - {*self._slots.values()})
        self._lock = threading.Lock()
        """Held to write the array: who captures does so from another thread."""
        self._hidden = False
        self.hide(hidden=False)  # a daemon that was killed while somebody captured has left them so

    def hide(self, *, hidden: bool) -> None:
        """Have no interface found in the array, so that the short way takes no packet; or have them found again.

        Raises:
            MapError: the kernel refused.

        """
        with self._lock:
            self._hidden = hidden
            for place, (first, *_others) in self._at.items():
                is_there = bool(self._direct.read(place)["ifindex"])
                if is_there == hidden and (value := self._interfaces.get(np.array(first, _IFINDEX))) is not None:
                    self._write(place, value)

    def assign(self, ifindex: int, *, ethernet: bool = True) -> int:
        """Give ``ifindex`` a zeroed slot, unless it has one, and return it; must come before the program is attached.

        Without ``ethernet`` its frames begin with the IP header, which a program of TC has to know.

        Raises:
            AttachError: all slots are taken.
            MapError: the kernel refused.

        """
        if ifindex in self._slots:
            return self._slots[ifindex]
        self.leave(ifindex)
        self._make_room()
        slot = self._free[0]
        self._counters.zero_range(slot * SLOT_COUNTERS, SLOT_COUNTERS)
        if self._sent:
            self._sent.zero_range(slot * OUTCOMES, OUTCOMES)
        self._put(ifindex, slot, ifindex, ethernet=ethernet)
        self._slots[ifindex] = heapq.heappop(self._free)
        return slot

    def join(self, member: int, ifindex: int) -> None:
        """Count the packets of ``member``, which has no slot, as those of ``ifindex``, which has one.

        Raises:
            AttachError: as many interfaces are counted as there may be.
            MapError: the kernel refused.

        """
        self.leave(member)
        self._make_room()
        self._put(member, self._slots[ifindex], ifindex)
        self.members[member] = ifindex

    def assigned(self) -> dict[int, int]:
        """Return the interfaces that have a slot of their own, each with its slot."""
        return dict(self._slots)

    def has_ethernet(self, ifindex: int) -> bool:
        """Return whether the interface's frames have an Ethernet header. Raises MapError."""
        value = self._interfaces.get(np.array(ifindex, _IFINDEX))
        return value is None or not value["no_ethernet"]

    def release(self, ifindex: int) -> Records:
        """Free the slot, once the program is off the interface and its members; return its final sums."""
        for member in [member for member, counted_as in self.members.items() if counted_as == ifindex]:
            self.leave(member)
        final = self.read_one(ifindex)
        self._remove(ifindex)
        heapq.heappush(self._free, self._slots.pop(ifindex))
        return final

    def leave(self, member: int) -> None:
        """Count the packets of ``member`` as those of another interface no longer, if they are."""
        if member in self.members:
            self._remove(member)
            del self.members[member]

    def read_one(self, ifindex: int) -> Records:
        """Return the sums over all CPUs of one interface, shape () of INTERFACE_COUNTERS."""
        sums: Records = self._sums(self._slots[ifindex], 1)[0]
        return sums

    def read(self) -> dict[int, Records]:
        """Return the sums over all CPUs, shape () of INTERFACE_COUNTERS, by ifindex."""
        slots = tuple(self._slots.items())
        sums = self._sums(0, 1 + max((slot for _, slot in slots), default=0))
        return {ifindex: sums[slot] for ifindex, slot in slots} | {UNASSIGNED: self._sums(self.room, 1)[0]}

    def _make_room(self) -> None:
        if len(self._slots) + len(self.members) >= self.room:
            message = f"{self.room} interfaces are counted already"
            raise AttachError(message, remedy=f"raise max_interfaces, it is {self.room}, and restart cnfd")

    def _put(self, ifindex: int, slot: int, counted_as: int, *, ethernet: bool = True) -> None:
        value = np.array((ifindex, slot, counted_as, not ethernet), INTERFACE)
        self._interfaces.put(np.array(ifindex, _IFINDEX), value)
        with self._lock:
            same = self._at.setdefault(ifindex % self._places, [])
            if not same:
                self._write(ifindex % self._places, value)
            same.append(ifindex)

    def _remove(self, ifindex: int) -> None:
        """Remove the interface, so that the array finds the next one with the same lowest bits."""
        place = ifindex % self._places
        with self._lock:
            others = [each for each in self._at[place] if each != ifindex]
            value = self._interfaces.get(np.array(others[0], _IFINDEX)) if others else None
            self._write(place, np.zeros((), INTERFACE) if value is None else value)
            error = self._interfaces.take(np.array([ifindex], _IFINDEX)).error
            if error is not None:
                raise error
            if others:
                self._at[place] = others
            else:
                del self._at[place]

    def _write(self, place: int, value: Records) -> None:
        """Set an element of the array; of one that is hidden all but the word by which it is found."""
        value = value.copy()
        if self._hidden:
            value["ifindex"] = value["slot"] = 0
        self._direct.write(place, value)

    def _sums(self, first: int, count: int) -> Records:
        """Return the sums of ``count`` slots from ``first`` on: INTERFACE_COUNTERS, shape (count,)."""
        received = self._counters.sums(first * SLOT_COUNTERS, count * SLOT_COUNTERS).reshape(count, SLOT_COUNTERS)
        sums = np.zeros(count, INTERFACE_COUNTERS)
        for field in ("packets", "bytes"):
            sums[field] = _by_label(received[field])
            sums[f"dropped_{field}"] = received[field][:, OUTCOMES:]
        sums["unparsed"] = received["packets"][:, MALFORMED:OUTCOMES]
        if self._sent:
            sent = self._sent.sums(first * OUTCOMES, count * OUTCOMES).reshape(count, OUTCOMES)
            for field in ("packets", "bytes"):
                sums[f"sent_{field}"] = _by_label(sent[field])
            sums["sent_unparsed"] = sent["packets"][:, MALFORMED:OUTCOMES]
        return sums


def _by_label(outcomes: Records) -> Records:
    """Return counts by outcome, shape (N, OUTCOMES or more), by protocol label: shape (N, len(PROTOCOL_LABELS))."""
    malformed = outcomes[:, MALFORMED:OUTCOMES].sum(axis=1)
    return np.column_stack((outcomes[:, :MALFORMED], malformed))


@dataclass(frozen=True, slots=True)
class TableSums:
    """Counts of one table since its maps were made."""

    inserted: int
    """Flows, or sources, that the table has taken in."""
    errors: dict[str, Count]
    """Packets and bytes whose flow or source the table had no room for, by cause."""
    expired: Count
    """Counts of expired flows whose slots a cache has given to others."""
    expired_entries: int
    evicted: Count
    """The same of flows that had not expired."""
    evicted_entries: int


def packets_by_cause(sums: Iterable[TableSums]) -> dict[str, int]:
    """Return the packets of insert errors, by cause, of all ``sums`` together."""
    sums = list(sums)
    return {cause: sum(each.errors[cause].packets for each in sums) for cause in INSERT_ERRORS}


class TableCounters:
    """The counters of the tables of flows and sources."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._counters = CounterArray("table_counters", maps["table_counters"])

    def read(self, family: Family, directions: Iterable[Direction] = DIRECTIONS) -> TableSums:
        """Return the sums over all CPUs of one family's flow table, about the flows of these directions."""
        return self._read(FAMILIES.index(family), directions)

    def read_sources(self, family: Family) -> TableSums:
        """Return the sums of one family's table of sources, which are all of what is received."""
        return self._read(len(FAMILIES) + FAMILIES.index(family), ("ingress",))

    def _read(self, table: int, directions: Iterable[Direction]) -> TableSums:
        starts = [(DIRECTIONS.index(direction) * TABLE_COUNT + table) * TABLE_COUNTERS for direction in directions]
        *errors, inserted, expired, expired_entries, evicted, evicted_entries = (
            total(self._counters.sum(start + index) for start in starts) for index in range(TABLE_COUNTERS)
        )
        return TableSums(
            inserted=inserted.packets,
            errors=dict(zip(INSERT_ERRORS, errors, strict=True)),
            expired=expired,
            expired_entries=expired_entries.packets,
            evicted=evicted,
            evicted_entries=evicted_entries.packets,
        )
