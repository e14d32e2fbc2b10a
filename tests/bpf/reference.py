"""The packet parser once more, in plain Python: what the program in C must make of any frame.

It shares nothing with ``cnf``, so that a mistake has to be made twice to go unseen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

Family = Literal["ipv4", "ipv6"]
Reason = Literal["truncated", "bad_header", "vlan_depth", "ext_header_depth"]
TRUNCATED: Final = "truncated"
BAD_HEADER: Final = "bad_header"
VLAN_DEPTH: Final = "vlan_depth"
EXT_HEADER_DEPTH: Final = "ext_header_depth"

ETHERNET: Final = struct.Struct("!12xH")  # type of what follows
VLAN_TAG: Final = struct.Struct("!HH")  # priority and id, type of what follows
IPV4: Final = struct.Struct("!BxH2xHxB2x4s4s")  # version and length, total length, fragment, protocol, addresses
IPV6: Final = struct.Struct("!B3xHBx16s16s")  # version, payload length, next header, addresses
OPTIONS: Final = struct.Struct("!BB6x")  # next header, length in units of 8 bytes beyond the first 8
FRAGMENT: Final = struct.Struct("!BxH4x")  # next header, offset and flags
TCP: Final = struct.Struct("!HH8xBB6x")  # ports, data offset, flags
TYPE_OR_PORTS: Final = {  # the two fields that stand as ports in a key
    "udp": struct.Struct("!HH4x"),
    "sctp": struct.Struct("!HH8x"),
    "icmp": struct.Struct("!BB6x"),
    "icmpv6": struct.Struct("!BB2x"),
}

OPENED: Final = 0x200
"""Beside a flow's TCP flags: its first packet was a SYN without ACK."""
ETHERTYPE_IPV4: Final = 0x0800
ETHERTYPE_IPV6: Final = 0x86DD
ETHERTYPES_VLAN: Final = (0x8100, 0x88A8)
MOST_VLANS: Final = 2
MOST_TAGS: Final = 374
IPV4_VERSION: Final = 4
IPV6_VERSION: Final = 6
FRAGMENT_HEADER: Final = 44
EXTENSION_HEADERS: Final = (0, 43, FRAGMENT_HEADER, 60)
MOST_EXTENSION_HEADERS: Final = 184
LABELS: Final = {6: "tcp", 17: "udp", 47: "gre", 50: "esp", 132: "sctp"}
FAMILY_LABELS: Final = {("ipv4", 1): "icmp", ("ipv6", 58): "icmpv6"}


class Key(NamedTuple):
    """A flow: addresses in network order; ICMP's type and code stand as source and destination port."""

    family: Family
    src_addr: bytes
    dst_addr: bytes
    src_port: int
    dst_port: int
    protocol: int
    vlan: int | None
    fragment: bool


class Value(NamedTuple):
    """What a flow has counted; ``tcp_flags`` is the OR over its packets, and OPENED if the first was SYN alone."""

    packets: int
    bytes: int
    tcp_flags: int


class Outcome(NamedTuple):
    """What one frame is counted as: ``reason`` stands for malformed frames only, ``key`` for flows only."""

    label: str
    reason: Reason | None
    key: Key | None
    tcp_flags: int


@dataclass(frozen=True)
class Tally:
    """All tables and counters after some frames, without the zeros."""

    flows: dict[Key, Value]
    received: dict[str, tuple[int, int]]
    unparsed: dict[str, int]


def tally(frames: Iterable[bytes]) -> Tally:
    """Return what the datapath must hold after ``frames``."""
    total = Tally({}, {}, {})
    for frame in frames:
        label, reason, key, tcp_flags = parse(frame)
        packets, octets = total.received.get(label, (0, 0))
        total.received[label] = (packets + 1, octets + len(frame))
        if reason is not None:
            total.unparsed[reason] = total.unparsed.get(reason, 0) + 1
        if key is not None:
            flow = total.flows.get(key, Value(0, 0, first_flags(tcp_flags)))
            total.flows[key] = Value(flow.packets + 1, flow.bytes + len(frame), flow.tcp_flags | tcp_flags)
    return total


def first_flags(tcp_flags: int) -> int:
    """Return what a flow begins with whose first packet has these TCP flags."""
    return tcp_flags | OPENED * (tcp_flags & 0x12 == 0x02)


def parse(frame: bytes) -> Outcome:
    """Return what ``frame``, which starts with its Ethernet header, is counted as. Never raises."""
    try:
        return _ethernet(_Cursor(frame))
    except _MalformedError as error:
        return Outcome("malformed", error.reason, None, 0)


class _MalformedError(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class _Cursor:
    """A place in a packet, and where the packet ends."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)

    def need(self, size: int) -> None:
        """Refuse the packet unless ``size`` more bytes are there."""
        if size > self._end - self._at:
            raise _MalformedError(TRUNCATED)

    def skip(self, size: int) -> None:
        """Step over ``size`` bytes."""
        self.need(size)
        self._at += size

    def take(self, header: struct.Struct) -> tuple[Any, ...]:
        """Step over ``header`` and return its fields."""
        at = self._at
        self.skip(header.size)
        return header.unpack_from(self._data, at)

    def end_after(self, size: int) -> None:
        """Let the packet end ``size`` bytes from here: what lies behind is padding."""
        self.need(size)
        self._end = self._at + size


def _ethernet(cursor: _Cursor) -> Outcome:
    (ethertype,) = cursor.take(ETHERNET)
    tags: list[int] = []
    while ethertype in ETHERTYPES_VLAN:
        if len(tags) == MOST_TAGS:
            raise _MalformedError(VLAN_DEPTH)
        tag, ethertype = cursor.take(VLAN_TAG)
        tags.append(tag & 0x0FFF)
    if sum(vlan != 0 for vlan in tags) > MOST_VLANS:  # a priority tag is none
        raise _MalformedError(VLAN_DEPTH)
    vlan = tags[0] if tags else None
    if ethertype == ETHERTYPE_IPV4:
        return _ipv4(cursor, vlan)
    if ethertype == ETHERTYPE_IPV6:
        return _ipv6(cursor, vlan)
    return Outcome("non_ip", None, None, 0)


def _ipv4(cursor: _Cursor, vlan: int | None) -> Outcome:
    version_and_length, total_length, fragment, protocol, src, dst = cursor.take(IPV4)
    version, header_length = version_and_length >> 4, (version_and_length & 0x0F) * 4
    if version != IPV4_VERSION or header_length < IPV4.size:
        raise _MalformedError(BAD_HEADER)
    cursor.skip(header_length - IPV4.size)
    if 0 < total_length < header_length:
        raise _MalformedError(BAD_HEADER)
    if total_length != 0:  # else more than 16 bits can say
        cursor.end_after(total_length - header_length)
    later_fragment = fragment & 0x1FFF != 0
    return _transport(cursor, Key("ipv4", src, dst, 0, 0, protocol, vlan, later_fragment))


def _ipv6(cursor: _Cursor, vlan: int | None) -> Outcome:
    version_and_class, payload_length, protocol, src, dst = cursor.take(IPV6)
    if version_and_class >> 4 != IPV6_VERSION:
        raise _MalformedError(BAD_HEADER)
    if payload_length != 0:  # else more than 16 bits can say
        cursor.end_after(payload_length)
    protocol, later_fragment = _extension_headers(cursor, protocol)
    return _transport(cursor, Key("ipv6", src, dst, 0, 0, protocol, vlan, later_fragment))


def _extension_headers(cursor: _Cursor, protocol: int) -> tuple[int, bool]:
    """Walk to the protocol behind the extension headers; return it, and whether this is a later fragment of it."""
    walked = 0
    while protocol in EXTENSION_HEADERS:
        if walked == MOST_EXTENSION_HEADERS:
            raise _MalformedError(EXT_HEADER_DEPTH)
        walked += 1
        if protocol == FRAGMENT_HEADER:
            protocol, fragment = cursor.take(FRAGMENT)
            if fragment >> 3 != 0:
                return protocol, True
        else:
            protocol, length = cursor.take(OPTIONS)
            cursor.skip(length * 8)
    return protocol, False


def _transport(cursor: _Cursor, key: Key) -> Outcome:
    """Complete ``key`` with the ports, or ICMP's type and code, of the header behind the IP headers."""
    label = LABELS.get(key.protocol) or FAMILY_LABELS.get((key.family, key.protocol), "other")
    src_port = dst_port = tcp_flags = 0
    if key.fragment:
        pass
    elif label == "tcp":
        src_port, dst_port, data_offset, tcp_flags = cursor.take(TCP)
        header_length = (data_offset >> 4) * 4
        if header_length < TCP.size:
            raise _MalformedError(BAD_HEADER)
        cursor.need(header_length - TCP.size)
    elif label in TYPE_OR_PORTS:
        src_port, dst_port = cursor.take(TYPE_OR_PORTS[label])
    return Outcome(label, None, key._replace(src_port=src_port, dst_port=dst_port), tcp_flags)
