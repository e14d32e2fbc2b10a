"""Flows of one drain as columns, and what is computed from them: identities, differences, expiry, the largest.

Pure numpy; nothing is done flow by flow in Python.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW4_KEY, FLOW6_KEY, Family
from cnf.arrays import Mask, Rows, allot

_DTYPES: Final[dict[str, Any]] = {
    "src_port": np.uint16,
    "dst_port": np.uint16,
    "ifindex": np.uint32,
    "vlan": np.uint16,
    "protocol": np.uint8,
    "flags": np.uint8,
    "packets": np.uint64,
    "bytes": np.uint64,
    "first_seen": np.uint64,
    "last_seen": np.uint64,
    "tcp_flags": np.uint8,
    "dropped_packets": np.uint64,
    "dropped_bytes": np.uint64,
    "packet_rate": np.float32,
    "byte_rate": np.float32,
}
_KEY_FIELDS: Final = ("src_addr", "dst_addr", "src_port", "dst_port", "ifindex", "vlan", "protocol", "flags")
_ADDRESSES: Final[dict[Family, Any]] = {"ipv4": np.uint32, "ipv6": (np.uint64, 2)}


@dataclass(frozen=True, slots=True, eq=False)
class FlowColumns:
    """The flows of one family, one array a field, all of the same length, and not written again once published.

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
    dropped_packets: npt.NDArray[np.uint64]
    dropped_bytes: npt.NDArray[np.uint64]
    packet_rate: npt.NDArray[np.float32]
    byte_rate: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, family: Family, capacity: int) -> FlowColumns:
        """Return columns of ``capacity`` rows, all zero; memory that is not written to is not taken."""
        address = _ADDRESSES[family]
        dtypes = {"src_addr": address, "dst_addr": address, **_DTYPES}
        return cls(family, **dict(zip(dtypes, allot(capacity, *dtypes.values()), strict=True)))

    def __len__(self) -> int:
        """Return the number of flows."""
        return len(self.packets)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return every column by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "family"}

    def head(self, count: int) -> FlowColumns:
        """Return the first ``count`` rows, as views."""
        return FlowColumns(self.family, **{name: column[:count] for name, column in self.arrays().items()})

    def compress(self, keep: Mask) -> FlowColumns:
        """Return the rows where ``keep`` is set, moved to the front of the same memory."""
        count = int(np.count_nonzero(keep))
        if count == len(self):
            return self
        for column in self.arrays().values():
            column[:count] = column[keep]
        return self.head(count)

    def extended(self, capacity: int) -> FlowColumns:
        """Return columns of ``capacity`` rows that start with a copy of these."""
        larger = FlowColumns.empty(self.family, capacity)
        for column, longer in zip(self.arrays().values(), larger.arrays().values(), strict=True):
            longer[: len(self)] = column
        return larger

    def fill(self, start: int, keys: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """Write records of the kernel's dtypes into the rows from ``start``, as far as there are columns for them."""
        rows = slice(start, start + len(keys))
        for name in _KEY_FIELDS:
            getattr(self, name)[rows] = keys[name]
        for name in _DTYPES.keys() & set(values.dtype.names or ()):
            getattr(self, name)[rows] = values[name]

    def keys(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the rows' keys as the kernel's records."""
        keys = np.zeros(len(rows), FLOW4_KEY if self.family == "ipv4" else FLOW6_KEY)
        for name in _KEY_FIELDS:
            keys[name] = getattr(self, name)[rows]
        return keys


def largest(column: npt.NDArray[Any], count: int | None, among: Mask | None = None) -> Rows:
    """Return the rows of the ``count`` largest values (all if None), largest first, of rows in ``among``."""
    rows = np.arange(len(column)) if among is None else np.flatnonzero(among)
    values = column if among is None else column[rows]
    if count is not None and count < len(values):
        chosen = np.argpartition(values, len(values) - count)[len(values) - count :] if count else np.empty(0, np.intp)
        rows, values = rows[chosen], values[chosen]
    return rows[np.argsort(values, kind="stable")[::-1]]
