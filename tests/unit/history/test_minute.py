"""Promises of cnf.history.minute: the largest flows and ends of all that came, with exact sums."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cnf.abi import Family
from cnf.arrays import Records
from cnf.counts import Count
from cnf.flows.columns import KEYS
from cnf.history import minute as module
from cnf.history.minute import ADDRESSES, FLOWS, Minute, Parts
from tests.unit.history.samples import SECOND, START, batch
from tests.unit.samples import Flow

NAMES = {1: ("eth0", "wan"), 2: ("eth1",)}


def parts(*batches: list[Flow], lost: int = 0) -> Parts:
    """Return what a block has of these drains."""
    minute = Minute()
    clock = batch(START).clock
    for flows in batches:
        minute.add(batch(START, *flows, lost=lost))
    return minute.parts(clock, NAMES)


def sizes_of(by_family: Mapping[Family, Records]) -> list[int]:
    """Return the bytes of rows of both families, the largest first."""
    return sorted((size for rows in by_family.values() for size in rows["bytes"].tolist()), reverse=True)


def test_parts_of_a_flow_are_one_row() -> None:
    """Records of one flow, from several drains, add up, with the first start and the last end."""
    now = batch(START).clock.now.jiffies
    tick = batch(START).clock.tick_ns
    first = Flow(packets=2, bytes=200, first_seen=now - 1000, last_seen=now - 900, tcp_flags=2)
    second = Flow(packets=3, bytes=500, first_seen=now - 900, last_seen=now - 10, tcp_flags=16)
    found = parts([first], [], [second])
    (flow,) = found.flows["ipv4"]
    assert (flow["packets"], flow["bytes"], flow["tcp_flags"]) == (5, 700, 18)
    assert abs(int(flow["start"]) - (START - 1000 * tick)) < SECOND
    assert abs(int(flow["end"]) - (START - 10 * tick)) < SECOND
    assert (found.flow_count, found.complete, found.names) == (1, True, (("eth0", "wan"),))


def test_the_largest_of_both_families() -> None:
    """A block has so many flows and addresses, whichever family they are of; all are counted."""
    flows = [Flow(src=f"192.0.{number >> 8}.{number & 255}", bytes=2 * number) for number in range(400)]
    flows += [Flow(src=f"2001:db8::{number + 1:x}", dst="2001:db8::", bytes=2 * number + 1) for number in range(400)]
    found = parts(flows[:100], flows[100:])
    sizes = sorted((flow.bytes for flow in flows), reverse=True)
    assert sizes_of(found.flows) == sizes[:FLOWS]
    assert sizes_of(found.sources) == sizes[:ADDRESSES]
    assert found.flow_count == 800
    assert {family: int(each["bytes"].sum()) for family, each in found.destinations.items()} == {
        "ipv4": sum(sizes[1::2]),
        "ipv6": sum(sizes[0::2]),
    }


def test_interfaces_are_numbered_by_name() -> None:
    """A flow's interface is a place in the block's names; one that nobody knows has a name, too."""
    found = parts([Flow(ifindex=2), Flow(ifindex=77), Flow(ifindex=1)])
    assert found.names == (("eth0", "wan"), ("eth1",), ("unassigned",))
    assert sorted(found.flows["ipv4"]["ifindex"].tolist()) == [0, 1, 2]


def test_what_was_sent_is_apart_from_what_was_received() -> None:
    """A source whose packets were received, and sent on, is there for each direction."""
    found = parts([Flow(bytes=5), Flow(bytes=7, sent=True), Flow(bytes=1, src_port=1)])
    assert sorted(found.sources["ipv4"][["flags", "bytes"]].tolist()) == [(0, 6), (2, 7)]


def test_of_too_many_records_the_largest_flows_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The records kept are bounded; that small flows were left out is said."""
    monkeypatch.setattr(module, "MOST", 100)
    flows = [Flow(src_port=number, bytes=number) for number in range(1000)]
    found = parts(*(flows[start : start + 90] for start in range(0, 1000, 90)))
    assert not found.complete
    assert set(range(950, 1000)) <= set(found.flows["ipv4"]["bytes"].tolist())
    assert sum(map(len, found.flows.values())) < 300


def test_what_is_lost_adds_up() -> None:
    """A block says what finished flows had counted and is in no record."""
    assert parts([], [], lost=2).lost == {"ingress": Count(4, 400), "egress": Count()}


def test_nothing_is_a_block_too() -> None:
    """A minute without a packet has no flows."""
    found = Minute().parts(batch(START).clock, NAMES)
    assert {family: len(found.flows[family]) for family in KEYS} == {"ipv4": 0, "ipv6": 0}
    assert (found.names, found.flow_count) == ((), 0)
