"""Flows of one drain as columns, an array a field. Pure numpy; nothing is done flow by flow in Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW4_KEY, FLOW6_KEY, Family
from cnf.arrays import Mask, Rows, allot

KEYS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_KEY, "ipv6": FLOW6_KEY}
"""The kernel's record of a key, by family."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowColumns:
    """The flows of one family: arrays of the same length, not written again once published.

    A column with the name of a field of the kernel's records is filled from that field.
    ``src_addr`` and ``dst_addr`` hold the address's bytes in network order: shape (N,) u4 for IPv4, (N, 2) u8 for
    IPv6. Ports, in host order, hold type and code for ICMP. ``first_seen`` and ``last_seen`` are jiffies.
    ``packet_rate`` and ``byte_rate`` are per second, over the time since the previous drain.
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
    tcp_flags: npt.NDArray[np.uint16]
    dropped_packets: npt.NDArray[np.uint64]
    dropped_bytes: npt.NDArray[np.uint64]
    packet_rate: npt.NDArray[np.float32]
    byte_rate: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, family: Family, capacity: int) -> FlowColumns:
        """Return columns of ``capacity`` rows, all zero; memory that is not written to is not taken."""
        return cls(family, *allot(capacity, *_DTYPES[family]))

    def __len__(self) -> int:
        """Return the number of flows."""
        return len(self.packets)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return every column by its name."""
        return {name: getattr(self, name) for name in _HINTS}

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
        """Write the kernel's records into the rows from ``start``; fields without a column are left out."""
        rows = slice(start, start + len(keys))
        for records in (keys, values):
            for name in _HINTS.keys() & set(records.dtype.names or ()):
                getattr(self, name)[rows] = records[name]

    def keys(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the rows' keys as the kernel's records."""
        keys = np.zeros(len(rows), KEYS[self.family])
        for name in _KEY_COLUMNS:
            keys[name] = getattr(self, name)[rows]
        return keys


_HINTS: Final = {name: hint for name, hint in get_type_hints(FlowColumns).items() if name != "family"}
_KEY_COLUMNS: Final = [name for name in _HINTS if name in (FLOW4_KEY.names or ())]


def _dtypes(key: np.dtype[Any]) -> list[Any]:
    """Return each column's dtype: that of its annotation, but an address is as wide as in ``key``."""
    dtypes = {name: get_args(get_args(hint)[1])[0] for name, hint in _HINTS.items()}  # hint: ndarray[..., dtype[...]]
    return list((dtypes | {name: key[name] for name in ("src_addr", "dst_addr")}).values())


_DTYPES: Final = {family: _dtypes(key) for family, key in KEYS.items()}


def identity(flows: FlowColumns, row: np.integer) -> bytes:
    """Return what no other flow has: the fields of its key, one after the other."""
    return b"".join(getattr(flows, name)[row].tobytes() for name in _KEY_COLUMNS)


def largest(column: npt.NDArray[Any], count: int | None, among: Mask | None = None) -> Rows:
    """Return the rows of the ``count`` largest values (all if None), largest first, of rows in ``among``."""
    rows = np.arange(len(column)) if among is None else np.flatnonzero(among)
    values = column if among is None else column[rows]
    if count is not None and count < len(values):
        chosen = np.argpartition(values, len(values) - count)[len(values) - count :] if count else np.empty(0, np.intp)
        rows, values = rows[chosen], values[chosen]
    return rows[np.argsort(values, kind="stable")[::-1]]
