"""IPFIX messages (RFC 7011) of flow records. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from cnf.abi import FAMILIES, FLOW_EGRESS, FLOW_FRAGMENT, ICMP, ICMPV6, TCP, VLAN_ID, WITH_PORTS, Direction, Family
from cnf.arrays import Records, Rows
from cnf.clock import WallClock
from cnf.export.biflows import Biflows
from cnf.export.templates import (
    ADDRESSES,
    BIFLOW_DIRECTION,
    BIFLOWS,
    EXPORTED_OPTIONS,
    FLOWS,
    ICMP_TYPE_CODE,
    INTERFACES,
    NAME_BYTES,
    NAME_OPTIONS,
    OPTIONS,
    PORTS,
    SAMPLING_OPTIONS,
    Template,
)

VERSION: Final = 10
HEADER: Final = struct.Struct(">HHIII")
"""Version, length, export time in seconds, sequence number, observation domain."""
SET: Final = struct.Struct(">HH")
"""Id, and length with these four bytes."""
TEMPLATE_SET: Final = 2
OPTIONS_TEMPLATE_SET: Final = 3
CHUNK: Final = 4096
"""Records that are encoded at once, at least: enough for numpy, and a few milliseconds of one thread."""
MILLISECOND: Final = 1_000_000
ONE_TAG: Final = 14 + 4
"""Bytes of an Ethernet header with one VLAN tag."""


class Message(NamedTuple):
    """An IPFIX message."""

    octets: bytes
    flows: int
    """Flow records in it, of one direction or of both; 0 for one of templates or options."""


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
    encoded["vlanId"] = vlan = records["vlan"] & VLAN_ID
    # Of two tags the customer's is the inner one, which is no part of a flow.
    encoded["dot1qCustomerVlanId"] = np.where(records["link_bytes"] == ONE_TAG, vlan, 0)
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


def encode_biflows(biflows: Biflows, family: Family, direction: Direction, clock: WallClock) -> Records:
    """Return connections, all with this forward direction, as the records of their template: shape (N,)."""
    template = BIFLOWS[family, direction]
    encoded = np.zeros(len(biflows.forward), template.dtype)
    forward = encode(biflows.forward, family, direction, clock)
    reverse = encode(biflows.reverse, family, "ingress" if direction == "egress" else "egress", clock)
    for element in FLOWS[family, direction].elements:
        encoded[element.name] = forward[element.name]
        if element.reverse in template.elements:
            encoded[element.reverse.name] = reverse[element.name]
    encoded[BIFLOW_DIRECTION.name] = biflows.initiated  # 1 is the initiator, 0 arbitrary
    return encoded


class Stream:
    """The messages to one collector: their numbers go on from one to the next."""

    def __init__(self, domain: int, room: int) -> None:
        """Begin with messages of at most ``room`` bytes."""
        self.domain = domain
        self.room = room
        self.biflow = False
        """Whether a collector is to know of the templates of connections."""
        self.sequence = 0
        """Flow records so far, modulo 2^32. RFC 7011, 3.1, has those of options counted, too. But nfcapd 1.7 does not
        expect it, and would take them for losses, with each sending of the options."""
        self.messages = self.octets = self.flow_records = 0

    def templates(self, seconds: int) -> Iterator[Message]:
        """Yield messages that tell of all templates."""
        flows = (*FLOWS.values(), *(BIFLOWS.values() if self.biflow else ()))
        for number, chosen in ((TEMPLATE_SET, flows), (OPTIONS_TEMPLATE_SET, OPTIONS)):
            held: list[bytes] = []
            for definition in (template.definition for template in chosen):
                if held and sum(map(len, held)) + len(definition) > self._content:
                    yield self._message(number, b"".join(held), seconds)
                    held = []
                held.append(definition)
            yield self._message(number, b"".join(held), seconds)

    def flows(self, records: Records, clock: WallClock) -> Iterator[Message]:
        """Yield messages of FLOW_RECORD, shape (N,); records are encoded as messages are asked for."""
        family = _family(records)
        for direction, rows in _by_direction(records).items():
            template = FLOWS[family, direction]
            for chunk in self._chunks(template, rows):
                yield from self._data(template, encode(records[chunk], family, direction, clock), clock)

    def biflows(self, biflows: Biflows, clock: WallClock) -> Iterator[Message]:
        """Yield messages of connections, as ``flows()`` does of flows."""
        family = _family(biflows.forward)
        for direction, rows in _by_direction(biflows.forward).items():
            template = BIFLOWS[family, direction]
            for chunk in self._chunks(template, rows):
                some = Biflows(*(each[chunk] for each in biflows))
                yield from self._data(template, encode_biflows(some, family, direction, clock), clock)

    def sampling(self, clock: WallClock) -> Iterator[Message]:
        """Yield the message that says that every packet is counted."""
        row = np.zeros(1, SAMPLING_OPTIONS.dtype)
        row["selectorAlgorithm"] = 1  # systematic count-based sampling (IANA psamp-parameters)
        row["samplingPacketInterval"] = 1
        return self._data(SAMPLING_OPTIONS, row, clock)

    def names(self, names: Mapping[int, tuple[str, ...]], clock: WallClock) -> Iterator[Message]:
        """Yield messages that name interfaces: their names and altnames, by ifindex."""
        rows = np.zeros(len(names), NAME_OPTIONS.dtype)
        for row, (ifindex, (name, *others)) in zip(rows, names.items(), strict=True):
            row["ingressInterface"], row["interfaceName"] = ifindex, _in_bytes(name)
            row["interfaceDescription"] = _in_bytes(" ".join(others))
        return self._data(NAME_OPTIONS, rows, clock)

    def exported(self, clock: WallClock) -> Iterator[Message]:
        """Yield the message that says how much has been sent before."""
        row = np.zeros(1, EXPORTED_OPTIONS.dtype)
        row["observationDomainId"] = self.domain
        row["exportedMessageTotalCount"], row["exportedFlowRecordTotalCount"] = self.messages, self.flow_records
        row["exportedOctetTotalCount"] = self.octets
        return self._data(EXPORTED_OPTIONS, row, clock)

    @property
    def _content(self) -> int:
        return self.room - HEADER.size - SET.size

    def _chunks(self, template: Template, rows: Rows) -> Iterator[Rows]:
        many = self._content // template.dtype.itemsize
        size = many * (CHUNK // many + 1)  # so that only the last message is not full
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _data(self, template: Template, rows: Records, clock: WallClock) -> Iterator[Message]:
        start = 0
        while start < len(rows):
            some = rows[start : start + self._content // rows.dtype.itemsize]  # there may be less room by and by
            flows = 0 if template.scopes else len(some)
            yield self._message(template.id, some.tobytes(), clock.seconds, flows)
            self.flow_records += flows
            self.sequence = (self.sequence + flows) & 0xFFFFFFFF
            start += len(some)

    def _message(self, number: int, content: bytes, seconds: int, flows: int = 0) -> Message:
        length = HEADER.size + SET.size + len(content)
        header = HEADER.pack(VERSION, length, seconds, self.sequence, self.domain)
        self.messages += 1
        self.octets += length
        return Message(header + SET.pack(number, SET.size + len(content)) + content, flows)


def _family(records: Records) -> Family:
    return FAMILIES[records.dtype["src_addr"].itemsize > 4]  # noqa: PLR2004 - bytes of an IPv4 address


def _by_direction(records: Records) -> Mapping[Direction, Rows]:
    sent = (records["flags"] & FLOW_EGRESS) != 0
    return {"ingress": np.flatnonzero(~sent), "egress": np.flatnonzero(sent)}


def _in_bytes(text: str) -> bytes:
    """Return the beginning of a text in UTF-8; no character is cut."""
    return text.encode()[:NAME_BYTES].decode(errors="ignore").encode()
