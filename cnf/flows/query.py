"""Answer "which flows": filter, sort and take the largest over both families, and write flows for people's programs."""

from __future__ import annotations

import csv
import io
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.abi import (
    FLOW_FRAGMENT,
    ICMP,
    ICMPV6,
    PROTOCOL_NAMES,
    SCTP,
    TCP,
    UDP,
    UNASSIGNED_INTERFACE,
    VLAN_PRESENT,
)
from cnf.arrays import Mask, Rows
from cnf.clock import WallClock
from cnf.counts import Count
from cnf.errors import UsageError
from cnf.flows.columns import FlowColumns, largest
from cnf.flows.filter.grammar import compile_filter
from cnf.flows.snapshot import Part, Snapshot

SORT_COLUMNS: Final = {
    "bytes": "bytes",
    "packets": "packets",
    "bits_per_second": "byte_rate",
    "bps": "byte_rate",
    "packets_per_second": "packet_rate",
    "pps": "packet_rate",
    "dropped_packets": "dropped_packets",
    "dropped_bytes": "dropped_bytes",
    "first_seen": "first_seen",
    "last_seen": "last_seen",
}
FIELDS: Final = (
    "interface",
    "direction",
    "protocol",
    "src_addr",
    "src_port",
    "dst_addr",
    "dst_port",
    "icmp_type",
    "icmp_code",
    "vlan",
    "fragment",
    "packets",
    "bytes",
    "dropped_packets",
    "dropped_bytes",
    "packets_per_second",
    "bits_per_second",
    "tcp_flags",
    "first_seen",
    "last_seen",
    "ended",
)
TCP_FLAG_LETTERS: Final = (
    (0x02, "S"),
    (0x10, "A"),
    (0x08, "P"),
    (0x01, "F"),
    (0x04, "R"),
    (0x20, "U"),
    (0x40, "E"),
    (0x80, "W"),
)
_NUMBERS: Final = (
    "protocol",
    "flags",
    "vlan",
    "ifindex",
    "src_port",
    "dst_port",
    "tcp_flags",
    "packets",
    "bytes",
    "dropped_packets",
    "dropped_bytes",
    "packet_rate",
    "byte_rate",
)
WITH_PORTS: Final = (TCP, UDP, SCTP)
CHUNK: Final = 1000
"""Flows written at a time: small, so that a large answer takes turns with everything else."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a snapshot's columns, in the order to show them, and what they were chosen from."""

    snapshot: Snapshot
    part: npt.NDArray[np.uint8]
    """Shape (N,): which of the snapshot's parts each flow is of."""
    row: npt.NDArray[np.uint32]
    """Shape (N,): its row there."""
    matched: int
    totals: Count
    """Packets and bytes of all that matched."""

    def flows(self) -> Iterator[dict[str, Any]]:
        """Yield the flows as JSON objects."""
        parts, clock, names = self.snapshot.parts(), self.snapshot.clock, self.snapshot.names
        for start in range(0, len(self.row), CHUNK):
            which, rows = (column[start : start + CHUNK] for column in (self.part, self.row))
            described = {
                number: describe(parts[number], rows[which == number], clock, names)
                for number in np.unique(which).tolist()
            }
            for number in which.tolist():
                yield next(described[number])

    def sum(self, column: str) -> int:
        """Add up a column of the selected flows."""
        parts = enumerate(self.snapshot.parts())
        return sum(int(getattr(part.flows, column)[self.row[self.part == number]].sum()) for number, part in parts)


def select(snapshot: Snapshot, expression: str, sort: str, count: int | None) -> Selection:
    """Return the ``count`` largest flows by ``sort`` (all if None) that match the filter ``expression``.

    Raises:
        UsageError: the expression, or the name of the field.

    """
    if sort not in SORT_COLUMNS:
        raise UsageError(f"flows cannot be sorted by {sort!r}: expected one of {', '.join(SORT_COLUMNS)}")
    matches, column = compile_filter(expression), SORT_COLUMNS[sort]
    parts, rows, keys = [], [], []
    matched, totals = 0, Count()
    for number, part in enumerate(snapshot.parts()):
        flows = part.flows
        mask = matches.mask(flows, snapshot.names) if expression.strip() else None
        matched += len(flows) if mask is None else int(np.count_nonzero(mask))
        totals = totals.plus(Count(*(_sum(column, mask) for column in (flows.packets, flows.bytes))))
        chosen = largest(getattr(flows, column), count, mask).astype(np.uint32)
        parts.append(np.full(len(chosen), number, np.uint8))
        rows.append(chosen)
        keys.append(getattr(flows, column)[chosen])
    order = np.argsort(np.concatenate(keys), kind="stable")[::-1][:count]
    return Selection(snapshot, np.concatenate(parts)[order], np.concatenate(rows)[order], matched, totals)


def describe(part: Part, rows: Rows, clock: WallClock, names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    """Yield the flows in ``rows`` as JSON objects with the keys of FIELDS."""
    flows = part.flows
    icmp_number = ICMP if flows.family == "ipv4" else ICMPV6
    # Whole columns at once: to take numbers from numpy one by one takes three times as long.
    numbers = (getattr(flows, name)[rows].tolist() for name in _NUMBERS)
    addresses = (_addresses(flows, name, rows) for name in ("src_addr", "dst_addr"))
    times = (clock.texts(getattr(flows, name)[rows]) for name in ("first_seen", "last_seen"))
    for flow in zip(*numbers, *addresses, *times, strict=True):
        protocol, flags, vlan, ifindex, src_port, dst_port, tcp, *counts, src_addr, dst_addr, first, last = flow
        packets, octets, dropped_packets, dropped_octets, packet_rate, octet_rate = counts
        fragment = bool(flags & FLOW_FRAGMENT)
        ports = protocol in WITH_PORTS
        icmp = protocol == icmp_number and not fragment
        yield {
            "interface": names.get(ifindex, UNASSIGNED_INTERFACE),
            "direction": "ingress",
            "protocol": PROTOCOL_NAMES.get(protocol) or str(protocol),
            "src_addr": src_addr,
            "src_port": src_port if ports else None,
            "dst_addr": dst_addr,
            "dst_port": dst_port if ports else None,
            "icmp_type": src_port if icmp else None,
            "icmp_code": dst_port if icmp else None,
            "vlan": vlan & 0xFFF if vlan & VLAN_PRESENT else None,
            "fragment": fragment,
            "packets": packets,
            "bytes": octets,
            "dropped_packets": dropped_packets,
            "dropped_bytes": dropped_octets,
            "packets_per_second": round(packet_rate, 3),
            "bits_per_second": round(8 * octet_rate, 3),
            "tcp_flags": tcp_flags(tcp),
            "first_seen": first,
            "last_seen": last,
            "ended": part.ended,
        }


def to_json(name: str, objects: Iterator[dict[str, Any]], rest: Mapping[str, Any]) -> Iterator[str]:
    """Yield one JSON object in pieces: the list ``name`` of objects, then the ``rest``."""
    yield f"{{{json.dumps(name)}: ["
    between = ""
    for each in objects:
        yield between + json.dumps(each)
        between = ", "
    yield "], " + json.dumps(rest)[1:] + "\n"


def to_csv(objects: Iterator[dict[str, Any]], fields: Sequence[str]) -> Iterator[str]:
    """Yield a header line, then a line an object; null is an empty field."""
    line = io.StringIO()
    writer = csv.DictWriter(line, fields, lineterminator="\n")
    writer.writeheader()
    for each in objects:
        writer.writerow({key: str(value).lower() if isinstance(value, bool) else value for key, value in each.items()})
        yield line.getvalue()
        line.seek(0)
        line.truncate()
    yield line.getvalue()


def to_jsonl(objects: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yield a JSON object a line."""
    for each in objects:
        yield json.dumps(each) + "\n"


@cache
def tcp_flags(flags: int) -> str:
    """Return the letters of the flags that are set, SYN first."""
    return "".join(letter for bit, letter in TCP_FLAG_LETTERS if flags & bit)


def address(flows: FlowColumns, column: str, row: int) -> str:
    """Return an address as text."""
    return _addresses(flows, column, np.array([row]))[0]


def _addresses(flows: FlowColumns, column: str, rows: Rows) -> list[str]:
    family, size = (socket.AF_INET, 4) if flows.family == "ipv4" else (socket.AF_INET6, 16)
    packed = getattr(flows, column)[rows].tobytes()
    return [socket.inet_ntop(family, packed[place : place + size]) for place in range(0, len(packed), size)]


def _sum(column: npt.NDArray[np.uint64], mask: Mask | None) -> int:
    return int(column.sum(dtype=np.uint64) if mask is None else column[mask].sum(dtype=np.uint64))
