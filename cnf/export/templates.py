"""The templates of IPFIX records (RFC 7011). Pure: a big-endian dtype is a template, and its bytes are a data set.

Elements are those of IANA's registry (RFC 7012). Template ids never change: a collector that knows one of them keeps
its meaning over a restart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.abi import Direction, Family

FIELD: Final = struct.Struct(">HH")
"""Element, and its length in bytes."""
OF_ENTERPRISE: Final = 0x8000
"""Set in an element's number: the number of an enterprise follows."""
ENTERPRISE: Final = struct.Struct(">I")
REVERSE: Final = 29305
"""The enterprise that stands for the reverse direction: its elements are those of IANA (RFC 5103, 6.1)."""
NAME_BYTES: Final = 64
"""Bytes of an interface's name or alias; zeros fill it up, as a string of fixed length has them (RFC 7011, 6.1.6)."""


class Element(NamedTuple):
    """An information element, as a field of a record."""

    number: int
    name: str
    kind: str
    """The field's dtype, big-endian."""
    enterprise: int = 0

    @property
    def reverse(self) -> Element:
        """Return the element that has the same of the reverse direction."""
        return self._replace(name=f"reverse{self.name[0].upper()}{self.name[1:]}", enterprise=REVERSE)

    def specifier(self, size: int) -> bytes:
        """Return the field's specifier, of ``size`` bytes (RFC 7011, 3.2)."""
        if self.enterprise:
            return FIELD.pack(OF_ENTERPRISE | self.number, size) + ENTERPRISE.pack(self.enterprise)
        return FIELD.pack(self.number, size)


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
    Element(245, "dot1qCustomerVlanId", ">u2"),
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
BIFLOW_DIRECTION: Final = Element(239, "biflowDirection", "u1")
BOTH_WAYS: Final = (6, 136, 2, 1, 352, 133, 132, 152, 153)
"""Elements of COMMON that each direction of a connection has its own of."""
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
        return head + b"".join(each.specifier(dtype[each.name].itemsize) for each in self.elements)


def _flow_template(number: int, family: Family, direction: Direction) -> Template:
    addresses, icmp = ADDRESSES[family], ICMP_TYPE_CODE[family]
    return Template(number, (*addresses, *PORTS, icmp, INTERFACES[direction], *COMMON))


def _biflow_template(number: int, family: Family, direction: Direction) -> Template:
    """Return the template of connections whose forward direction is ``direction``."""
    both_ways = (ICMP_TYPE_CODE[family], *(each for each in COMMON if each.number in BOTH_WAYS))
    elements = _flow_template(number, family, direction).elements
    return Template(number, (*elements, BIFLOW_DIRECTION, *(each.reverse for each in both_ways)))


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
BIFLOWS: Final[dict[tuple[Family, Direction], Template]] = {
    ("ipv4", "ingress"): _biflow_template(263, "ipv4", "ingress"),
    ("ipv4", "egress"): _biflow_template(264, "ipv4", "egress"),
    ("ipv6", "ingress"): _biflow_template(265, "ipv6", "ingress"),
    ("ipv6", "egress"): _biflow_template(266, "ipv6", "egress"),
}
"""By the forward direction."""
