"""Flows of one drain: records as a cache of the program's own has them, and each field as a column. Pure numpy.

A slot of a cache becomes a record by being copied. A column is one field of all records, so that to go through it takes
every record's cache line: who needs several columns of many flows goes through ``blocks()``. Nothing is done flow by
flow in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW4_KEY, FLOW6_KEY, FLOW6_SLOT, FLOW_DROPS, FLOW_VALUE, Family
from cnf.arrays import Mask, Records, Rows, allot

KEYS: Final[dict[Family, np.dtype[Any]]] = {"ipv4": FLOW4_KEY, "ipv6": FLOW6_KEY}
"""The kernel's record of a key, by family."""
BLOCK: Final = 1 << 13
"""Rows worked on at a time: they stay in the processor's cache, and intermediate arrays stay small."""

_VALUE_WORDS: Final = (FLOW_VALUE.names or ())[:5]
"""What a record begins with: the last of them is ``tcp_flags``."""
_KEY_COLUMNS: Final = [name for name in FLOW4_KEY.names or () if name != "zero"]


def _record(key: np.dtype[Any], behind: int) -> np.dtype[Any]:
    """Return a slot of a cache with this key, ``behind`` bytes before its end; the rates stand where it has zeros."""
    return np.dtype(
        [
            *((name, "<u8") for name in (FLOW_VALUE.names or ())[:4]),
            ("tcp_flags", "<u2"),
            ("unused", "u1", (2,)),
            ("packet_rate", "<f4"),
            *((name, key[name]) for name in _KEY_COLUMNS),
            ("byte_rate", "<f4"),
            ("zero", "u1", (behind,)),
        ]
    )


RECORDS: Final[dict[Family, np.dtype[Any]]] = {
    "ipv4": _record(FLOW4_KEY, 0),
    "ipv6": _record(FLOW6_KEY, FLOW6_SLOT["zero"].itemsize),
}
"""A flow, by family: FLOW4_SLOT or FLOW6_SLOT, and its rates."""


class KeyColumns:
    """The keys of flows or of records of one family, as a filter takes them (``cnf.filter.predicates.Keyed``).

    ``src_addr`` and ``dst_addr`` hold the address's bytes in network order: shape (N,) u4 for IPv4, (N, 2) u8 for
    IPv6. Ports hold type and code for ICMP.
    """

    def __init__(self, family: Family, records: Records) -> None:
        """Show ``records``, with the fields of a key, shape (N,)."""
        self.family: Family = family
        self.src_addr: npt.NDArray[np.unsignedinteger] = records["src_addr"]
        self.dst_addr: npt.NDArray[np.unsignedinteger] = records["dst_addr"]
        self.src_port: npt.NDArray[np.uint16] = records["src_port"]
        self.dst_port: npt.NDArray[np.uint16] = records["dst_port"]
        self.ifindex: npt.NDArray[np.uint32] = records["ifindex"]
        self.vlan: npt.NDArray[np.uint16] = records["vlan"]
        self.protocol: npt.NDArray[np.uint8] = records["protocol"]
        self.flags: npt.NDArray[np.uint8] = records["flags"]

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self.flags)


class FlowColumns(KeyColumns):
    """The flows of one family: arrays of the same length, not written again once published.

    ``first_seen`` and ``last_seen`` are jiffies. ``packet_rate`` and ``byte_rate`` are per second, over the time since
    the previous drain.
    """

    def __init__(self, family: Family, records: Records, dropped: Records) -> None:
        """Show ``records`` of RECORDS, and of each flow what was ``dropped``: FLOW_DROPS, shape (N,)."""
        super().__init__(family, records)
        self.records = records
        self.dropped = dropped
        self.packets: npt.NDArray[np.uint64] = records["packets"]
        self.bytes: npt.NDArray[np.uint64] = records["bytes"]
        self.first_seen: npt.NDArray[np.uint64] = records["first_seen"]
        self.last_seen: npt.NDArray[np.uint64] = records["last_seen"]
        self.tcp_flags: npt.NDArray[np.uint16] = records["tcp_flags"]
        self.dropped_packets: npt.NDArray[np.uint64] = dropped["packets"]
        self.dropped_bytes: npt.NDArray[np.uint64] = dropped["bytes"]
        self.packet_rate: npt.NDArray[np.float32] = records["packet_rate"]
        self.byte_rate: npt.NDArray[np.float32] = records["byte_rate"]

    @property
    def words(self) -> npt.NDArray[np.uint64]:
        """Return the records as words, shape (N, words of a record): numpy copies these faster."""
        return self.records.view(np.uint64).reshape(len(self), self.records.itemsize // 8)

    @classmethod
    def empty(cls, family: Family, capacity: int, expected: int = 0) -> FlowColumns:
        """Return ``capacity`` rows, all zero; memory that is not written to is not taken. See ``allot()``."""
        (records,) = allot(capacity, RECORDS[family], expected=expected)
        (dropped,) = allot(capacity, FLOW_DROPS)
        return cls(family, records, dropped)

    def blocks(self) -> Iterator[tuple[int, FlowColumns]]:
        """Yield all rows as views, BLOCK of them at a time, each time with the number of the first."""
        for start in range(0, len(self), BLOCK):
            rows = slice(start, start + BLOCK)
            yield start, FlowColumns(self.family, self.records[rows], self.dropped[rows])

    def head(self, count: int) -> FlowColumns:
        """Return the first ``count`` rows, as views."""
        return FlowColumns(self.family, self.records[:count], self.dropped[:count])

    def compress(self, keep: Mask) -> FlowColumns:
        """Return the rows where ``keep`` is set, moved to the front of the same memory."""
        if keep.all():
            return self
        count, drops = 0, self.dropped_packets.any()
        for start, block in self.blocks():
            kept = np.flatnonzero(keep[start : start + BLOCK])
            end = count + len(kept)
            self.words[count:end] = block.words[kept]
            if drops:
                self.dropped[count:end] = block.dropped[kept]
            count = end
        return self.head(count)

    def extended(self, capacity: int) -> FlowColumns:
        """Return columns of ``capacity`` rows that start with a copy of these."""
        larger = FlowColumns.empty(self.family, capacity)
        larger.records[: len(self)] = self.records
        larger.dropped[: len(self)] = self.dropped
        return larger

    def fill(self, start: int, keys: Records, values: Records) -> None:
        """Write flows into the rows from ``start``: keys of KEYS, and FLOW_VALUE.

        As in a slot of a cache, all of ``tcp_flags`` is there, also where the packet rate will stand.
        """
        rows = slice(start, start + len(keys))
        for name in _KEY_COLUMNS:
            self.records[name][rows] = keys[name]
        for word, name in enumerate(_VALUE_WORDS):
            self.words[rows, word] = values[name]
        dropped = np.flatnonzero(values["dropped_packets"])  # memory of all others is not taken
        for name in ("packets", "bytes"):
            self.dropped[name][start + dropped] = values[f"dropped_{name}"][dropped]

    def keys(self, rows: Rows) -> Records:
        """Return the rows' keys as the kernel's records."""
        keys = np.zeros(len(rows), KEYS[self.family])
        for name in _KEY_COLUMNS:
            keys[name] = self.records[name][rows]
        return keys


def identity(flows: FlowColumns, row: np.integer) -> bytes:
    """Return what no other flow has: the fields of its key, one after the other."""
    return b"".join(flows.records[name][row].tobytes() for name in _KEY_COLUMNS)
