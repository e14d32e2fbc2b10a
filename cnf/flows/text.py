"""Flows as people and programs read them: names, addresses, letters, times."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import numpy as np

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
from cnf.arrays import Rows
from cnf.clock import WallClock
from cnf.flows.columns import FlowColumns
from cnf.flows.snapshot import Part

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
