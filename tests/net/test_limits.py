"""The limits in the way of real frames: what passes, what does not, and that every packet is counted once."""

from __future__ import annotations

import json
import socket
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.bpf.packets import ICMP, SCTP, TCP, UDP, ICMPv6, IPv4, frame
from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.flood import Sender, flood
from tests.net.namespaces import Namespace, run
from tests.net.rations import EVERYBODY, QUICK, SIZE, enforce, packet, ration, verdicts
from tests.net.wait import wait_for

RATE: Final = 1000
SECONDS: Final = 2.0
FACTORS: Final = (1.1, 2, 5, 10)


@pytest.mark.parametrize(
    ("limit", "burst", "source"),
    [
        pytest.param({"packets_per_second": RATE, "burst_packets": 100}, 100, "10.0.0.{}", id="packets, by jiffies"),
        pytest.param({"packets_per_second": RATE, "burst_packets": 50}, 50, "10.0.0.{}", id="packets, by ktime"),
        pytest.param(
            {"bits_per_second": RATE * SIZE * 8, "burst_bytes": 100 * SIZE}, 100, "2001:db8:1:{}::1", id="bytes, IPv6"
        ),
    ],
)
def test_a_source_over_its_rate_is_held_to_it(node: Node, limit: dict[str, int], burst: int, source: str) -> None:
    """Sources at 1.1, 2, 5 and 10 times their rate get rate x time + burst within 1 %, and every packet is counted."""
    wire = node.wire("n0")
    rule = {"name": "default", "prefixes": [*EVERYBODY], **limit}
    daemon = node.daemon("n0", limits=enforce(rule), flows=QUICK).start()
    senders = {
        source.format(number): Sender([packet(source.format(number))], factor * RATE)
        for number, factor in enumerate(FACTORS, start=1)
    }
    with arrivals(node.inside, "n0") as through:
        flood(wire, SECONDS, *senders.values())
        admitted = through.by_source(verdicts(daemon.limits(), "default")[0])

    for address, sender in senders.items():
        assert sender.packets == round(sender.rate * SECONDS)
        # A machine that is busy elsewhere sends nothing for a while, and a bucket that is full meanwhile loses tokens.
        least = sender.within(RATE, burst)
        assert 0.99 * least <= admitted[address] <= 1.01 * (RATE * sender.seconds + burst)
    limited = {address: sender.packets - admitted[address] for address, sender in senders.items()}
    sent = sum(sender.packets for sender in senders.values())
    _check_counts(daemon, sent, limited=sum(limited.values()))
    flows = {flow["src_addr"]: flow for flow in daemon.flows()}
    for address in senders:
        assert (flows[address]["packets"], flows[address]["dropped_packets"]) == (admitted[address], limited[address])
        assert flows[address]["dropped_bytes"] == limited[address] * SIZE
    metrics = daemon.scrape()
    counted = {"passed": sum(admitted.values()), "limited": sum(limited.values())}
    assert metrics.by("verdict", "cnf_limit_packets_total", rule="default") == counted
    assert metrics.by("verdict", "cnf_limit_bytes_total", rule="default") == {
        verdict: packets * SIZE for verdict, packets in counted.items()
    }
    assert metrics.total("cnf_limiter_sources") == len(FACTORS)


def test_the_addresses_of_a_64_share_one_bucket(node: Node) -> None:
    """Whoever sends from many addresses of its /64 gets no more than from one; another /64 has its own bucket."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=enforce(ration("default", 20)), flows=QUICK).start()

    with arrivals(node.inside, "n0") as through:
        wire.send(packet(f"2001:db8:0:1::{number:x}") for number in range(1, 501))
        wire.send(packet(f"2001:db8:0:2::{number:x}") for number in range(1, 16))
        _check_counts(daemon, 515, limited=480)
        assert sum(through.by_source(35).values()) == 35

    sources = daemon.limited_sources("--all")
    assert [(each["source"], each["packets"], each["dropped_packets"]) for each in sources] == [
        ("2001:db8:0:1::/64", 20, 480),
        ("2001:db8:0:2::/64", 15, 0),
    ]


def test_shadow_drops_nothing_and_counts_what_it_would(node: Node) -> None:
    """In shadow every packet comes through, and those over the limit are counted as ``would_limit``."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits={"mode": "shadow", "rules": [ration("default", 20)]}, flows=QUICK).start()

    with arrivals(node.inside, "n0") as through:
        wire.send([packet("192.0.2.1")] * 100)
        assert through.by_source(100) == {"192.0.2.1": 100}

    _check_counts(daemon, 100)
    assert verdicts(daemon.limits(), "default") == (20, 0, 80)
    assert daemon.scrape().by("verdict", "cnf_limit_packets_total") == {"passed": 20, "would_limit": 80}
    (flow,) = daemon.flows()
    assert (flow["packets"], flow["dropped_packets"]) == (100, 0)


def test_deny_goes_before_allow_and_allow_before_the_rules(node: Node) -> None:
    """What is denied is dropped unless the limits are off, allowed or not; what is allowed is never limited."""
    wire = node.wire("n0")
    lists = {"allow": ["192.0.2.0/24"], "deny": ["192.0.2.64/26", "198.51.100.0/24"]}
    daemon = node.daemon("n0", limits=enforce(ration("default", 10), **lists), flows=QUICK).start()
    allowed, both, denied, other = "192.0.2.1", "192.0.2.65", "198.51.100.1", "203.0.113.1"
    passed = Counter[str]()

    with arrivals(node.inside, "n0") as through:
        for mode, passing in (
            ("enforce", {allowed: 30, other: 10}),
            ("shadow", {allowed: 30, other: 30}),
            ("off", {allowed: 30, both: 30, denied: 30, other: 30}),
        ):
            daemon.limits("mode", mode)
            wire.send(packet(source) for source in (allowed, both, denied, other) for _ in range(30))
            passed.update(passing)
            assert through.by_source(passed.total()) == passed

    _check_counts(daemon, 360, limited=20, denied=120)
    assert {flow["src_addr"]: flow["dropped_packets"] for flow in daemon.flows()} == {
        allowed: 0,
        both: 0,
        denied: 0,
        other: 20,
    }


def test_a_shared_bucket_holds_a_spoofed_flood(node: Node) -> None:
    """A thousand forged addresses of a prefix get one bucket together, and no place in the table of sources."""
    wire = node.wire("n0")
    rule = ration("lab", 100, ["10.1.0.0/16"], bucket="prefix")
    daemon = node.daemon("n0", limits=enforce(rule), flows=QUICK).start()

    wire.send(packet(f"10.1.{number // 250}.{number % 250}") for number in range(1000))

    _check_counts(daemon, 1000, limited=900)
    (source,) = daemon.limited_sources()
    assert (source["source"], source["shared"], source["rule"]) == ("10.1.0.0/16", True, "lab")
    assert (source["packets"], source["dropped_packets"]) == (100, 900)
    assert daemon.scrape().total("cnf_limiter_sources") == 0
    assert {family: table["entries"] for family, table in daemon.status()["limiter"]["sources"].items()} == {
        "ipv4": 0,
        "ipv6": 0,
    }


def test_a_rule_for_syn_lets_connections_go_on(node: Node) -> None:
    """A rule for ``tcp_syn`` holds new connections back, and no segment of those that are there."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=enforce(ration("connections", 10, protocols=["tcp_syn"])), flows=QUICK).start()

    for flags in ("S", "A", "PA", "SA", "FA", "R"):
        wire.send([packet("192.0.2.1", TCP(flags=flags))] * 30)

    _check_counts(daemon, 180, limited=20)
    assert verdicts(daemon.limits(), "connections") == (10, 20, 0)


def test_every_kind_of_traffic_can_have_its_rule(node: Node) -> None:
    """Rules that share a prefix each count their own protocol, and nothing of the others'."""
    wire = node.wire("n0")
    traffic = {
        "tcp": packet("192.0.2.1", TCP()),
        "tcp_syn": packet("192.0.2.1", TCP(flags="S")),
        "udp": packet("192.0.2.1"),
        "icmp": packet("192.0.2.1", ICMP()),
        "icmpv6": packet("2001:db8::1", ICMPv6()),
        "other": packet("192.0.2.1", SCTP()),
        "fragment": frame(IPv4(offset=100), UDP(), pad_to=SIZE),
    }
    rations = {name: 10 + number for number, name in enumerate(traffic)}
    rules = [ration(name, packets, protocols=[name]) for name, packets in rations.items()]
    daemon = node.daemon("n0", limits=enforce(*rules), flows=QUICK).start()

    wire.send([*traffic.values()] * 30)

    _check_counts(daemon, 30 * len(traffic), limited=sum(30 - packets for packets in rations.values()))
    limits = daemon.limits()
    for name, packets in rations.items():
        assert verdicts(limits, name) == (packets, 30 - packets, 0)


def test_a_rule_may_be_for_some_interfaces(node: Node) -> None:
    """A rule with a pattern counts what comes in on the interfaces that match, also on those that appear later."""
    wires = {name: node.wire(name) for name in ("lan0", "wan0")}
    daemon = node.daemon("*an?", limits=enforce(ration("outside", 10, interfaces=["wan*"])), flows=QUICK).start()

    for wire in wires.values():
        wire.send([packet("192.0.2.1")] * 30)
    _check_counts(daemon, 60, limited=20)

    late = node.wire("wan1")
    daemon.attached("lan0", "wan0", "wan1")
    late.send([packet("192.0.2.2")] * 30)
    _check_counts(daemon, 90, limited=40)

    assert verdicts(daemon.limits(), "outside") == (20, 40, 0)
    dropped = daemon.scrape().by("interface", "cnf_dropped_packets_total", reason="limited")
    assert dropped == {"wan0": 20, "wan1": 20}
    assert {flow["interface"]: flow["packets"] for flow in daemon.flows()} == {"lan0": 30, "wan0": 10, "wan1": 10}


def test_a_rule_may_have_a_mode_of_its_own(node: Node) -> None:
    """One rule in earnest drops while the others are tried out; one that is off leaves its prefix to the next."""
    wire = node.wire("n0")
    rules = [
        ration("default", 10),
        ration("strict", 20, ["192.0.2.1/32"], mode="enforce"),
        ration("asleep", 8, ["192.0.2.2/32"], mode="off"),
    ]
    daemon = node.daemon("n0", limits={"mode": "shadow", "rules": rules}, flows=QUICK).start()

    for source in ("192.0.2.1", "192.0.2.2"):
        wire.send([packet(source)] * 30)

    _check_counts(daemon, 60, limited=10)
    limits = daemon.limits()
    assert verdicts(limits, "strict") == (20, 10, 0)
    assert verdicts(limits, "asleep") == (0, 0, 0)
    assert verdicts(limits, "default") == (10, 0, 20)


@pytest.mark.parametrize(
    ("near", "far"),
    [pytest.param("192.0.2.2", "192.0.2.1", id="ARP"), pytest.param("2001:db8::2", "2001:db8::1", id="ND")],
)
def test_neighbours_find_each_other_under_any_limit(node: Node, near: str, far: str) -> None:
    """Addresses are resolved both ways, with a neighbour whose every other packet is over the limit."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=enforce(ration("default", 10)), flows=QUICK).start()
    for namespace, interface, address in ((node.inside, "n0", near), (node.outside, wire.far_name, far)):
        namespace.ip("link", "set", interface, "addrgenmode", "none")  # so that IPv6 has nothing to say by itself
        with namespace.entered():
            Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6").write_text("0", encoding="ascii")
        namespace.ip("address", "add", f"{address}/{64 if ':' in address else 24}", "dev", interface, "nodad")

    wire.send([packet(far)] * 30)
    for asking, other in ((node.outside, near), (node.inside, far)):
        node.inside.ip("neigh", "flush", "all")
        _resolve(asking, other)

    daemon.drain()
    (source,) = (source for source in daemon.limited_sources() if source["source"] in (far, f"{far[:-1]}/64"))
    assert (source["packets"], source["bytes"]) == (10, 10 * SIZE)


def test_ten_thousand_rules_are_as_good_as_one(node: Node) -> None:
    """With 10,000 rules in the file, the one with the longest prefix decides on a source."""
    wire = node.wire("n0")
    rules = [ration(f"r{number}", 10, [f"10.{number >> 8}.{number & 255}.0/24"]) for number in range(10_000)]
    daemon = node.daemon("n0", limits=enforce(ration("default", 20), *rules), flows=QUICK).start()

    for source in ("10.39.15.1", "192.0.2.1"):
        wire.send([packet(source)] * 30)

    _check_counts(daemon, 60, limited=30)
    limits = daemon.limits()
    assert verdicts(limits, "r9999") == (10, 20, 0)
    assert verdicts(limits, "default") == (20, 10, 0)
    (case,) = daemon.limits("explain", "10.39.15.1", "--protocol", "udp")["cases"]
    assert case["rule"]["name"] == "r9999"


def _check_counts(daemon: Daemon, sent: int, *, limited: int = 0, denied: int = 0) -> None:
    """Have so many packets dropped, all others passed, and every one in its place in the ledger."""
    status = daemon.settle(sent)
    dropped = limited + denied
    for unit, size in (("packets", 1), ("bytes", SIZE)):
        ledger = status["ledger"][unit]
        assert (ledger["received"], ledger["difference"]) == (sent * size, 0)
        assert (ledger["live"], ledger["dropped"]) == ((sent - dropped) * size, dropped * size)
        reasons = {name: packets * size for name, packets in (("limited", limited), ("denied", denied)) if packets}
        assert daemon.scrape().by("reason", f"cnf_dropped_{unit}_total") == reasons


def _resolve(namespace: Namespace, address: str) -> None:
    """Send a datagram to ``address``, and wait until the kernel has learnt where that is."""
    with namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (address, 9))

    def reachable() -> bool:
        neighbours = json.loads(run("ip", "-netns", namespace.name, "-json", "neigh", "show", "to", address))
        return any("REACHABLE" in neighbour["state"] for neighbour in neighbours)

    wait_for(reachable, f"{address} to be found")
