"""The per-CPU counters of the interfaces: which slot is whose, and their sums."""

from __future__ import annotations

from typing import Final

import numpy as np

from cnf.errors import AttachError
from cnf.kernel.maps import PerCpuArray, Records, add_up
from cnf.records import INTERFACE_COUNTERS, INTERFACE_SLOTS, SLOT_PROBES

UNASSIGNED: Final = 0
"""Stands as ifindex for packets of an interface without a slot; the kernel gives no interface this number."""


class InterfaceCounters:
    """The slots of map ``interface_counters``: ``counters_of()`` of counters.h finds what ``assign()`` wrote."""

    def __init__(self, fd: int) -> None:
        """Take the map behind ``fd``, with every slot free."""
        self._map = PerCpuArray("interface_counters", fd, INTERFACE_COUNTERS)
        self._slots: dict[int, int] = {UNASSIGNED: INTERFACE_SLOTS}

    def assign(self, ifindex: int) -> None:
        """Give ``ifindex`` a zeroed slot, unless it has one; must come before the program is attached there.

        Raises:
            AttachError: all slots that the program would look at are taken.

        """
        if ifindex in self._slots:
            return
        taken = set(self._slots.values())
        candidates = ((ifindex + probe) % INTERFACE_SLOTS for probe in range(SLOT_PROBES))
        slot = next((slot for slot in candidates if slot not in taken), None)
        if slot is None:
            message = f"no counter slot is free for ifindex {ifindex} ({len(taken)} of {INTERFACE_SLOTS} are in use)"
            raise AttachError(message)
        value = np.zeros((), INTERFACE_COUNTERS)
        value["ifindex"] = ifindex
        self._map.write(slot, value)
        self._slots[ifindex] = slot

    def release(self, ifindex: int) -> Records:
        """Free the slot, once the program is off the interface; return its final sums."""
        final = self._sum(ifindex)
        self._map.write(self._slots.pop(ifindex), np.zeros((), INTERFACE_COUNTERS))
        return final

    def read(self) -> dict[int, Records]:
        """Return the sums over all CPUs, shape () of INTERFACE_COUNTERS, by ifindex."""
        return {ifindex: self._sum(ifindex) for ifindex in tuple(self._slots)}

    def _sum(self, ifindex: int) -> Records:
        total = add_up(self._map.read(self._slots[ifindex]))
        total["ifindex"] = ifindex
        total["zero"] = 0
        return total
