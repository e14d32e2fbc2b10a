"""Groups are what flows have in common, each flow is in one, and their sums are exact."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import ICMP, TCP, UDP
from cnf.counts import Count
from cnf.errors import UsageError
from cnf.flows import groups
from cnf.flows.groups import SORTS, dimensions, group
from cnf.flows.snapshot import Part, Snapshot
from tests.unit.samples import Flow, columns, snapshot

V4 = Flow(packets=1, bytes=100)
V6 = Flow(src="2001:db8::1", dst="2001:db8::2", packets=1, bytes=100)


def shown(
    drained: Snapshot, by: str, sort: str = "bytes", count: int | None = None, expression: str = ""
) -> list[dict[str, Any]]:
    """Return the groups as a client that reads JSON sees them."""
    found: list[dict[str, Any]] = json.loads(json.dumps(list(group(drained, expression, by, sort, count).objects())))
    return found


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("src", [{"src_addr": "192.0.2.1"}, {"src_addr": "192.0.3.1"}, {"src_addr": "2001:db8::1"}]),
        ("dst", [{"dst_addr": "198.51.100.2"}, {"dst_addr": "2001:db8::2"}]),
        (
            "pair",
            [
                {"src_addr": "192.0.2.1", "dst_addr": "198.51.100.2"},
                {"src_addr": "192.0.3.1", "dst_addr": "198.51.100.2"},
                {"src_addr": "2001:db8::1", "dst_addr": "2001:db8::2"},
            ],
        ),
        ("src-net/16", [{"src_net": "192.0.0.0/16"}, {"src_net": "2001:db8::/64"}]),
        ("src-net/24/32", [{"src_net": "192.0.2.0/24"}, {"src_net": "192.0.3.0/24"}, {"src_net": "2001:db8::/32"}]),
        ("net/0/0", [{"dst_net": "0.0.0.0/0"}, {"dst_net": "::/0"}]),
        ("port", [{"dst_port": 443}, {"dst_port": 53}, {"dst_port": None}]),
        ("protocol", [{"protocol": "tcp"}, {"protocol": "udp"}, {"protocol": "icmp"}]),
        ("interface", [{"interface": "eth0"}, {"interface": "eth1"}]),
        ("vlan", [{"vlan": None}, {"vlan": 5}]),
        ("direction", [{"direction": "ingress"}, {"direction": "egress"}]),
        (
            "protocol,vlan",
            [
                {"protocol": name, "vlan": tag}
                for name, tag in (("tcp", None), ("udp", None), ("udp", 5), ("icmp", None))
            ],
        ),
    ],
)
def test_what_flows_can_have_in_common(by: str, expected: list[dict[str, Any]]) -> None:
    """Each group is named by what it has in common, in both families, and no flow is missing."""
    flows = [
        V4,
        replace(V4, src="192.0.3.1"),
        replace(V4, dst_port=53, protocol=UDP, vlan=5),
        replace(V4, dst_port=53, protocol=UDP, ifindex=2),
        replace(V4, src_port=8, dst_port=0, protocol=ICMP, sent=True),
        V6,
    ]
    found = shown(snapshot(*flows), by)

    names = [each.field for each in dimensions(by)]
    key = [tuple(str(each[name]) for name in names) for each in found]
    assert sorted(key) == sorted(tuple(str(each[name]) for name in names) for each in expected)
    assert sum(each["flows"] for each in found) == len(flows)
    assert sum(each["share"] for each in found) == pytest.approx(1, abs=1e-5)


def test_a_flood_over_ports_is_one_group() -> None:
    """The sums of a group are those of its flows, and the largest comes first by each of them."""
    drained = snapshot(
        *(replace(V4, src_port=port, packets=3, bytes=300) for port in range(1000)),
        replace(V4, src="192.0.2.9", packets=5, bytes=9000),
    )
    for table in drained.flows.values():
        table.packet_rate[:], table.byte_rate[:] = 0.5, 125.0
        table.dropped_packets[:] = table.packets

    first, second = shown(drained, "src")
    assert first == {
        "src_addr": "192.0.2.1",
        "flows": 1000,
        "packets": 3000,
        "bytes": 300_000,
        "dropped_packets": 3000,
        "dropped_bytes": 0,
        "packets_per_second": 500.0,
        "bits_per_second": 1_000_000.0,
        "share": round(300_000 / 309_000, 6),
    }
    assert second["src_addr"] == "192.0.2.9"
    assert list(first)[1:-1] == list(SORTS)
    assert [each["src_addr"] for each in shown(drained, "src", "flows")] == ["192.0.2.1", "192.0.2.9"]
    assert [each["share"] for each in shown(drained, "src", "rate")] == [round(1000 / 1001, 6), round(1 / 1001, 6)]


def test_names_of_an_interface_that_came_back_are_one_group() -> None:
    """An interface that was made anew has another index and the same name."""
    drained = replace(snapshot(V4, replace(V4, ifindex=2), replace(V4, ifindex=9)), names={1: "eth0", 2: "eth0"})
    assert {each["interface"]: each["flows"] for each in shown(drained, "interface")} == {"eth0": 2, "unassigned": 1}


def test_only_what_matches_is_grouped() -> None:
    """A filter chooses flows, the number of groups is the one before ``top`` cuts, and evicted flows are there, too."""
    drained = snapshot(V4, replace(V4, dst_port=53), V6)
    drained = replace(drained, finished=(Part(columns([replace(V4, dst_port=99)], "ipv4"), "evicted"),))

    found = group(drained, "ip", "port", "bytes", 2)
    assert (found.matched, found.flows, found.totals) == (3, 3, Count(3, 300))
    assert len(list(found.objects())) == 2
    assert shown(drained, "src", expression="port 1") == []
    assert shown(snapshot(), "src") == []


FLOWS = st.builds(
    Flow,
    src=st.sampled_from(["192.0.2.1", "192.0.2.2", "10.0.0.1", "2001:db8::1", "2001:db8:0:1::1"]),
    src_port=st.integers(0, 3),
    dst_port=st.integers(0, 3),
    protocol=st.sampled_from([TCP, UDP, ICMP]),
    packets=st.integers(0, 1 << 40),
)


@given(
    st.lists(FLOWS, max_size=30, unique_by=lambda flow: (flow.src, flow.src_port, flow.dst_port, flow.protocol)),
    st.booleans(),
)
def test_sums_are_those_of_plain_sums(flows: list[Flow], alike: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whatever flows there are, and also where all hashes are alike."""
    flows = [replace(flow, dst="2001:db8::9" if flow.family == "ipv6" else flow.dst) for flow in flows]
    expected: Counter[tuple[str, str]] = Counter()
    for flow in flows:
        length = 24 if flow.family == "ipv4" else 64
        expected[
            str(ip_network((flow.src, length), strict=False)), {TCP: "tcp", UDP: "udp", ICMP: "icmp"}[flow.protocol]
        ] += flow.packets
    with pytest.MonkeyPatch.context() as patch:
        if alike:
            patch.setattr(groups, "mixed", lambda words: np.zeros(len(words[0]), np.uint64))
        found = shown(snapshot(*flows), "src-net/24,protocol")

    assert {(each["src_net"], each["protocol"]): each["packets"] for each in found} == dict(expected)


@pytest.mark.parametrize("by", ["", "source", "src,", "net", "net/33", "net/24/129", "src-net/x"])
def test_what_nobody_can_group_by_is_refused(by: str) -> None:
    """The error says what can be."""
    with pytest.raises(UsageError, match=r"flows cannot be grouped by .*src-net/24"):
        group(snapshot(V4), "", by, "bytes", None)


def test_groups_have_no_time_to_be_sorted_by() -> None:
    """The error names the fields."""
    with pytest.raises(UsageError, match="groups cannot be sorted by 'first_seen': expected one of flows, "):
        group(snapshot(V4), "", "src", "first_seen", None)
