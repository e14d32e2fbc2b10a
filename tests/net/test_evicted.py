"""Flows that a full table has let go early, with their names: listed as ended, told as events, and counted once."""

from __future__ import annotations

import json
from signal import SIGKILL
from typing import Any, Final

import pytest

from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.wait import wait_for

SIZE: Final = 100
TINY: Final[dict[str, Any]] = {"max_entries": 32, "evicted_records": True, "table": "cache", "drain_interval": "100ms"}
"""64 slots a family, in sets of eight."""
FLOWS: Final = 80
"""Of each family: more than there are slots, and of those that make room, fewer than are kept."""

pytestmark = pytest.mark.usefixtures("folder")


def packets(start: int = 0) -> list[bytes]:
    """Return a packet of each of FLOWS flows a family, told apart by their source port."""
    layers = (IPv4("192.0.2.1"), IPv6("2001:db8::1"))
    return [
        frame(layer, UDP(src_port=1000 + start + number), pad_to=SIZE) for number in range(FLOWS) for layer in layers
    ]


def ports(flows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return source address and port of each flow, in order."""
    return sorted((flow["src_addr"], flow["src_port"]) for flow in flows)


def evicted_events(daemon: Daemon) -> list[dict[str, Any]]:
    """Return all events, which must be of evicted flows."""
    events: list[dict[str, Any]] = json.loads(daemon.control("/v1/events?after=0").body)["events"]
    assert {event["event"] for event in events} <= {"flow_evicted"}
    return events


def test_every_flow_that_was_sent_is_named(node: Node) -> None:
    """Live and evicted flows together are those that were sent, each with its own counts; the ledger agrees."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=TINY).start()
    sent = packets()
    wire.send([packet for packet in sent for _ in range(3)])
    status = daemon.settle(3 * len(sent))

    flows = daemon.flows()
    ended = [flow for flow in flows if flow["ended"] == "evicted"]
    live = [flow for flow in flows if flow["ended"] is None]
    assert len(live) + len(ended) == len(flows)
    assert ports(flows) == sorted(
        (source, 1000 + number) for source in ("192.0.2.1", "2001:db8::1") for number in range(FLOWS)
    )
    assert {(flow["packets"], flow["bytes"]) for flow in flows} == {(3, 3 * SIZE)}
    assert {(flow["interface"], flow["dst_port"], flow["bits_per_second"]) for flow in ended} == {
        ("n0", ended[0]["dst_port"], 0)
    }
    states = status["ledger"]["packets"]
    assert (states["live"], states["evicted"], states["difference"]) == (3 * len(live), 3 * len(ended), 0)
    assert sum(table["evicted"] for table in status["flow_table"].values()) == len(ended) >= 2 * (FLOWS - 64)
    metrics = daemon.scrape()
    assert metrics.total("cnf_flows_evicted_total") == len(ended)
    assert metrics.total("cnf_flow_table_entries") == len(live)
    assert metrics.by("kind", "cnf_events_lost_total") == {}

    events = evicted_events(daemon)
    assert [event["seq"] for event in events] == [*range(1, len(ended) + 1)]
    assert ports(events) == ports(ended)
    assert {event["packets"] for event in events} == {3}


def test_filters_and_sorting_know_them(node: Node) -> None:
    """A filter selects ended flows as it does live ones, and the totals are those of all that match."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=TINY).start()
    sent = [packet for number, packet in enumerate(packets(), start=1) for _ in range(number)]
    wire.send(sent)
    daemon.settle(len(sent))

    flows = daemon.flows("--sort", "packets")
    assert [flow["packets"] for flow in flows] == [*range(2 * FLOWS, 0, -1)]
    assert {flow["ended"] for flow in flows} == {None, "evicted"}
    ended = next(flow for flow in flows if flow["ended"])
    family = "ip6" if ":" in ended["src_addr"] else "ip"
    (found,) = daemon.flows("--filter", f"{family} and src port {ended['src_port']}")
    assert (found["packets"], found["ended"]) == (ended["packets"], "evicted")
    answer = json.loads(daemon.control("/v1/flows?top=1&filter=ip").body)
    counted = sum(range(1, 2 * FLOWS, 2))
    assert (answer["matched"], answer["total"]) == (FLOWS, 2 * FLOWS)
    assert answer["totals"] == {"packets": counted, "bytes": counted * SIZE}
    assert "ENDED" in daemon.ctl("flows", "--top", str(2 * FLOWS)).stdout


def test_ended_flows_are_forgotten_when_they_would_have_expired(node: Node) -> None:
    """After idle_timeout without a packet, an evicted flow is not shown any more; the sums go on."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=TINY | {"idle_timeout": "1s"}).start()
    sent = packets()
    wire.send(sent)
    daemon.settle(len(sent))
    wait_for(lambda: not daemon.flows(), "the end of all flows")

    states = daemon.status()["ledger"]["packets"]
    assert (states["live"], states["difference"]) == (0, 0)
    assert states["evicted"] + states["expired"] == len(sent)
    assert evicted_events(daemon)


def test_the_newest_are_kept(node: Node) -> None:
    """Of each family, no more ended flows are kept than the table was made for, those that ended last."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=TINY).start()
    sent = packets()
    wire.send(sent)
    daemon.settle(len(sent))
    wire.send(packets(FLOWS))
    tables = daemon.settle(2 * len(sent))["flow_table"]
    evicted = sum(table["evicted"] for table in tables.values())
    wait_for(lambda: len(evicted_events(daemon)) == evicted, "the events of all that were evicted")
    daemon.drain()

    for family, source in (("ip", "192.0.2.1"), ("ip6", "2001:db8::1")):
        ended = [flow for flow in daemon.flows("--filter", family) if flow["ended"]]
        newest = [event for event in evicted_events(daemon) if event["src_addr"] == source][-TINY["max_entries"] :]
        assert ports(ended) == ports(newest)


def test_flows_evicted_while_no_daemon_runs_are_named_by_the_next(node: Node) -> None:
    """They wait in the ring."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=TINY).start()
    daemon.signal(SIGKILL)
    daemon.ended()
    sent = packets()
    wire.send(sent)

    daemon.start()
    daemon.settle(len(sent))

    assert len(daemon.flows()) == len(sent)
