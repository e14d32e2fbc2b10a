"""Flows of one drain as columns, and what is computed from them: differences, expiry, selection. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cnf.records import Family


@dataclass(frozen=True, slots=True, eq=False)
class FlowColumns:
    """The flows of one family, one array a field, all of the same length and never written again.

    ``src_addr`` and ``dst_addr`` hold the address's bytes in network order: shape (N,) u4 for IPv4, (N, 2) u8 for
    IPv6. Ports, in host order, hold type and code for ICMP. ``first_seen`` and ``last_seen`` are jiffies.
    ``packet_rate`` and ``byte_rate`` are per second, over the time since the drain before.
    """

    family: Family
    src_addr: npt.NDArray[np.unsignedinteger]
    dst_addr: npt.NDArray[np.unsignedinteger]
    src_port: npt.NDArray[np.uint16]
    dst_port: npt.NDArray[np.uint16]
    ifindex: npt.NDArray[np.uint32]
    vlan: npt.NDArray[np.uint16]
    protocol: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]
    packets: npt.NDArray[np.uint64]
    bytes: npt.NDArray[np.uint64]
    first_seen: npt.NDArray[np.uint64]
    last_seen: npt.NDArray[np.uint64]
    tcp_flags: npt.NDArray[np.uint8]
    packet_rate: npt.NDArray[np.float32]
    byte_rate: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of flows."""
        return len(self.packets)
