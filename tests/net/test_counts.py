"""What was sent is what cnfctl, the ledger and the metrics show: packet by packet, byte by byte."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from cnf.flows.top import PROVEN
from tests.bpf.forms import FORMS, LONGEST
from tests.bpf.packets import TCP_FLAGS, UDP, IPv4, IPv6, frame
from tests.bpf.reference import Key
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.exposition import Exposition
from tests.net.wait import wait_for

ETHERNET: Final = 14
FLAG_ORDER: Final = "SAPFRUEW"
FAMILIES: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "gre": 47, "esp": 50, "ah": 51}
TRAFFIC: Final = tuple((form, 1 + number % 3) for number, form in enumerate(FORMS))
"""Every packet form, and how often it is sent."""


class Flow(NamedTuple):
    """What a flow has counted."""

    packets: int
    bytes: int
    tcp_flags: str


class Observed(NamedTuple):
    """All that the daemon shows after the traffic."""

    mode: str
    daemon: Daemon
    flows: list[dict[str, Any]]
    status: dict[str, Any]
    metrics: Exposition


@pytest.fixture(scope="module", params=["native", "generic"])
def observed(request: pytest.FixtureRequest) -> Iterator[Observed]:
    """Send every form to a daemon, once in each mode."""
    with ExitStack() as stack:
        node = Node(stack)
        wire = node.wire("n0", mtu=LONGEST - ETHERNET)
        daemon = node.daemon(metrics={"top_flows": 1000})
        daemon.configure([{"name": "n0", "mode": request.param}], metrics={"top_flows": 1000})
        daemon.start()
        wire.send(form.frame for form, count in TRAFFIC for _ in range(count))
        status = daemon.settle(sum(count for _, count in TRAFFIC))
        yield Observed(request.param, daemon, daemon.flows(), status, daemon.scrape())


def test_every_packet_form_stands_in_its_flow(observed: Observed) -> None:
    """Each flow of ``cnfctl flows -o json`` has exactly the packets, bytes and TCP flags that were sent of it."""
    expected: dict[Key, Flow] = {}
    for form, count in TRAFFIC:
        if form.key:
            packets, octets, flags = expected.get(form.key, Flow(0, 0, ""))
            letters = {*flags} | {letter for bit, letter in enumerate(TCP_FLAGS) if form.tcp_flags >> bit & 1}
            expected[form.key] = Flow(
                packets + count, octets + count * len(form.frame), "".join(sorted(letters, key=FLAG_ORDER.index))
            )

    assert {_key(flow): Flow(flow["packets"], flow["bytes"], flow["tcp_flags"]) for flow in observed.flows} == expected
    assert {(flow["interface"], flow["direction"]) for flow in observed.flows} == {("n0", "ingress")}


def test_the_ledger_equals_what_was_sent(observed: Observed) -> None:
    """Every frame stands in exactly one state of the ledger, and nothing is left over."""
    packets, octets = Counter[str](), Counter[str]()
    for form, count in TRAFFIC:
        for state in ("live" if form.key else form.label, "received"):
            packets[state] += count
            octets[state] += count * len(form.frame)
    assert _not_zero(observed.status["ledger"]["packets"]) == packets
    assert _not_zero(observed.status["ledger"]["bytes"]) == octets


def test_the_status_tells_the_interface_and_the_table(observed: Observed) -> None:
    """The status shows the mode in use, the frames of the interface, and as many entries as there are flows."""
    (interface,) = observed.status["interfaces"]
    assert (interface["state"], interface["mode"]) == ("attached", observed.mode)
    assert interface["received_packets"] == sum(count for _, count in TRAFFIC)
    assert interface["received_bytes"] == sum(count * len(form.frame) for form, count in TRAFFIC)
    assert sum(table["entries"] for table in observed.status["flow_table"].values()) == len(observed.flows)


def test_received_metrics_equal_what_was_sent(observed: Observed) -> None:
    """``cnf_received_*`` and ``cnf_unparsed_*`` have each frame under the label that its form states."""
    packets, octets, unparsed = Counter[str](), Counter[str](), Counter[str]()
    for form, count in TRAFFIC:
        packets[form.label] += count
        octets[form.label] += count * len(form.frame)
        if form.reason:
            unparsed[form.reason] += count
    metrics = observed.metrics
    assert metrics.by("protocol", "cnf_received_packets_total", interface="n0") == packets
    assert metrics.by("protocol", "cnf_received_bytes_total", interface="n0") == octets
    assert metrics.by("reason", "cnf_unparsed_packets_total", interface="n0") == unparsed


@pytest.mark.parametrize("unit", ["packets", "bytes"])
def test_the_metrics_agree_with_each_other(observed: Observed, unit: str) -> None:
    """The sum over ``cnf_ledger_*`` is the sum of ``cnf_received_*``, and ``cnf_flow_*`` is the sum of the flows."""
    metrics = observed.metrics
    assert metrics.total(f"cnf_ledger_{unit}") == metrics.total(f"cnf_received_{unit}_total")
    assert metrics.total(f"cnf_flow_{unit}_total") == sum(flow[unit] for flow in observed.flows)


def test_no_llvm_stays_in_memory(observed: Observed) -> None:
    """The daemon maps neither LLVM nor BCC, and the child that did is gone."""
    maps = Path(f"/proc/{observed.daemon.pid}/maps").read_text(encoding="utf-8")
    assert "libbpf.so" in maps
    assert not re.search("libLLVM|libbcc|libclang", maps)
    assert not Path(f"/proc/{observed.daemon.pid}/task/{observed.daemon.pid}/children").read_text(encoding="ascii")


def test_every_series_grows_with_its_flows(node: Node) -> None:
    """A series of ``cnf_flow_*`` goes up by exactly what was sent of the flows that its labels name."""
    wire = node.wire("n0", mtu=LONGEST - ETHERNET)
    daemon = node.daemon("n0", metrics={"top_flows": 1000}).start()
    for drains in range(1, PROVEN + 1):
        wire.send(form.frame for form in FORMS)
        daemon.settle(drains * len(FORMS))
    before = daemon.scrape()
    wire.send(form.frame for form, count in TRAFFIC for _ in range(count))
    daemon.settle(PROVEN * len(FORMS) + sum(count for _, count in TRAFFIC))
    after = daemon.scrape()

    packets, octets = Counter[frozenset[tuple[str, str]]](), Counter[frozenset[tuple[str, str]]]()
    for form, count in TRAFFIC:
        if form.key:
            labels = _labels(form.key, form.label)
            packets[labels] += count
            octets[labels] += count * len(form.frame)
    assert _growth(before, after, "cnf_flow_packets_total") == packets
    assert _growth(before, after, "cnf_flow_bytes_total") == octets


def test_sockets_of_the_kernel_count_as_the_driver_counts(node: Node) -> None:
    """Of TCP, UDP, fragments and ARP between two real stacks, all is counted that the driver has handed over."""
    wire = node.wire("n0")
    node.inside.ip("address", "add", "192.0.2.2/24", "dev", "n0")
    node.outside.ip("address", "add", "192.0.2.1/24", "dev", wire.far_name)
    daemon = node.daemon("n0", metrics={"top_flows": 1}, flows={"ended_timeout": "1h"}).start()
    data = bytes(1_000_000)
    with (
        node.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
        node.outside.socket(socket.AF_INET, socket.SOCK_STREAM) as client,
        node.outside.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        listener.bind(("192.0.2.2", 80))
        listener.listen()
        client.connect(("192.0.2.2", 80))
        server, (_, port) = listener.accept()
        with server:
            server.settimeout(10)
            client.settimeout(10)
            taken = 0
            for start in range(0, len(data), 50_000):
                client.sendall(data[start : start + 50_000])
                while taken < start + 50_000:
                    taken += len(server.recv(1 << 16))
            client.shutdown(socket.SHUT_WR)
            assert server.recv(1) == b""
        for _ in range(3):
            datagrams.sendto(bytes(4000), ("192.0.2.2", 9))  # three fragments each

    def received() -> tuple[int, int]:
        daemon.drain()
        ledger = daemon.status()["ledger"]
        packets, octets = ledger["packets"]["received"], ledger["bytes"]["received"]
        return packets, octets - ETHERNET * packets  # veth leaves the Ethernet header out

    wait_for(lambda: received() == wire.sent(), "the driver's own counts")

    (tcp,) = daemon.flows("--filter", "tcp")
    assert (tcp["src_port"], tcp["dst_port"], tcp["tcp_flags"]) == (port, 80, "SAPF")
    assert tcp["bytes"] > len(data)
    udp = daemon.flows("--filter", "udp")
    assert {(flow["fragment"], flow["dst_port"], flow["packets"]) for flow in udp} == {(False, 9, 3), (True, 0, 6)}
    metrics = daemon.scrape()
    assert metrics.total("cnf_received_packets_total", protocol="non_ip") > 0  # ARP
    for unit in ("packets", "bytes"):
        flows = daemon.flows()
        assert metrics.total(f"cnf_flow_{unit}_total") == sum(flow[unit] for flow in flows)
        assert metrics.total(f"cnf_flow_{unit}_total", protocol="tcp") == tcp[unit]
        assert metrics.total(f"cnf_ledger_{unit}") == metrics.total(f"cnf_received_{unit}_total")


def test_nothing_is_lost_while_draining(node: Node) -> None:
    """Packets that arrive while the daemon drains, is scraped and asked are all counted, each once."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows={"drain_interval": "100ms"}).start()
    frames = [
        frame(layer, UDP(1000 + port, 53), bytes(size))
        for layer in (IPv4(), IPv6())
        for port, size in enumerate((18, 100, 700))
    ]
    before, rounds = len(daemon.events("drained")), 0
    while len(daemon.events("drained")) < before + 5:
        wire.send(frames * 100)
        rounds += 1
        if rounds % 10 == 0:
            daemon.scrape()
            daemon.status()
    status = daemon.settle(rounds * 100 * len(frames))

    assert status["ledger"]["packets"]["live"] == status["ledger"]["packets"]["received"] == rounds * 100 * len(frames)
    assert sorted((flow["packets"], flow["bytes"]) for flow in daemon.flows()) == sorted(
        (rounds * 100, rounds * 100 * len(packet)) for packet in frames
    )


def test_an_expired_flow_stays_in_the_ledger(node: Node) -> None:
    """What an idle flow has counted moves from live to expired when it goes, and nothing changes in the sum."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows={"idle_timeout": "500ms"}).start()
    packet = frame(IPv4(), UDP(), bytes(100))
    wire.send([packet] * 7)
    wait_for(lambda: daemon.status()["ledger"]["packets"]["expired"], "the flow to expire")

    assert daemon.flows() == []
    ledger = daemon.status()["ledger"]
    assert _not_zero(ledger["packets"]) == {"received": 7, "expired": 7}
    assert _not_zero(ledger["bytes"]) == {"received": 7 * len(packet), "expired": 7 * len(packet)}
    metrics = daemon.scrape()
    assert metrics.total("cnf_flows_expired_total") == 1
    assert metrics.total("cnf_ledger_packets", state="expired") == metrics.total("cnf_received_packets_total")


def _key(flow: dict[str, Any]) -> Key:
    source, destination = ip_address(flow["src_addr"]), ip_address(flow["dst_addr"])
    ports = (flow["src_port"], flow["dst_port"])
    if flow["icmp_type"] is not None:
        ports = (flow["icmp_type"], flow["icmp_code"])
    return Key(
        family="ipv4" if source.version == 4 else "ipv6",
        src_addr=source.packed,
        dst_addr=destination.packed,
        src_port=ports[0] or 0,
        dst_port=ports[1] or 0,
        protocol=FAMILIES.get(flow["protocol"]) or int(flow["protocol"]),
        vlan=flow["vlan"],
        fragment=flow["fragment"],
    )


def _labels(key: Key, label: str) -> frozenset[tuple[str, str]]:
    """Return the labels of the series that a flow belongs to."""
    ports = (str(key.src_port), str(key.dst_port)) if label in ("tcp", "udp", "sctp") else ("", "")
    addresses = (str(ip_address(key.src_addr)), str(ip_address(key.dst_addr)))
    names = ("interface", "protocol", "src", "dst", "src_port", "dst_port", "direction")
    return frozenset(zip(names, ("n0", label, *addresses, *ports, "ingress"), strict=True))


def _growth(before: Exposition, after: Exposition, name: str) -> Counter[frozenset[tuple[str, str]]]:
    """Return by how much the series of ``name`` have grown, where they have."""
    growth = Counter({frozenset(labels.items()): value for labels, value in after.samples(name)})
    growth.subtract({frozenset(labels.items()): value for labels, value in before.samples(name)})
    return +growth


def _not_zero(tally: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in tally.items() if value}
