"""The per-CPU counters of interfaces and flow tables: which slot is whose, and their sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from cnf.errors import AttachError
from cnf.kernel import libbpf
from cnf.kernel.maps import Array, CounterArray, FlowMap, Records
from cnf.ledger import Count
from cnf.records import (
    FAMILIES,
    INSERT_ERRORS,
    INTERFACE,
    INTERFACE_COUNTERS,
    MALFORMED,
    OUTCOMES,
    SLOT_COUNTERS,
    TABLE_COUNTERS,
    Family,
)

UNASSIGNED: Final = 0
"""Stands as ifindex for packets of an interface without a slot; the kernel gives no interface this number."""

_IFINDEX: Final = np.dtype("<u4")


class InterfaceCounters:
    """The slots of the interfaces: ``interface_find()`` of counters.h finds what ``assign()`` and ``join()`` wrote."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name, with the slots that they have for interfaces.

        Raises:
            MapError: the kernel refused to read them.

        """
        self._interfaces = FlowMap("interfaces", maps["interfaces"], _IFINDEX, INTERFACE)
        self._direct = Array("interfaces_direct", maps["interfaces_direct"], INTERFACE)
        self._places = libbpf.map_info(maps["interfaces_direct"]).max_entries
        self._counters = CounterArray("interface_counters", maps["interface_counters"])
        self._room = libbpf.map_info(maps["interface_counters"]).max_entries // SLOT_COUNTERS - 1
        self._seats: dict[int, tuple[int, int]] = {
            int(ifindex): (int(value["slot"]), int(value["counted_as"]))
            for ifindexes, values in self._interfaces.batches()
            for ifindex, value in zip(ifindexes, values, strict=True)
        }
        """Slot, and the ifindex that packets are counted as, by ifindex."""

    def assign(self, ifindex: int) -> int:
        """Give ``ifindex`` a zeroed slot, unless it has one, and return it; must come before the program is attached.

        Raises:
            AttachError: all slots are taken.
            MapError: the kernel refused.

        """
        if ifindex in self.assigned():
            return self._seats[ifindex][0]
        taken = set(self.assigned().values())
        slot = next((slot for slot in range(self._room) if slot not in taken), None)
        if slot is None:
            message = (
                f"ifindex {ifindex}: {self._room} interfaces are counted already (raise max_interfaces, and restart)"
            )
            raise AttachError(message)
        for index in range(SLOT_COUNTERS):
            self._counters.zero(slot * SLOT_COUNTERS + index)
        self._seat(ifindex, slot, ifindex)
        return slot

    def join(self, member: int, ifindex: int) -> None:
        """Count the packets of ``member`` as those of ``ifindex``, which has a slot.

        Raises:
            AttachError: as many interfaces are counted as there may be.
            MapError: the kernel refused.

        """
        if member not in self._seats and len(self._seats) >= self._room:
            message = (
                f"ifindex {member}: {self._room} interfaces are counted already (raise max_interfaces, and restart)"
            )
            raise AttachError(message)
        self._seat(member, self._seats[ifindex][0], ifindex)

    def assigned(self) -> dict[int, int]:
        """Return the interfaces that have a slot of their own, each with its slot."""
        return {ifindex: slot for ifindex, (slot, counted_as) in self._seats.items() if ifindex == counted_as}

    def joined(self) -> set[int]:
        """Return the interfaces that are counted as others."""
        return {ifindex for ifindex, (_slot, counted_as) in self._seats.items() if ifindex != counted_as}

    def release(self, ifindex: int) -> Records:
        """Free the slot, once the program is off the interface; return its final sums."""
        final = self._sum(self._seats[ifindex][0])
        self._unseat(ifindex)
        return final

    def leave(self, member: int) -> None:
        """Count the packets of ``member`` as those of another interface no longer."""
        self._unseat(member)

    def read_one(self, ifindex: int) -> Records:
        """Return the sums over all CPUs of one interface, shape () of INTERFACE_COUNTERS."""
        return self._sum(self._seats[ifindex][0])

    def read(self) -> dict[int, Records]:
        """Return the sums over all CPUs, shape () of INTERFACE_COUNTERS, by ifindex."""
        slots = self.assigned() | {UNASSIGNED: self._room}
        return {ifindex: self._sum(slot) for ifindex, slot in slots.items()}

    def _seat(self, ifindex: int, slot: int, counted_as: int) -> None:
        self._seats[ifindex] = slot, counted_as
        self._interfaces.put(np.array(ifindex, _IFINDEX), self._value(ifindex))
        self._renew_direct(ifindex)

    def _unseat(self, ifindex: int) -> None:
        del self._seats[ifindex]
        self._interfaces.take(np.array([ifindex], _IFINDEX))
        self._renew_direct(ifindex)

    def _renew_direct(self, ifindex: int) -> None:
        """Have one of the interfaces with the lowest bits of ``ifindex`` found without the hash map."""
        place = ifindex % self._places
        first = next((each for each in self._seats if each % self._places == place), UNASSIGNED)
        self._direct.write(place, self._value(first))

    def _value(self, ifindex: int) -> Records:
        if ifindex == UNASSIGNED:
            return np.zeros((), INTERFACE)
        slot, counted_as = self._seats[ifindex]
        return np.array((ifindex, slot, counted_as, 0), INTERFACE)

    def _sum(self, slot: int) -> Records:
        total = np.zeros((), INTERFACE_COUNTERS)
        counts = self._counters.sums(slot * SLOT_COUNTERS, SLOT_COUNTERS)
        packets, octets = counts["packets"], counts["bytes"]
        total["packets"][:MALFORMED], total["bytes"][:MALFORMED] = packets[:MALFORMED], octets[:MALFORMED]
        total["packets"][MALFORMED] = packets[MALFORMED:OUTCOMES].sum()
        total["bytes"][MALFORMED] = octets[MALFORMED:OUTCOMES].sum()
        total["unparsed"] = packets[MALFORMED:OUTCOMES]
        total["dropped_packets"], total["dropped_bytes"] = packets[OUTCOMES:], octets[OUTCOMES:]
        return total


@dataclass(frozen=True, slots=True)
class TableSums:
    """What a table has taken in and refused since the program was loaded."""

    inserted: int
    """Flows, or sources."""
    errors: dict[str, Count]
    """Packets and bytes that found no place, by cause."""
    expired: Count
    """What those flows had counted that a cache has let go when they were over."""
    expired_entries: int
    evicted: Count
    """And before."""
    evicted_entries: int


class TableCounters:
    """The counters of the tables of flows and sources."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._counters = CounterArray("table_counters", maps["table_counters"])

    def read(self, family: Family) -> TableSums:
        """Return the sums over all CPUs of one family's flow table."""
        return self._read(FAMILIES.index(family))

    def read_sources(self, family: Family) -> TableSums:
        """Return those of its table of sources."""
        return self._read(len(FAMILIES) + FAMILIES.index(family))

    def _read(self, table: int) -> TableSums:
        first = table * TABLE_COUNTERS
        *errors, inserted, expired, expired_entries, evicted, evicted_entries = (
            self._counters.sum(first + index) for index in range(TABLE_COUNTERS)
        )
        return TableSums(
            inserted=inserted.packets,
            errors=dict(zip(INSERT_ERRORS, errors, strict=True)),
            expired=expired,
            expired_entries=expired_entries.packets,
            evicted=evicted,
            evicted_entries=evicted_entries.packets,
        )

    def reset(self) -> None:
        """Zero them; only while nothing counts."""
        for index in range(2 * len(FAMILIES) * TABLE_COUNTERS):
            self._counters.zero(index)
