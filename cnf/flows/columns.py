"""Flows of one drain as columns, and what is computed from them: identities, differences, expiry, the largest.

Pure numpy; nothing is done flow by flow in Python.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW4_KEY, FLOW6_KEY, Family
from cnf.arrays import Mask, Rows, allot
from cnf.clock import WallClock

TCP_FIN: Final = 0x01
TCP_RST: Final = 0x04

BLOCK: Final = 1 << 16
"""Rows that are worked on at a time, where what is needed on the way would otherwise be as large as the columns."""

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

# Odd multipliers, drawn at start: nobody outside can make two keys' identities meet.
_MULTIPLIERS: Final = tuple(np.uint64(secrets.randbits(64) | 1) for _ in range(7))


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


def identities(keys: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each key: products with secret odd numbers, summed and mixed."""
    words = keys.view(np.uint64).reshape(len(keys), keys.itemsize // 8)
    total = np.zeros(len(keys), np.uint64)
    for index in range(words.shape[1]):
        word = words[:, index]
        total += (word ^ (word >> np.uint64(32))) * _MULTIPLIERS[index]
    total ^= total >> np.uint64(29)
    total *= _MULTIPLIERS[-1]
    total ^= total >> np.uint64(32)
    return total


class Match(NamedTuple):
    """Flows, and where those of another drain stand that may be the same; arrays of the same length."""

    rows: npt.NDArray[np.integer]
    rows_before: npt.NDArray[np.integer]
    found: Mask
    """Where it is not set, there is none."""


class Index:
    """Flows in the order of their identities, to find those of another drain among them."""

    def __init__(self, identity: npt.NDArray[np.uint64]) -> None:
        """Sort the identities, shape (N,), of the rows of a FlowColumns."""
        self.order, self.identities = allot(len(identity), np.uint32, np.uint64)
        self.order[:] = np.argsort(identity)
        self.identities[:] = identity[self.order]

    def compress(self, keep: Mask) -> None:
        """Follow ``FlowColumns.compress(keep)``."""
        kept = keep[self.order]
        moved_to = np.cumsum(keep, dtype=np.uint32) - np.uint32(1)
        count = int(np.count_nonzero(kept))
        self.order[:count] = moved_to[self.order[kept]]
        self.identities[:count] = self.identities[kept]
        self.order, self.identities = self.order[:count], self.identities[:count]

    def duplicates(self, flows: FlowColumns) -> Rows:
        """Return rows whose key stands in another row too: all but one of each key."""
        again = np.flatnonzero(self.identities[1:] == self.identities[:-1])
        earlier, later = self.order[again].astype(np.intp), self.order[again + 1].astype(np.intp)
        rows: Rows = earlier[flows.keys(earlier) == flows.keys(later)]
        return rows

    def matches(self, before: Index) -> Iterator[Match]:
        """Find every flow among those ``before``."""
        for start in range(0, len(self.order), BLOCK):
            rows, identity = (column[start : start + BLOCK] for column in (self.order, self.identities))
            where = np.searchsorted(before.identities, identity)
            where[where == len(before.order)] = 0
            yield Match(rows, before.order[where], before.identities[where] == identity)


class Places:
    """Flows in the order of their places in a table that moves none."""

    def __init__(self, places: npt.NDArray[np.uint32]) -> None:
        """Take the places, ascending, of the rows of a FlowColumns."""
        self.places = places

    def matches(self, before: Places) -> Iterator[Match]:
        """Find what stood ``before`` in the place of every flow: the same flow, if it was first seen at the same time.

        A drain within the very tick in which a flow comes and makes room again could take the next for the same.
        """
        for start in range(0, len(self.places), BLOCK):
            places = self.places[start : start + BLOCK]
            first, end = places[0], int(places[-1]) + 1
            low, high = np.searchsorted(before.places, np.array((first, end), before.places.dtype))
            row_of = np.full(end - int(first), -1, np.int32)
            row_of[before.places[low:high] - first] = np.arange(low, high)
            rows_before = row_of[places - first]
            yield Match(np.arange(start, start + len(places)), rows_before, rows_before >= 0)


def set_rates(flows: FlowColumns, before: FlowColumns, matches: Iterable[Match], seconds: float) -> None:
    """Fill in the rates of ``flows`` from the counts that the same flows had ``seconds`` before.

    A flow that was not there counts in whole; so does one that has been made anew: its first packet came later.
    """
    for rows, rows_before, found in matches if len(before) else _no_matches(flows):
        same = found.copy()
        same[found] = flows.first_seen[rows[found]] == before.first_seen[rows_before[found]]
        for now, then, rate in (
            (flows.packets, before.packets, flows.packet_rate),
            (flows.bytes, before.bytes, flows.byte_rate),
        ):
            increase = now[rows]
            previous = then[rows_before[same]]
            previous[previous > increase[same]] = 0
            increase[same] -= previous
            rate[rows] = increase / seconds


def _no_matches(flows: FlowColumns) -> Iterator[Match]:
    rows = np.arange(len(flows))
    yield Match(rows, rows, np.zeros(len(flows), np.bool_))


def over(
    last_seen: npt.NDArray[np.uint64], tcp_flags: npt.NDArray[Any], clock: WallClock, idle: float, ended: float
) -> Mask:
    """Mark flows without a packet for ``idle`` seconds, or for ``ended`` seconds once FIN or RST was seen."""
    age = clock.age_ticks(last_seen)
    finished = (tcp_flags & tcp_flags.dtype.type(TCP_FIN | TCP_RST)) != 0
    mask: Mask = (age > clock.ticks(idle)) | (finished & (age > clock.ticks(min(idle, ended))))
    return mask


def largest(column: npt.NDArray[Any], count: int | None, among: Mask | None = None) -> Rows:
    """Return the rows of the ``count`` largest values (all if None), largest first, of rows in ``among``."""
    rows = np.arange(len(column)) if among is None else np.flatnonzero(among)
    values = column if among is None else column[rows]
    if count is not None and count < len(values):
        chosen = np.argpartition(values, len(values) - count)[len(values) - count :] if count else np.empty(0, np.intp)
        rows, values = rows[chosen], values[chosen]
    return rows[np.argsort(values, kind="stable")[::-1]]
