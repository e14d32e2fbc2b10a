"""IPFIX messages (RFC 7011) of flow records. Pure: a big-endian dtype is a template, and its bytes are a data set.

Elements are those of IANA's registry (RFC 7012). Template ids never change: a collector that knows one of them keeps
its meaning over a restart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.abi import FAMILIES, FLOW_EGRESS, FLOW_FRAGMENT, ICMP, ICMPV6, TCP, VLAN_ID, WITH_PORTS, Direction, Family
from cnf.arrays import Records
from cnf.clock import WallClock

VERSION: Final = 10
HEADER: Final = struct.Struct(">HHIII")
"""Version, length, export time in seconds, sequence number, observation domain."""
SET: Final = struct.Struct(">HH")
"""Id, and length with these four bytes."""
TEMPLATE_SET: Final = 2
OPTIONS_TEMPLATE_SET: Final = 3
FIELD: Final = struct.Struct(">HH")
"""Element, and its length in bytes."""
IP_UDP: Final = 48
"""Bytes of an IPv6 header and one of UDP, which the MTU holds, too."""
MILLISECOND: Final = 1_000_000
NAME_BYTES: Final = 64
"""Bytes of an interface's name or alias; zeros fill it up, as a string of fixed length has them (RFC 7011, 6.1.6)."""


class Element(NamedTuple):
    """An information element, as a field of a record."""

    number: int
    name: str
    kind: str
    """The field's dtype, big-endian."""


ADDRESSES: Final[dict[Family, tuple[Element, ...]]] = {
    "ipv4": (Element(8, "sourceIPv4Address", "u1:4"), Element(12, "destinationIPv4Address", "u1:4")),
    "ipv6": (Element(27, "sourceIPv6Address", "u1:16"), Element(28, "destinationIPv6Address", "u1:16")),
}
ICMP_TYPE_CODE: Final[dict[Family, Element]] = {
    "ipv4": Element(32, "icmpTypeCodeIPv4", ">u2"),
    "ipv6": Element(139, "icmpTypeCodeIPv6", ">u2"),
}
INTERFACES: Final[dict[Direction, Element]] = {
    "ingress": Element(10, "ingressInterface", ">u4"),
    "egress": Element(14, "egressInterface", ">u4"),
}
PORTS: Final = (Element(7, "sourceTransportPort", ">u2"), Element(11, "destinationTransportPort", ">u2"))
COMMON: Final = (
    Element(58, "vlanId", ">u2"),
    Element(4, "protocolIdentifier", "u1"),
    Element(6, "tcpControlBits", "u1"),  # in one byte: pmacct 1.7.7 reads two as 0
    Element(61, "flowDirection", "u1"),
    Element(60, "ipVersion", "u1"),
    Element(136, "flowEndReason", "u1"),
    Element(34, "samplingInterval", ">u4"),
    Element(2, "packetDeltaCount", ">u8"),
    Element(1, "octetDeltaCount", ">u8"),
    Element(352, "layer2OctetDeltaCount", ">u8"),
    Element(133, "droppedPacketDeltaCount", ">u8"),
    Element(132, "droppedOctetDeltaCount", ">u8"),
    Element(152, "flowStartMilliseconds", ">u8"),
    Element(153, "flowEndMilliseconds", ">u8"),
)
SAMPLING: Final = (
    Element(302, "selectorId", ">u8"),
    Element(304, "selectorAlgorithm", ">u2"),
    Element(305, "samplingPacketInterval", ">u4"),
    Element(306, "samplingPacketSpace", ">u4"),
)
"""Of options, the first element is the scope."""
NAMES: Final = (
    Element(10, "ingressInterface", ">u4"),
    Element(82, "interfaceName", f"S{NAME_BYTES}"),
    Element(83, "interfaceDescription", f"S{NAME_BYTES}"),
)
EXPORTED: Final = (
    Element(149, "observationDomainId", ">u4"),
    Element(41, "exportedMessageTotalCount", ">u8"),
    Element(42, "exportedFlowRecordTotalCount", ">u8"),
    Element(40, "exportedOctetTotalCount", ">u8"),
)


@dataclass(frozen=True, slots=True)
class Template:
    """The fields of a kind of records."""

    id: int
    elements: tuple[Element, ...]
    scopes: int = 0
    """Elements that are the scope; a template without any is none of options."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return a record, without padding."""
        fields: list[Any] = []
        for element in self.elements:
            kind, _, count = element.kind.partition(":")
            fields.append((element.name, kind, (int(count),)) if count else (element.name, kind))
        return np.dtype(fields)

    @property
    def definition(self) -> bytes:
        """Return the template record that tells a collector of it."""
        dtype = self.dtype
        head = struct.pack(">HH", self.id, len(self.elements)) + (
            struct.pack(">H", self.scopes) if self.scopes else b""
        )
        return head + b"".join(FIELD.pack(each.number, dtype[each.name].itemsize) for each in self.elements)


def _flow_template(number: int, family: Family, direction: Direction) -> Template:
    addresses, icmp = ADDRESSES[family], ICMP_TYPE_CODE[family]
    return Template(number, (*addresses, *PORTS, icmp, INTERFACES[direction], *COMMON))


FLOWS: Final[dict[tuple[Family, Direction], Template]] = {
    ("ipv4", "ingress"): _flow_template(256, "ipv4", "ingress"),
    ("ipv4", "egress"): _flow_template(257, "ipv4", "egress"),
    ("ipv6", "ingress"): _flow_template(258, "ipv6", "ingress"),
    ("ipv6", "egress"): _flow_template(259, "ipv6", "egress"),
}
SAMPLING_OPTIONS: Final = Template(260, SAMPLING, scopes=1)
NAME_OPTIONS: Final = Template(261, NAMES, scopes=1)
EXPORTED_OPTIONS: Final = Template(262, EXPORTED, scopes=1)
OPTIONS: Final = (SAMPLING_OPTIONS, NAME_OPTIONS, EXPORTED_OPTIONS)


def encode(records: Records, family: Family, direction: Direction, clock: WallClock) -> Records:
    """Return FLOW_RECORD, shape (N,), all of one direction, as the records of its template: shape (N,)."""
    encoded = np.zeros(len(records), FLOWS[family, direction].dtype)
    source, destination = ADDRESSES[family]
    for element, name in ((source, "src_addr"), (destination, "dst_addr")):
        column = np.ascontiguousarray(records[name])
        encoded[element.name] = column.view(np.uint8).reshape(encoded[element.name].shape)
    protocol, with_ports = records["protocol"], np.isin(records["protocol"], WITH_PORTS)
    for element, name in zip(PORTS, ("src_port", "dst_port"), strict=True):
        encoded[element.name] = np.where(with_ports, records[name], 0)
    is_icmp = (protocol == (ICMP if family == "ipv4" else ICMPV6)) & ((records["flags"] & FLOW_FRAGMENT) == 0)
    type_and_code = records["src_port"].astype(np.uint16) << 8 | records["dst_port"].astype(np.uint16)
    encoded[ICMP_TYPE_CODE[family].name] = np.where(is_icmp, type_and_code, 0)
    encoded[INTERFACES[direction].name] = records["ifindex"]
    encoded["vlanId"] = records["vlan"] & VLAN_ID
    encoded["protocolIdentifier"] = protocol
    encoded["tcpControlBits"] = np.where(protocol == TCP, records["tcp_flags"], 0)
    encoded["flowDirection"] = direction == "egress"
    encoded["ipVersion"] = 4 if family == "ipv4" else 6
    encoded["flowEndReason"] = records["reason"] + 1
    encoded["samplingInterval"] = 1
    packets, octets = records["packets"], records["bytes"]
    encoded["packetDeltaCount"] = packets
    encoded["layer2OctetDeltaCount"] = octets
    encoded["octetDeltaCount"] = octets - packets * records["link_bytes"]
    encoded["droppedPacketDeltaCount"] = records["dropped_packets"]
    encoded["droppedOctetDeltaCount"] = records["dropped_bytes"]
    for name, time in (("flowStartMilliseconds", "start"), ("flowEndMilliseconds", "end")):
        encoded[name] = clock.wall_ns(records[time]) // MILLISECOND
    return encoded


class Stream:
    """The messages to one collector: their numbers go on from one to the next."""

    def __init__(self, domain: int, mtu: int, sequence: int = 0) -> None:
        """Go on from ``sequence``; a message and its IP and UDP headers fit ``mtu``."""
        self.sequence = sequence
        """Data records so far, modulo 2^32."""
        self.messages = self.octets = self.flow_records = 0
        self._domain = domain
        self._room = mtu - IP_UDP - HEADER.size - SET.size

    def templates(self, seconds: int) -> Iterator[bytes]:
        """Yield messages that tell of all templates."""
        for number, chosen in ((TEMPLATE_SET, tuple(FLOWS.values())), (OPTIONS_TEMPLATE_SET, OPTIONS)):
            held: list[bytes] = []
            for definition in (template.definition for template in chosen):
                if held and sum(map(len, held)) + len(definition) > self._room:
                    yield self._message(number, b"".join(held), 0, seconds)
                    held = []
                held.append(definition)
            yield self._message(number, b"".join(held), 0, seconds)

    def flows(self, records: Records, clock: WallClock) -> Iterator[bytes]:
        """Yield messages of FLOW_RECORD, shape (N,)."""
        family = FAMILIES[records.dtype["src_addr"].itemsize > 4]  # noqa: PLR2004 - bytes of an IPv4 address
        sent = (records["flags"] & FLOW_EGRESS) != 0
        directions: Mapping[Direction, Records] = {"ingress": records[~sent], "egress": records[sent]}
        for direction, chosen in directions.items():
            yield from self._data(FLOWS[family, direction], encode(chosen, family, direction, clock), clock)
            self.flow_records += len(chosen)

    def sampling(self, clock: WallClock) -> Iterator[bytes]:
        """Yield the message that says that every packet is counted."""
        row = np.zeros(1, SAMPLING_OPTIONS.dtype)
        row["selectorAlgorithm"] = 1  # systematic count-based sampling (IANA psamp-parameters)
        row["samplingPacketInterval"] = 1
        return self._data(SAMPLING_OPTIONS, row, clock)

    def names(self, names: Mapping[int, tuple[str, ...]], clock: WallClock) -> Iterator[bytes]:
        """Yield messages that name interfaces: their names and altnames, by ifindex."""
        rows = np.zeros(len(names), NAME_OPTIONS.dtype)
        for row, (ifindex, (name, *others)) in zip(rows, names.items(), strict=True):
            alias = " ".join(others).encode()[:NAME_BYTES]
            row["ingressInterface"], row["interfaceName"], row["interfaceDescription"] = ifindex, name.encode(), alias
        return self._data(NAME_OPTIONS, rows, clock)

    def exported(self, clock: WallClock) -> Iterator[bytes]:
        """Yield the message that says how much has been sent before."""
        row = np.zeros(1, EXPORTED_OPTIONS.dtype)
        row["observationDomainId"] = self._domain
        row["exportedMessageTotalCount"], row["exportedFlowRecordTotalCount"] = self.messages, self.flow_records
        row["exportedOctetTotalCount"] = self.octets
        return self._data(EXPORTED_OPTIONS, row, clock)

    def _data(self, template: Template, rows: Records, clock: WallClock) -> Iterator[bytes]:
        many = self._room // rows.dtype.itemsize
        seconds = clock.now.realtime // 1_000_000_000
        for start in range(0, len(rows), many):
            some = rows[start : start + many]
            yield self._message(template.id, some.tobytes(), len(some), seconds)

    def _message(self, number: int, content: bytes, records: int, seconds: int) -> bytes:
        length = HEADER.size + SET.size + len(content)
        header = HEADER.pack(VERSION, length, seconds, self.sequence, self._domain)
        self.sequence = (self.sequence + records) & 0xFFFFFFFF
        self.messages += 1
        self.octets += length
        return header + SET.pack(number, SET.size + len(content)) + content
