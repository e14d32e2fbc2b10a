"""IPFIX messages, read back by a reader that knows of RFC 7011 only what is written here."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import FLOW_EGRESS, ICMP, ICMPV6, TCP, UDP, VLAN_PRESENT, Family
from cnf.arrays import Records
from cnf.clock import Reading, WallClock
from cnf.export.biflows import Biflows
from cnf.export.ipfix import Message, Stream
from cnf.export.templates import BIFLOWS, FLOWS, OPTIONS
from cnf.flows.records import FLOW_RECORD, REASONS

SECONDS: Final = 1_800_000_000
CLOCK: Final = WallClock(Reading(1000, 0, 0, SECONDS * 1_000_000_000), 4_000_000)
ROOM: Final = 1400 - 48
DOMAIN: Final = 7
REVERSED: Final = 0x8000


class Collector:
    """Take in messages; keep templates, and records as they were sent: (template, {element: bytes}).

    An element of the reverse direction has REVERSED added to its number.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.templates: dict[int, list[tuple[int, int]]] = {}
        self.scopes: dict[int, int] = {}
        self.records: list[tuple[int, dict[int, bytes]]] = []
        self.expected = 0
        self.lossy = False
        """Whether a number may be later than expected."""
        self.missed = 0
        """Records whose numbers have not come."""

    def take(self, messages: Iterable[Message]) -> None:
        """Read messages, each of which must go on where the one before ended, or later where some may be lost."""
        for message, flows in messages:
            before = len(self.records)
            version, length, seconds, sequence, domain = struct.unpack(">HHIII", message[:16])
            assert (version, length, seconds, domain) == (10, len(message), SECONDS, DOMAIN)
            gap = sequence - self.expected
            assert gap >= 0 if self.lossy else gap == 0
            self.missed += gap
            self.expected = sequence
            assert length <= ROOM
            place = 16
            while place < length:
                number, size = struct.unpack(">HH", message[place : place + 4])
                self._take_set(number, message[place + 4 : place + size])
                place += size
            of_flows = {each.id for each in (*FLOWS.values(), *BIFLOWS.values())}
            assert flows in (-1, sum(number in of_flows for number, _ in self.records[before:]))

    def _take_set(self, number: int, content: bytes) -> None:
        if number in (2, 3):
            while content:
                template, count = struct.unpack(">HH", content[:4])
                content = content[4:]
                if number == 3:
                    (self.scopes[template],) = struct.unpack(">H", content[:2])
                    content = content[2:]
                fields = self.templates[template] = []
                for _ in range(count):
                    element, size = struct.unpack(">HH", content[:4])
                    content = content[4:]
                    if element & REVERSED:
                        assert struct.unpack(">I", content[:4]) == (29305,)
                        content = content[4:]
                    fields.append((element, size))
            return
        while content:
            record = {}
            for element, size in self.templates[number]:
                record[element], content = content[:size], content[size:]
                assert len(record[element]) == size
            self.records.append((number, record))
            self.expected += number not in {each.id for each in OPTIONS}

    def numbers(self) -> list[dict[int, int]]:
        """Return the records' fields as numbers."""
        return [{each: int.from_bytes(value) for each, value in record.items()} for _, record in self.records]


def record(family: Family, src: str, dst: str, **fields: Any) -> Records:  # noqa: ANN401 - whatever a field holds
    """Return one FLOW_RECORD, shape (1,)."""
    made = np.zeros(1, FLOW_RECORD[family])
    for name, text in (("src_addr", src), ("dst_addr", dst)):
        made[name] = np.frombuffer(ip_address(text).packed, made.dtype[name].base).reshape(made.dtype[name].shape)
    for name, value in fields.items():
        made[name] = value
    return made


@pytest.fixture
def stream() -> Stream:
    """Return a stream that has sent nothing."""
    return Stream(DOMAIN, ROOM)


@pytest.fixture
def collector(stream: Stream) -> Collector:
    """Return a collector that has the templates."""
    collector = Collector()
    collector.take(stream.templates(SECONDS))
    return collector


def test_each_template_is_told_of_with_its_scope(collector: Collector) -> None:
    """All templates come, those of options with the number of their scopes."""
    assert set(collector.templates) == {each.id for each in (*FLOWS.values(), *OPTIONS)}
    assert collector.scopes == {each.id: 1 for each in OPTIONS}
    assert collector.records == []


def test_a_tcp_flow_has_the_elements_of_the_registry(stream: Stream, collector: Collector) -> None:
    """Counts, times, and layer-3 bytes without Ethernet header and tag."""
    flow = record(
        "ipv4", "192.0.2.1", "198.51.100.2", src_port=1234, dst_port=443, ifindex=3, vlan=VLAN_PRESENT | 17,
        protocol=TCP, packets=10, bytes=1180, dropped_packets=2, dropped_bytes=200, start=500, end=750,
        tcp_flags=0x1B, reason=REASONS.index("ended"), link_bytes=18,
    )  # fmt: skip
    collector.take(stream.flows(flow, CLOCK))
    (number, _), (fields,) = collector.records[0], collector.numbers()
    assert number == FLOWS["ipv4", "ingress"].id
    assert fields == {
        8: int(ip_address("192.0.2.1")), 12: int(ip_address("198.51.100.2")), 7: 1234, 11: 443, 32: 0, 10: 3, 58: 17,
        245: 17, 4: 6, 6: 0x1B, 61: 0, 60: 4, 136: 3, 34: 1, 2: 10, 1: 1000, 352: 1180, 133: 2, 132: 200,
        152: SECONDS * 1000 - 2000, 153: SECONDS * 1000 - 1000,
    }  # fmt: skip


def test_a_connection_has_both_directions_in_one_record(stream: Stream, collector: Collector) -> None:
    """What each has counted, under the same numbers: those of the reverse direction are RFC 5103's."""
    question = record(
        "ipv6", "2001:db8::1", "2001:db8::2", src_port=128, ifindex=3, protocol=ICMPV6, packets=3, bytes=342,
        dropped_packets=1, dropped_bytes=114, start=500, end=750, link_bytes=14,
    )  # fmt: skip
    answer = record(
        "ipv6", "2001:db8::2", "2001:db8::1", src_port=129, ifindex=3, protocol=ICMPV6, packets=2, bytes=228,
        start=625, end=875, link_bytes=14, flags=FLOW_EGRESS, reason=REASONS.index("active"),
    )  # fmt: skip
    assert BIFLOWS["ipv6", "ingress"].id not in collector.templates
    stream.biflow = True
    collector.take(stream.templates(SECONDS))
    collector.take(stream.flows(question, CLOCK))
    collector.take(stream.biflows(Biflows(question, answer, np.array([True])), CLOCK))
    (_, (number, _)), (alone, both) = collector.records, collector.numbers()
    assert number == BIFLOWS["ipv6", "ingress"].id
    assert both == alone | {239: 1} | {
        REVERSED + element: value for element, value in {
            139: 129 << 8, 6: 0, 136: 2, 2: 2, 1: 200, 352: 228, 133: 0, 132: 0,
            152: SECONDS * 1000 - 1500, 153: SECONDS * 1000 - 500,
        }.items()
    }  # fmt: skip


def test_the_ids_of_templates_never_change() -> None:
    """A collector that knows one of an earlier version reads what it means."""
    ids = {each.id: [(e.number, e.enterprise) for e in each.elements] for each in (*FLOWS.values(), *BIFLOWS.values())}
    assert [*ids, *(each.id for each in OPTIONS)] == [256, 257, 258, 259, 263, 264, 265, 266, 260, 261, 262]
    assert ids[263][:3] == [(8, 0), (12, 0), (7, 0)]
    assert (14, 0) in ids[266]


def test_of_two_tags_only_the_outer_one_is_known(stream: Stream, collector: Collector) -> None:
    """The customer's is the inner one."""
    flow = record("ipv4", "192.0.2.1", "192.0.2.2", vlan=VLAN_PRESENT | 17, packets=1, bytes=100, link_bytes=22)
    collector.take(stream.flows(flow, CLOCK))
    (fields,) = collector.numbers()
    assert (fields[58], fields[245], fields[1]) == (17, 0, 78)


def test_an_icmp_flow_has_type_and_code_in_place_of_ports(stream: Stream, collector: Collector) -> None:
    """As element 32; flags that are no TCP's are not there."""
    flow = record("ipv4", "192.0.2.1", "192.0.2.2", src_port=3, dst_port=13, protocol=ICMP, tcp_flags=2)
    collector.take(stream.flows(flow, CLOCK))
    (fields,) = collector.numbers()
    assert (fields[7], fields[11], fields[32], fields[6]) == (0, 0, 3 << 8 | 13, 0)


def test_what_is_sent_names_the_interface_that_it_leaves_by(stream: Stream, collector: Collector) -> None:
    """Directions are apart, each in its template."""
    flows = np.concatenate(
        [
            record("ipv6", "2001:db8::1", "2001:db8::2", ifindex=3, protocol=UDP, flags=flags, packets=1, bytes=100)
            for flags in (FLOW_EGRESS, 0)
        ]
    )
    collector.take(stream.flows(flows, CLOCK))
    ingress, egress = collector.numbers()
    assert [number for number, _ in collector.records] == [FLOWS["ipv6", way].id for way in ("ingress", "egress")]
    assert (ingress[10], ingress[61], 14 in ingress) == (3, 0, False)
    assert (egress[14], egress[61], 10 in egress) == (3, 1, False)
    assert egress[27] == int(ip_address("2001:db8::1"))


def test_many_flows_fill_messages_and_none_is_missing(stream: Stream, collector: Collector) -> None:
    """No message is larger than the MTU; the sequence counts data records only."""
    flows = np.repeat(record("ipv4", "10.0.0.1", "10.0.0.2", protocol=UDP), 10_000)
    flows["packets"] = np.arange(10_000)
    messages = list(stream.flows(flows, CLOCK))
    collector.take(messages)
    assert [fields[2] for fields in collector.numbers()] == list(range(10_000))
    assert stream.sequence == stream.flow_records == 10_000
    assert min(len(message.octets) for message in messages[:-1]) > ROOM - 200


def test_options_say_sampling_names_and_what_was_sent(stream: Stream, collector: Collector) -> None:
    """One in one, and names in UTF-8 that zeros fill up."""
    collector.take(stream.sampling(CLOCK))
    collector.take(stream.names({3: ("ens1",), 4: ("br0", "wan", "büro")}, CLOCK))
    collector.take(stream.exported(CLOCK))
    sampling, first, second, exported = (fields for _, fields in collector.records)
    assert (int.from_bytes(sampling[305]), int.from_bytes(sampling[306])) == (1, 0)
    assert [each[82].rstrip(b"\0") for each in (first, second)] == [b"ens1", b"br0"]
    assert second[83].rstrip(b"\0") == "wan büro".encode()
    assert int.from_bytes(exported[41]) == stream.messages - 1
    assert int.from_bytes(exported[42]) == 0
