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
        """Take a datapath's maps, descriptors by name, with every slot free."""
        self._owners = Array("interface_slots", maps["interface_slots"], OWNER)
        self._counters = CounterArray("interface_counters", maps["interface_counters"])
        self._slots: dict[int, int] = {UNASSIGNED: INTERFACE_SLOTS}

    def assign(self, ifindex: int) -> None:
        """Give ``ifindex`` a zeroed slot, unless it has one; must come before the program is attached there.

        Raises:
            AttachError: all slots that the program would look at are taken.

        """
        if ifindex in self._slots:
            return
        candidates = [(ifindex + probe) % INTERFACE_SLOTS for probe in range(SLOT_PROBES)]
        slot = next((slot for slot in candidates if slot not in self._slots.values()), None)
        if slot is None:
            message = f"the {SLOT_PROBES} counter slots that ifindex {ifindex} may have are taken by other interfaces"
            raise AttachError(message)
        for outcome in range(OUTCOMES):
            self._counters.zero(slot * OUTCOMES + outcome)
        self._owners.write(slot, np.array(ifindex, OWNER))
        self._slots[ifindex] = slot

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
        for outcome in range(OUTCOMES):
            count = self._counters.sum(self._slots[ifindex] * OUTCOMES + outcome)
            label = min(outcome, MALFORMED)
            total["packets"][label] += count.packets
            total["bytes"][label] += count.bytes
            if label == MALFORMED:
                total["unparsed"][outcome - MALFORMED] = count.packets
        return total


@dataclass(frozen=True, slots=True)
class TableSums:
    """What a flow table has taken in and refused since the program was loaded."""

    inserted: int
    """Flows."""
    errors: dict[str, Count]
    """Packets and bytes that found no place, by cause."""


class TableCounters:
    """The counters of the flow tables."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._counters = CounterArray("table_counters", maps["table_counters"])

    def read(self, family: Family) -> TableSums:
        """Return the sums over all CPUs of one family's table."""
        first = FAMILIES.index(family) * TABLE_COUNTERS
        *errors, inserted = (self._counters.sum(first + index) for index in range(TABLE_COUNTERS))
        return TableSums(inserted.packets, dict(zip(INSERT_ERRORS, errors, strict=True)))

    def reset(self) -> None:
        """Zero them; only while nothing counts."""
        for index in range(len(FAMILIES) * TABLE_COUNTERS):
            self._counters.zero(index)
