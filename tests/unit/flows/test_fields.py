"""A flow is shown as the contract says, to the letter."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cnf.abi import ICMP, ICMPV6, SCTP, TCP, UDP
from cnf.flows.fields import tcp_flags
from cnf.flows.query import select
from cnf.flows.snapshot import Snapshot
from tests.unit.samples import JIFFIES, Flow, snapshot

KEYS = [
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
]
V4 = Flow()
V6 = Flow(src="2001:db8::1", dst="2001:db8::2")


def shown(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the flows of ``snapshot``, as a client that reads JSON sees them."""
    flows: list[dict[str, Any]] = json.loads(json.dumps(list(select(snapshot, "", "bytes", None).flows())))
    return flows


def one(flow: Flow) -> dict[str, Any]:
    """Return what a client sees of ``flow``."""
    (only,) = shown(snapshot(flow))
    return only


def test_a_flow_has_the_keys_of_the_contract_in_its_order() -> None:
    """Every key is there, whether it has a value or not, and each value is of its kind."""
    flow = replace(
        V4,
        vlan=100,
        packets=12,
        bytes=3456,
        dropped_packets=3,
        dropped_bytes=300,
        first_seen=JIFFIES - 250,
        last_seen=JIFFIES - 1,
        tcp_flags=0x1B,
    )

    assert one(flow) == {
        "interface": "eth0",
        "direction": "ingress",
        "protocol": "tcp",
        "src_addr": "192.0.2.1",
        "src_port": 40000,
        "dst_addr": "198.51.100.2",
        "dst_port": 443,
        "icmp_type": None,
        "icmp_code": None,
        "vlan": 100,
        "fragment": False,
        "packets": 12,
        "bytes": 3456,
        "dropped_packets": 3,
        "dropped_bytes": 300,
        "packets_per_second": 0.0,
        "bits_per_second": 0.0,
        "tcp_flags": "SAPF",
        "first_seen": "2023-11-14T22:13:19.000000Z",
        "last_seen": "2023-11-14T22:13:19.996000Z",
        "ended": None,
    }
    assert list(one(flow)) == KEYS


@pytest.mark.parametrize(
    ("protocol", "name"),
    [(TCP, "tcp"), (UDP, "udp"), (SCTP, "sctp"), (47, "gre"), (50, "esp"), (51, "ah"), (0, "0"), (253, "253")],
)
def test_a_protocol_has_its_name_or_its_number_as_text(protocol: int, name: str) -> None:
    """Protocols that people know by name are named."""
    assert one(replace(V4, protocol=protocol))["protocol"] == name


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_ports_are_numbers_where_a_protocol_has_them(protocol: int) -> None:
    """Port 0 is a port."""
    flow = one(replace(V4, protocol=protocol, src_port=0, dst_port=65535))

    assert (flow["src_port"], flow["dst_port"], flow["icmp_type"], flow["icmp_code"]) == (0, 65535, None, None)


@pytest.mark.parametrize("protocol", [47, 50, 51, 253])
def test_ports_are_null_where_a_protocol_has_none(protocol: int) -> None:
    """A protocol without ports shows neither ports nor ICMP's fields."""
    flow = one(replace(V4, protocol=protocol, src_port=0, dst_port=0))

    assert (flow["src_port"], flow["dst_port"], flow["icmp_type"], flow["icmp_code"]) == (None, None, None, None)


@pytest.mark.parametrize(("flow", "protocol", "name"), [(V4, ICMP, "icmp"), (V6, ICMPV6, "icmpv6")])
def test_icmp_has_type_and_code_in_fields_of_their_own(flow: Flow, protocol: int, name: str) -> None:
    """Type and code do not stand in the ports' place."""
    seen = one(replace(flow, protocol=protocol, src_port=3, dst_port=4))

    assert (seen["protocol"], seen["icmp_type"], seen["icmp_code"]) == (name, 3, 4)
    assert (seen["src_port"], seen["dst_port"]) == (None, None)


@pytest.mark.parametrize(("flow", "protocol"), [(V6, ICMP), (V4, ICMPV6)])
def test_icmp_of_the_other_ip_version_has_no_type(flow: Flow, protocol: int) -> None:
    """ICMP inside IPv6, and ICMPv6 inside IPv4, are not parsed."""
    seen = one(replace(flow, protocol=protocol, src_port=0, dst_port=0))

    assert (seen["icmp_type"], seen["icmp_code"], seen["src_port"], seen["dst_port"]) == (None, None, None, None)


@pytest.mark.parametrize(("protocol", "port"), [(UDP, 0), (ICMP, None)])
def test_a_later_fragment_is_said_to_be_one(protocol: int, port: int | None) -> None:
    """It has ports 0 where its protocol has ports, and no ICMP type, because nobody saw it."""
    seen = one(replace(V4, protocol=protocol, src_port=0, dst_port=0, fragment=True))

    assert seen["fragment"] is True
    assert (seen["src_port"], seen["dst_port"], seen["icmp_type"], seen["icmp_code"]) == (port, port, None, None)


@pytest.mark.parametrize("vlan", [None, 0, 1, 4095])
def test_a_vlan_is_null_or_its_id(vlan: int | None) -> None:
    """A priority tag, with id 0, is not the same as no tag."""
    assert one(replace(V4, vlan=vlan))["vlan"] == vlan


@pytest.mark.parametrize(
    ("flags", "letters"),
    [
        (0x00, ""),
        (0x02, "S"),
        (0x12, "SA"),
        (0x04, "R"),
        (0x18, "AP"),
        (0x20, "U"),
        (0x40, "E"),
        (0x80, "W"),
        (0xC2, "SEW"),
        (0xFF, "SAPFRUEW"),
    ],
)
def test_tcp_flags_are_letters_in_a_fixed_order(flags: int, letters: str) -> None:
    """The letters are tcpdump's, SYN first."""
    assert tcp_flags(flags) == letters
    assert one(replace(V4, tcp_flags=flags))["tcp_flags"] == letters


@pytest.mark.parametrize(
    ("src", "dst"),
    [("0.0.0.1", "255.255.255.255"), ("::", "fe80::1"), ("2001:db8:0:1::", "::ffff:192.0.2.1")],
)
def test_addresses_are_written_as_inet_ntop_does(src: str, dst: str) -> None:
    """IPv6 addresses are in their shortest form."""
    seen = one(Flow(src=src, dst=dst))

    assert (seen["src_addr"], seen["dst_addr"]) == (src, dst)


@pytest.mark.parametrize("ticks", [0, 1, 250 * 3600 * 24 * 30, -2], ids=["now", "a tick ago", "a month", "ahead"])
def test_times_are_rfc_3339_in_utc_with_microseconds(ticks: int) -> None:
    """Any reader of RFC 3339 gets the moment back, and all times are of the same length."""
    text = one(replace(V4, last_seen=JIFFIES - ticks))["last_seen"]

    assert datetime.fromisoformat(text) == datetime.fromtimestamp(1_700_000_000 - ticks / 250, UTC)
    assert len(text) == len("2023-11-14T22:13:20.000000Z")
    assert text.endswith("Z")


def test_rates_are_per_second_and_in_bits() -> None:
    """Bits a second are eight times the bytes, rounded to what a reader can use."""
    drained = snapshot(V4)
    drained.flows["ipv4"].packet_rate[:] = 2 / 3
    drained.flows["ipv4"].byte_rate[:] = 1000 / 3
    (flow,) = shown(drained)

    assert (flow["packets_per_second"], flow["bits_per_second"]) == (0.667, 2666.667)


def test_a_flow_of_an_unknown_interface_is_listed() -> None:
    """It stands under the name that its packets are counted under."""
    assert one(replace(V4, ifindex=77))["interface"] == "unassigned"
