"""Promises of cnf.history.past: blocks are shown as a drain is, and what they sum to is all that was counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnf.abi import DROP_REASONS
from cnf.counts import Count
from cnf.flows.query import select
from cnf.history.block import Block, Sums
from cnf.history.increase import increase
from cnf.history.joined import Joined
from cnf.history.minute import Minute
from cnf.history.past import as_snapshot, dropped_of, summary
from cnf.history.reader import Found
from tests.unit.history.samples import MINUTE, START, batch, block, dropped, sums
from tests.unit.samples import Flow

NAMES = {1: ("eth0", "wan"), 2: ("eth1",)}


def made(minute: int, packets: int, *flows: Flow, names: dict[int, tuple[str, ...]] = NAMES) -> Block:
    """Return a minute's block with these flows, of an eth0 that has counted so many packets in each direction."""
    end = START + (minute + 1) * MINUTE
    gathered = Minute()
    gathered.add(batch(end, *flows))
    return block(
        end - MINUTE,
        end,
        interfaces=increase(Sums(), sums(packets))[0],
        **gathered.parts(batch(end).clock, names)._asdict(),
    )


def listed(blocks: Sequence[Block], expression: str = "", sort: str = "bytes") -> list[dict[str, object]]:
    """Return the flows as ``cnfctl flows`` gets them."""
    return [*select(as_snapshot(Joined(blocks)), expression, sort, None).flows()]


def test_flows_are_those_of_cnfctl_flows() -> None:
    """A block's flows have the same fields; rates are over the block, times are wall-clock times."""
    now = batch(START + MINUTE).clock.now.jiffies
    flow = Flow(packets=60, bytes=6000, first_seen=now - 1000, last_seen=now, tcp_flags=0x12, ifindex=2)
    (shown,) = listed([made(0, 100, flow)])
    assert (shown["interface"], shown["packets"], shown["bytes"], shown["tcp_flags"]) == ("eth1", 60, 6000, "SA")
    assert (shown["packets_per_second"], shown["bits_per_second"], shown["ended"]) == (1.0, 800.0, None)
    assert shown["last_seen"] == "2023-11-14T22:01:00.000000Z"
    assert shown["first_seen"] == "2023-11-14T22:00:56.000000Z"


def test_several_minutes_are_one_listing() -> None:
    """A flow of several blocks is one row; rates are over all of them."""
    flow = Flow(packets=60, bytes=6000)
    (one, other) = listed([made(0, 100, flow), made(1, 100, flow, Flow(src_port=1)), made(7, 0)])
    assert (one["packets"], one["bits_per_second"]) == (120, round(8 * 12000 / 180, 3))
    assert other["src_port"] == 1


def test_an_interface_is_known_by_its_name() -> None:
    """After a restart of the machine an index may be another interface's: flows go by names."""
    flow = Flow(packets=1)
    rows = listed([made(0, 9, flow), made(1, 9, flow, names={1: ("eth7",)}), made(2, 9, flow, names={1: ("eth0",)})])
    assert sorted((row["interface"], row["packets"]) for row in rows) == [("eth0", 1), ("eth0", 1), ("eth7", 1)]


def test_filters_and_sorting_are_the_same() -> None:
    """A filter of the present, also by an altname, is one of the past."""
    flows = [Flow(src_port=number, packets=100 - number, bytes=number) for number in range(1, 5)]
    past = [made(0, 100, *flows, Flow(ifindex=2, src="2001:db8::1", dst="2001:db8::2"))]
    assert [row["src_port"] for row in listed(past, "ip and src portrange 2-3", "packets")] == [2, 3]
    assert len(listed(past, "iface wan")) == 4
    assert len(listed(past, "ip6")) == 1


def test_listed_flows_and_the_rest_are_all_that_was_counted() -> None:
    """For each direction, what was seen is the listed flows, what was dropped, and the rest."""
    interfaces = {**sums(100).interfaces, "eth1": dropped(7, "denied")}
    past = block(**_parts(made(0, 0, Flow(packets=30, bytes=3000), Flow(packets=5, sent=True))), interfaces=interfaces)
    joined = Joined([past])
    snapshot = as_snapshot(joined)
    found = summary(Found(joined, 0), snapshot)
    assert found["seen"]["ingress"] == {"packets": 107, "bytes": 10700}
    assert found["seen"]["egress"] == {"packets": 0, "bytes": 0}
    assert found["listed"] == {"ingress": {"packets": 30, "bytes": 3000}, "egress": {"packets": 5, "bytes": 100}}
    assert found["dropped"]["ingress"] == {"packets": 7, "bytes": 700}
    for way in ("ingress", "egress"):
        for unit in ("packets", "bytes"):
            parts = (found[name][way][unit] for name in ("listed", "dropped", "rest"))
            assert sum(parts) == found["seen"][way][unit]
    assert found["dropped_by"] == [{"interface": "eth1", "reason": "denied", "packets": 7, "bytes": 700}]
    assert [dropped_of(interfaces, reason).packets for reason in DROP_REASONS] == [0, 7, 0]


def _parts(made_block: Block) -> dict[str, Any]:
    return {name: getattr(made_block, name) for name in ("flows", "names", "flow_count", "sources", "destinations")}


def test_sums_by_interface_rule_and_address() -> None:
    """Several blocks add up by interface, direction and protocol, by rule, and by source and destination."""
    flow = Flow(packets=2, bytes=200)
    past = [made(0, 10, flow), made(1, 20, flow, Flow(src="2001:db8::1", dst="2001:db8::2", bytes=50))]
    found = summary(Found(Joined(past), 3), as_snapshot(Joined(past)))
    assert found["interfaces"] == [
        {"interface": "eth0", "direction": "ingress", "protocol": "tcp", "packets": 30, "bytes": 3000}
    ]
    (rule,) = found["rules"]
    assert rule == {
        "rule": "dns",
        "passed": Count(6, 600)._asdict(),
        "limited": Count(4, 400)._asdict(),
        "would_limit": Count()._asdict(),
    }
    assert [(each["address"], each["direction"], each["bytes"]) for each in found["sources"]] == [
        ("192.0.2.1", "ingress", 400),
        ("2001:db8::1", "ingress", 50),
    ]
    assert [each["address"] for each in found["destinations"]] == ["198.51.100.2", "2001:db8::2"]
    assert (found["damaged"], found["flow_count"], found["seconds"], len(found["blocks"])) == (3, 3, 120.0, 2)


def test_sources_that_were_held_back_add_up() -> None:
    """A source of several blocks is one row, with its latest times; under another rule it is another."""
    counts = dict.fromkeys(("packets", "bytes", "over_packets", "over_bytes", "dropped_packets", "dropped_bytes"), 1)
    source = {
        "source": "192.0.2.1",
        "shared": False,
        "rule": "dns",
        "mode": "enforce",
        **counts,
        "last_over": 5,
        "last_drop": 5,
    }
    past = [block(held=[source]), block(held=[{**source, "last_over": 9}, {**source, "rule": "web"}])]
    first, second = Joined(past).held
    assert (first["rule"], first["dropped_packets"], first["last_over"]) == ("dns", 2, 9)
    assert (second["rule"], second["dropped_packets"]) == ("web", 1)
