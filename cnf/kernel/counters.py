"""The per-CPU counters of interfaces and flow tables: which slot is whose, and their sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from cnf.errors import AttachError
from cnf.kernel.maps import Array, CounterArray, Records
from cnf.ledger import Count
from cnf.records import (
    FAMILIES,
    INSERT_ERRORS,
    INTERFACE_COUNTERS,
    INTERFACE_SLOTS,
    MALFORMED,
    OUTCOMES,
    SLOT_COUNTERS,
    SLOT_PROBES,
    TABLE_COUNTERS,
    Family,
)

OWNER: Final = np.dtype("<u4")
UNASSIGNED: Final = 0
"""Stands as ifindex for packets of an interface without a slot; the kernel gives no interface this number."""


class InterfaceCounters:
    """The slots of the interfaces: ``interface_slot()`` of counters.h finds what ``assign()`` wrote."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name, with the slots that they have for interfaces."""
        self._owners = Array("interface_slots", maps["interface_slots"], OWNER)
        self._counters = CounterArray("interface_counters", maps["interface_counters"])
        owners = ((slot, int(self._owners.read(slot)[0])) for slot in range(INTERFACE_SLOTS))
        self._slots = {UNASSIGNED: INTERFACE_SLOTS} | {ifindex: slot for slot, ifindex in owners if ifindex}

    def assign(self, ifindex: int) -> int:
        """Give ``ifindex`` a zeroed slot, unless it has one, and return it; must come before the program is attached.

        Raises:
            AttachError: all slots that the program would look at are taken.

        """
        if ifindex in self._slots:
            return self._slots[ifindex]
        candidates = [(ifindex + probe) % INTERFACE_SLOTS for probe in range(SLOT_PROBES)]
        slot = next((slot for slot in candidates if slot not in self._slots.values()), None)
        if slot is None:
            message = f"the {SLOT_PROBES} counter slots that ifindex {ifindex} may have are taken by other interfaces"
            raise AttachError(message)
        for index in range(SLOT_COUNTERS):
            self._counters.zero(slot * SLOT_COUNTERS + index)
        self._owners.write(slot, np.array(ifindex, OWNER))
        self._slots[ifindex] = slot
        return slot

    def assigned(self) -> dict[int, int]:
        """Return the interfaces that have a slot, each with its slot."""
        return {ifindex: slot for ifindex, slot in self._slots.items() if ifindex != UNASSIGNED}

    def release(self, ifindex: int) -> Records:
        """Free the slot, once the program is off the interface; return its final sums."""
        final = self._sum(ifindex)
        self._owners.write(self._slots.pop(ifindex), np.array(UNASSIGNED, OWNER))
        return final

    def read(self) -> dict[int, Records]:
        """Return the sums over all CPUs, shape () of INTERFACE_COUNTERS, by ifindex."""
        return {ifindex: self._sum(ifindex) for ifindex in tuple(self._slots)}

    def _sum(self, ifindex: int) -> Records:
        total = np.zeros((), INTERFACE_COUNTERS)
        first = self._slots[ifindex] * SLOT_COUNTERS
        for outcome in range(OUTCOMES):
            count = self._counters.sum(first + outcome)
            label = min(outcome, MALFORMED)
            total["packets"][label] += count.packets
            total["bytes"][label] += count.bytes
            if label == MALFORMED:
                total["unparsed"][outcome - MALFORMED] = count.packets
        for reason in range(SLOT_COUNTERS - OUTCOMES):
            count = self._counters.sum(first + OUTCOMES + reason)
            total["dropped_packets"][reason], total["dropped_bytes"][reason] = count
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
