"""What the configuration switches off is not in the program: no table, no parsing, and still every packet counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from cnf.datapath.blueprint import Blueprint, Table
from tests.bpf import kept
from tests.bpf.compare import XDP_PASS
from tests.bpf.conftest import Datapath
from tests.bpf.limited import SIZE, XDP_DROP, Limited
from tests.bpf.packets import ARP, TCP, UDP, VLAN, IPv4, IPv6, frame

PLAIN4: Final = frame(IPv4(), UDP())
FRAMES: Final = (
    PLAIN4,
    frame(IPv6(), TCP()),
    frame(VLAN(5), IPv4(), UDP()),
    frame(VLAN(5, ethertype=0x88A8), VLAN(6), IPv6(), TCP()),
    frame(VLAN(1), VLAN(2), VLAN(3), IPv4(), UDP()),
    frame(VLAN(5), IPv4(), UDP())[:16],
    frame(ARP()),
)
LABELS: Final = {
    "no IPv6": ["udp", "non_ip", "udp", "non_ip", "malformed", "malformed", "non_ip"],
    "no VLAN": ["udp", "tcp", "non_ip", "non_ip", "non_ip", "non_ip", "non_ip"],
    "neither": ["udp", "non_ip", "non_ip", "non_ip", "non_ip", "non_ip", "non_ip"],
}
"""What FRAMES count as."""


@pytest.fixture(scope="module", params=LABELS)
def variant(request: pytest.FixtureRequest, table: Table) -> Iterator[tuple[str, Datapath]]:
    """Load the program without the one, without the other, and without both."""
    name = request.param
    loaded = kept.load(Blueprint(1024, table, ipv6=name == "no VLAN", vlan=name == "no IPv6"))
    yield name, Datapath(loaded)
    loaded.close()


def test_what_is_switched_off_counts_as_non_ip(variant: tuple[str, Datapath]) -> None:
    """IPv6, or tagged, frames pass and are counted, but not looked into, whatever they hold."""
    name, datapath = variant
    seen: list[str] = []
    for each in FRAMES:
        datapath.reset()
        assert datapath.run(each) == XDP_PASS
        assert list(datapath.received().values()) == [(1, len(each))]
        seen += datapath.received()

    assert seen == LABELS[name]


def test_without_ipv6_there_is_no_table_for_it(variant: tuple[str, Datapath]) -> None:
    """No memory is taken for flows that cannot come."""
    name, datapath = variant

    assert ("flows6" in datapath.loaded.maps) == (name == "no VLAN")


@pytest.fixture(scope="module", params=LABELS)
def limited_variant(request: pytest.FixtureRequest, table: Table) -> Iterator[tuple[str, Limited]]:
    """Load the same with a limiter."""
    name = request.param
    blueprint = Blueprint(1024, table, ipv6=name == "no VLAN", vlan=name == "no IPv6", limiter=SIZE)
    limited = Limited(kept.load(blueprint))
    yield name, limited
    limited.loaded.close()


def test_limits_hold_for_what_is_not_counted(limited_variant: tuple[str, Limited]) -> None:
    """A denied source is dropped in whatever its packets come; ARP, and what is too deep to be read, is not."""
    _name, limited = limited_variant
    limited.start({"mode": "enforce", "deny": ["::/0", "0.0.0.0/0"]})
    hidden = [frame(VLAN(0), IPv4(), UDP()), frame(*[VLAN(0)] * 20, IPv6(), UDP()), frame(VLAN(5), IPv6(), UDP())]

    verdicts = [limited.run(each) for each in (*FRAMES, *hidden)]

    assert verdicts == [XDP_DROP] * 4 + [XDP_PASS] * 3 + [XDP_DROP] * 3
    assert limited.dropped()["denied"].packets == 7


def test_what_passes_the_limits_counts_as_without_them(limited_variant: tuple[str, Limited]) -> None:
    """What is within its limit counts as non-IP where it is switched off, makes no flow, and takes its tokens."""
    name, limited = limited_variant
    rule = {"name": "r", "prefixes": ["::/0", "0.0.0.0/0"], "packets_per_second": 1, "burst_packets": 9}
    seen: list[str] = []
    for each in FRAMES:
        limited.start({"mode": "enforce", "rules": [rule]})
        assert limited.run(each) == XDP_PASS
        seen += limited.received()
        assert limited.packets() == ({"r": {"passed": 1}} if each in FRAMES[:4] else {})
        assert len(limited.flows()) == (limited.received().keys() <= {"udp", "tcp"})

    assert seen == LABELS[name]


def test_what_is_switched_off_and_dropped_counts_as_dropped(limited_variant: tuple[str, Limited]) -> None:
    """It stands in one state of the ledger: not as non-IP, too."""
    _name, limited = limited_variant
    limited.start({"mode": "enforce", "deny": ["::/0"]})
    packet = frame(VLAN(5), IPv6(), UDP())
    assert limited.run(packet) == XDP_DROP
    assert limited.received() == {"other": (1, len(packet))}


def test_ipv4_flows_are_tracked_all_the_same(variant: tuple[str, Datapath]) -> None:
    """What is left in the program works as in the whole one."""
    _name, datapath = variant
    datapath.reset()
    datapath.run(PLAIN4, 4)

    ((key, value),) = datapath.flows().items()
    assert (key.family, key.src_port, key.vlan, value.packets) == ("ipv4", 40000, None, 4)
