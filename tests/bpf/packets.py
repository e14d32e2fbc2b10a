"""A small packet builder: ``frame(VLAN(5), IPv4(ttl=1), UDP(53, 4000), b"payload")``.

Layers stand in the order of the wire, behind an Ethernet header that ``frame`` writes. Lengths, checksums and the
number by which a header announces the next are computed; what a test wants wrong can be given instead. The checksums of
IPv4, TCP, UDP, ICMP and ICMPv6 are right, so that a real stack answers; SCTP's CRC32c is left 0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

TCP_FLAGS: Final = "FSRPAUEW"
"""Byte 13 of the TCP header, lowest bit first (RFC 9293, 3.1), in tcpdump's letters, with A for its dot."""


def frame(
    *layers: Layer | bytes, dst: str = "02:00:00:00:00:02", src: str = "02:00:00:00:00:01", pad_to: int = 0
) -> bytes:
    """Return an Ethernet frame of ``layers``, without checksum trailer, padded with zeros to ``pad_to`` bytes."""
    stack = [Raw(layer) if isinstance(layer, bytes) else layer for layer in layers] or [Raw()]
    addresses = bytes.fromhex((dst + src).replace(":", ""))
    return (addresses + struct.pack("!H", stack[0].ethertype) + _pack(stack, None)).ljust(pad_to, b"\0")


def _pack(stack: list[Layer], network: Network | None) -> bytes:
    if not stack:
        return b""
    layer, *rest = stack
    payload = _pack(rest, layer if isinstance(layer, Network) else network)
    return layer.header(Place(rest[0] if rest else Raw(), payload, network)) + payload


def checksum(data: bytes) -> int:
    """Return the Internet checksum of ``data`` (RFC 1071)."""
    total = sum(data[0::2]) << 8
    total += sum(data[1::2])
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _put(header: bytes, at: int, value: int) -> bytes:
    """Return ``header`` with the 16-bit ``value`` at byte ``at``."""
    return header[:at] + struct.pack("!H", value) + header[at + 2 :]


class Layer:
    """A header, or bytes, with the numbers that announce it; those here are reserved for experiments."""

    ethertype: int = 0x88B5  # in an Ethernet header or VLAN tag
    protocol: int = 253  # in an IP or extension header

    def header(self, place: Place) -> bytes:
        """Return the bytes of the header alone, as it must be in this place."""
        raise NotImplementedError


@dataclass(frozen=True)
class Place:
    """What a header stands in front of, and inside of."""

    inner: Layer
    payload: bytes
    network: Network | None

    def checksum(self, protocol: int, header: bytes) -> int:
        """Return the checksum over pseudo header, ``header`` and payload; 0 outside of an IP packet."""
        data = header + self.payload
        return checksum(self.network.pseudo_header(protocol, len(data)) + data) if self.network else 0


@dataclass(frozen=True)
class Raw(Layer):
    """Bytes as they are, and the numbers that announce them."""

    data: bytes = b""
    ethertype: int = Layer.ethertype
    protocol: int = Layer.protocol

    def header(self, _: Place) -> bytes:
        """Return the bytes."""
        return self.data


@dataclass(frozen=True)
class VLAN(Layer):
    """A tag, IEEE 802.1Q; with ``ethertype`` 0x88a8 a service tag, 802.1ad."""

    vid: int
    ethertype: int = 0x8100
    priority: int = 0
    drop_eligible: bool = False

    def header(self, place: Place) -> bytes:
        """Return the tag and the type of what it stands in front of."""
        return struct.pack("!HH", self.priority << 13 | self.drop_eligible << 12 | self.vid, place.inner.ethertype)


@dataclass(frozen=True)
class ARP(Layer):
    """A request, or with ``operation`` 2 a reply, RFC 826."""

    ethertype = 0x0806
    operation: int = 1
    sender_mac: str = "02:00:00:00:00:01"
    sender: str = "192.0.2.1"
    target_mac: str = "00:00:00:00:00:00"
    target: str = "192.0.2.2"

    def header(self, _: Place) -> bytes:
        """Return the message."""
        sender = bytes.fromhex(self.sender_mac.replace(":", "")) + IPv4Address(self.sender).packed
        target = bytes.fromhex(self.target_mac.replace(":", "")) + IPv4Address(self.target).packed
        return struct.pack("!HHBBH", 1, 0x0800, 6, 4, self.operation) + sender + target


class Network(Layer):
    """An IP header."""

    def pseudo_header(self, protocol: int, length: int) -> bytes:
        """Return what checksums of an inner header cover besides the packet."""
        raise NotImplementedError


@dataclass(frozen=True)
class IPv4(Network):
    """RFC 791. ``options`` are a multiple of 4 bytes; ``header_length`` counts units of 4, ``offset`` of 8 bytes."""

    ethertype = 0x0800
    protocol = 4
    src: str = "192.0.2.1"
    dst: str = "198.51.100.2"
    options: bytes = b""
    ttl: int = 64
    version: int = 4
    header_length: int | None = None
    total_length: int | None = None
    offset: int = 0
    more: bool = False
    dont_fragment: bool = False
    reserved_bit: bool = False

    def header(self, place: Place) -> bytes:
        """Return header and options, with checksum."""
        size = 20 + len(self.options)
        header_length = size // 4 if self.header_length is None else self.header_length
        total_length = size + len(place.payload) if self.total_length is None else self.total_length
        fragment = self.reserved_bit << 15 | self.dont_fragment << 14 | self.more << 13 | self.offset
        first = struct.pack("!BBHHH", self.version << 4 | header_length, 0, total_length, 1, fragment)
        header = first + struct.pack("!BBH", self.ttl, place.inner.protocol, 0) + self._addresses() + self.options
        return _put(header, 10, checksum(header))

    def pseudo_header(self, protocol: int, length: int) -> bytes:
        """Return that of RFC 9293, 3.1."""
        return self._addresses() + struct.pack("!HH", protocol, length)

    def _addresses(self) -> bytes:
        return IPv4Address(self.src).packed + IPv4Address(self.dst).packed


@dataclass(frozen=True)
class IPv6(Network):
    """RFC 8200."""

    ethertype = 0x86DD
    protocol = 41
    src: str = "2001:db8::1"
    dst: str = "2001:db8::2"
    hop_limit: int = 64
    version: int = 6
    traffic_class: int = 0
    flow_label: int = 0
    payload_length: int | None = None

    def header(self, place: Place) -> bytes:
        """Return the 40 bytes."""
        first = self.version << 28 | self.traffic_class << 20 | self.flow_label
        payload_length = len(place.payload) if self.payload_length is None else self.payload_length
        return struct.pack("!IHBB", first, payload_length, place.inner.protocol, self.hop_limit) + self._addresses()

    def pseudo_header(self, protocol: int, length: int) -> bytes:
        """Return that of RFC 8200, 8.1."""
        return self._addresses() + struct.pack("!II", length, protocol)

    def _addresses(self) -> bytes:
        return IPv6Address(self.src).packed + IPv6Address(self.dst).packed


@dataclass(frozen=True)
class Extension(Layer):
    """An IPv6 extension header of options, RFC 8200, 4.3; ``length`` counts units of 8 bytes beyond the first 8."""

    options: bytes = b"\x01\x04\0\0\0\0"  # PadN
    length: int | None = None

    def header(self, place: Place) -> bytes:
        """Return next header, length and options."""
        length = (2 + len(self.options)) // 8 - 1 if self.length is None else self.length
        return struct.pack("!BB", place.inner.protocol, length) + self.options


class HopByHop(Extension):
    """RFC 8200, 4.3."""

    protocol = 0


class DestinationOptions(Extension):
    """RFC 8200, 4.6."""

    protocol = 60


class Routing(Extension):
    """RFC 8200, 4.4; the options are type, segments left and the rest."""

    protocol = 43


@dataclass(frozen=True)
class Fragment(Layer):
    """RFC 8200, 4.5; ``offset`` counts units of 8 bytes."""

    protocol = 44
    offset: int = 0
    more: bool = False
    reserved: int = 0  # the byte where the other extension headers have their length
    reserved_bits: int = 0

    def header(self, place: Place) -> bytes:
        """Return the 8 bytes."""
        fragment = self.offset << 3 | self.reserved_bits << 1 | self.more
        return struct.pack("!BBHI", place.inner.protocol, self.reserved, fragment, 1)


@dataclass(frozen=True)
class TCP(Layer):
    """RFC 9293. ``options`` are a multiple of 4 bytes; ``data_offset`` counts units of 4 bytes."""

    protocol = 6
    src_port: int = 40000
    dst_port: int = 443
    flags: str = "A"
    seq: int = 1
    ack: int = 0
    window: int = 65535
    options: bytes = b""
    data_offset: int | None = None
    reserved: int = 0

    def header(self, place: Place) -> bytes:
        """Return header and options, with checksum."""
        data_offset = 5 + len(self.options) // 4 if self.data_offset is None else self.data_offset
        flags = sum(1 << TCP_FLAGS.index(letter) for letter in self.flags)
        first = struct.pack("!HHII", self.src_port, self.dst_port, self.seq, self.ack)
        second = struct.pack("!BBHHH", data_offset << 4 | self.reserved, flags, self.window, 0, 0)
        header = first + second + self.options
        return _put(header, 16, place.checksum(self.protocol, header))


@dataclass(frozen=True)
class UDP(Layer):
    """RFC 768."""

    protocol = 17
    src_port: int = 40000
    dst_port: int = 53
    length: int | None = None

    def header(self, place: Place) -> bytes:
        """Return the 8 bytes, with checksum; one that comes out as 0 is sent as its complement."""
        length = 8 + len(place.payload) if self.length is None else self.length
        header = struct.pack("!HHHH", self.src_port, self.dst_port, length, 0)
        return _put(header, 6, place.checksum(self.protocol, header) or 0xFFFF)


@dataclass(frozen=True)
class SCTP(Layer):
    """The common header, RFC 9260, 3.1."""

    protocol = 132
    src_port: int = 40000
    dst_port: int = 3868

    def header(self, _: Place) -> bytes:
        """Return the 12 bytes."""
        return struct.pack("!HHII", self.src_port, self.dst_port, 1, 0)


@dataclass(frozen=True)
class ICMP(Layer):
    """RFC 792; an echo request unless said otherwise."""

    protocol = 1
    kind: int = 8
    code: int = 0
    rest: bytes = bytes(4)

    def header(self, place: Place) -> bytes:
        """Return the 8 bytes, with checksum."""
        header = struct.pack("!BBH", self.kind, self.code, 0) + self.rest
        return _put(header, 2, checksum(header + place.payload))


@dataclass(frozen=True)
class ICMPv6(Layer):
    """The 4 bytes that all messages share, RFC 4443, 2.1; an echo request unless said otherwise."""

    protocol = 58
    kind: int = 128
    code: int = 0

    def header(self, place: Place) -> bytes:
        """Return type, code and checksum."""
        header = struct.pack("!BBH", self.kind, self.code, 0)
        return _put(header, 2, place.checksum(self.protocol, header))


@dataclass(frozen=True)
class AH(Layer):
    """The authentication header, RFC 4302."""

    protocol = 51
    icv: bytes = bytes(12)

    def header(self, place: Place) -> bytes:
        """Return the header and its check value."""
        return struct.pack("!BBHII", place.inner.protocol, len(self.icv) // 4 + 1, 0, 1, 1) + self.icv


@dataclass(frozen=True)
class GRE(Layer):
    """RFC 2784, without its optional fields."""

    protocol = 47

    def header(self, place: Place) -> bytes:
        """Return the 4 bytes."""
        return struct.pack("!HH", 0, place.inner.ethertype)
