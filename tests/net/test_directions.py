"""What one node sends is, flow by flow, what the other one receives, to the packet and byte: TC and XDP count alike."""

from __future__ import annotations

import itertools
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from pyroute2.ethtool import Ethtool

from cnf.kernel.tcx import is_there as kernel_has_tcx
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.at_tc import foreign_tc
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.namespaces import RING, Namespace
from tests.net.wait import wait_for

UDP_SEGMENT: Final = 103  # linux/udp.h
SOL_PACKET: Final = 263  # linux/socket.h
PACKET_QDISC_BYPASS: Final = 20  # linux/if_packet.h
SEGMENT: Final = 1000
VLAN_PUSH: Final = bytes.fromhex(
    "b7020000 81000000"  # r2 = htons(ETH_P_8021Q)
    "b7030000 05000000"  # r3 = 5
    "85000000 12000000"  # bpf_skb_vlan_push(r1, r2, r3)
    "b7000000 ffffffff"  # r0 = TC_ACT_UNSPEC
    "95000000 00000000"
)
KEYS: Final = ("protocol", "src_addr", "src_port", "dst_addr", "dst_port", "icmp_type", "vlan", "fragment")


class Ends(NamedTuple):
    """Addresses of the near node and of the far one, and the family of both."""

    family: socket.AddressFamily
    near: str
    far: str
    length: int
    """Of their prefix."""
    headers: int
    """Bytes of a UDP datagram without payload."""


IPV4: Final = Ends(socket.AF_INET, "192.0.2.1", "192.0.2.2", 24, 14 + 20 + 8)
IPV6: Final = Ends(socket.AF_INET6, "2001:db8::1", "2001:db8::2", 64, 14 + 40 + 8)
FROM_NEAR: Final = f"src host ({IPV4.near} or {IPV6.near})"
Flows = dict[tuple[Any, ...], tuple[int, int]]
both_families = pytest.mark.parametrize("ends", [IPV4, IPV6], ids=["IPv4", "IPv6"])


class Pair:
    """Two nodes with a daemon each, which count both directions: the near one by TC, the far one comes in by XDP."""

    def __init__(self, node: Node, near: Daemon, far: Daemon) -> None:
        """Take the namespaces and the daemons."""
        self.node, self.near, self.far = node, near, far
        self._ports = itertools.count(5001)

    def port(self) -> int:
        """Return a port that no other test uses."""
        return next(self._ports)

    def flows(self, expression: str) -> tuple[Flows, Flows]:
        """Return packets and bytes by flow, of what the near node sent and of what the far one received."""
        sent, received = (
            {
                tuple(flow[key] for key in KEYS): (flow["packets"], flow["bytes"])
                for flow in daemon.flows("--filter", f"{direction} and {FROM_NEAR} and ({expression})")
            }
            for daemon, direction in ((self.near, "outbound"), (self.far, "inbound"))
        )
        return sent, received

    def agree(self, expression: str, packets: int) -> Flows:
        """Wait until both have counted so many packets or more, and the same of each flow; return it."""

        def same() -> bool:
            sent, received = self.flows(expression)
            return sum(count for count, _ in sent.values()) >= packets and sent == received

        wait_for(same, "both nodes to have counted the same")
        return self.flows(expression)[0]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Connect two nodes, each with an address of both families."""
    with ExitStack() as stack:
        node = Node(stack)
        wire = node.wire("n0")
        address(node.inside, "n0", "near")
        address(node.outside, wire.far_name, "far")
        near = node.daemon()
        far = Daemon(node.outside, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnf-t-"))))
        stack.callback(far.close)
        long = {"idle_timeout": "1h", "ended_timeout": "1h"}
        near.configure([{"name": "n0", "mode": "tc", "directions": ["ingress", "egress"]}], flows=long)
        far.configure([{"name": wire.far_name, "directions": ["ingress", "egress"]}], flows=long)
        far.launch()
        near.start()
        far.wait_for_event("ready")
        yield Pair(node, near, far)


def address(namespace: Namespace, name: str, which: str) -> None:
    """Give an interface its addresses; IPv6 is on from now on, and announces nothing by itself."""
    with namespace.entered():
        settings = Path("/proc/sys/net/ipv6/conf", name)
        for setting, value in (("addr_gen_mode", "1"), ("router_solicitations", "0"), ("disable_ipv6", "0")):
            (settings / setting).write_text(value, encoding="ascii")
    for ends in (IPV4, IPV6):
        nodad = ["nodad"] if ends is IPV6 else []
        namespace.ip("address", "add", f"{getattr(ends, which)}/{ends.length}", "dev", name, *nodad)


def transfer(pair: Pair, ends: Ends, port: int, size: int) -> None:
    """Send so many bytes from the near end by TCP."""
    with pair.node.outside.socket(ends.family, socket.SOCK_STREAM) as listener:
        listener.bind((ends.far, port))
        listener.listen()
        with ThreadPoolExecutor(1) as pool, pair.node.inside.socket(ends.family, socket.SOCK_STREAM) as connection:
            taken = pool.submit(take_all, listener)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)  # less than a RING is on the way
            connection.connect((ends.far, port))
            connection.sendall(bytes(size))
            connection.close()
            assert taken.result() == size


def write_tags_into_frames(namespace: Namespace, name: str) -> None:
    """Have a veth write tags into the frames that it sends, so that XDP at its other end sees them."""
    with namespace.entered(), Ethtool() as ethtool:
        features = ethtool.get_features(name)
        features.features["tx-vlan-hw-insert"].enable = False
        ethtool.set_features(name, features)


def take_all(listener: socket.socket) -> int:
    """Take what the first to connect sends, and return how much it was."""
    connection, _ = listener.accept()
    total = 0
    with connection:
        while taken := len(connection.recv(1 << 20)):
            total += taken
    return total


@both_families
def test_tcp_with_segmentation_offload(pair: Pair, ends: Ends) -> None:
    """Super-frames of TCP count as the segments that they become, each with its headers."""
    port = pair.port()
    transfer(pair, ends, port, 20_000_000)
    (found,) = pair.agree(f"tcp dst port {port}", 20_000_000 // 1448).values()
    assert found[1] > 20_000_000 + 54 * found[0]


@both_families
def test_udp_segments(pair: Pair, ends: Ends) -> None:
    """So do those of UDP_SEGMENT, the last of which is shorter."""
    port = pair.port()
    with pair.node.inside.socket(ends.family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
        for _ in range(RING // 21):
            sender.sendto(bytes(20 * SEGMENT + 7), (ends.far, port))

    (found,) = pair.agree(f"udp dst port {port}", RING // 21 * 21).values()

    assert found == (RING // 21 * 21, RING // 21 * (20 * SEGMENT + 7 + 21 * ends.headers))


@both_families
def test_fragments_and_empty_datagrams(pair: Pair, ends: Ends) -> None:
    """A datagram in pieces is a flow, and one of its later pieces; an empty one is a packet."""
    port, version = pair.port(), "ip" if ends is IPV4 else "ip6"
    with pair.node.inside.socket(ends.family, socket.SOCK_DGRAM) as sender:
        for size in (8000, 0, 1, 64_000) * 4:
            sender.sendto(bytes(size), (ends.far, port))

    flows = pair.agree(f"{version} and udp and (port {port} or fragment)", 4 * 4)

    assert sorted(key[-1] for key in flows) == [False, True]


def test_ping(pair: Pair) -> None:
    """ICMP has types in place of ports."""
    with pair.node.inside.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sender:
        for _ in range(7):
            sender.sendto(bytes.fromhex("0800f7ff00000000"), (IPV4.far, 0))
    assert pair.agree("icmp", 7) == {("icmp", IPV4.near, None, IPV4.far, None, 8, None, False): (7, 7 * 42)}


@pytest.mark.skipif(not kernel_has_tcx(), reason="no TCX before Linux 6.6, by which to stand before cnfd")
@both_families
def test_a_vlan_tag_that_is_not_in_the_frame(pair: Pair, ends: Ends) -> None:
    """A tag beside the skb becomes four bytes of each segment, and the flow's VLAN."""
    port = pair.port()
    write_tags_into_frames(pair.node.inside, "n0")
    with foreign_tc(VLAN_PUSH) as tagger:
        with pair.node.inside.socket(ends.family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (ends.far, port))  # so that the neighbour is known
            pair.agree(f"udp dst port {port}", 1)
            tagger.attach(pair.node.inside, "n0", "egress")
            sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, SEGMENT)
            for _ in range(20):
                sender.sendto(bytes(10 * SEGMENT), (ends.far, port))
        tagger.detach()
    flows = pair.agree(f"vlan 5 and udp dst port {port}", 200)

    assert [*flows.values()] == [(200, 200 * (SEGMENT + 4 + ends.headers))]


@both_families
def test_a_connection_is_one_row_on_both_nodes(pair: Pair, ends: Ends) -> None:
    """Whoever looks sees the same connection: the same initiator, and as much each way."""
    port = pair.port()
    transfer(pair, ends, port, 3_000_000)
    pair.agree(f"tcp dst port {port}", 1)

    def rows() -> list[dict[str, Any]]:
        found = [daemon.flows("--pairs", "--filter", f"port {port}") for daemon in (pair.near, pair.far)]
        assert [len(each) for each in found] == [1, 1]
        return [row for (row,) in found]

    ends_of_row = ("src_addr", "src_port", "dst_addr", "dst_port")
    same = (*ends_of_row, "forward_packets", "forward_bytes", "reverse_packets", "reverse_bytes")
    wait_for(lambda: len({tuple(row[field] for field in same) for row in rows()}) == 1, "the same on both nodes")
    near, far = rows()
    assert (near["src_addr"], near["dst_port"], near["direction"], far["direction"]) == (
        *(ends.near, port),
        *("egress", "ingress"),
    )
    assert near["forward_bytes"] > 3_000_000 > near["reverse_bytes"] > 0


def test_each_ledger_adds_up(pair: Pair) -> None:
    """At rest, each direction's states are what its counters have, on both nodes."""

    def balanced() -> bool:
        for daemon in (pair.near, pair.far):
            samples = daemon.scrape()
            for direction, name in (("ingress", "received"), ("egress", "sent")):
                for unit in ("packets", "bytes"):
                    states = samples.by("direction", f"cnf_ledger_{unit}")[direction]
                    if states != samples.total(f"cnf_{name}_{unit}_total"):
                        return False
        return True

    wait_for(balanced, "the ledgers to add up")


def test_coverage_is_the_share_of_what_the_driver_has_counted(pair: Pair) -> None:
    """All that passes the hooks is seen; what a socket sends past them is missed, and there is a warning of that."""
    transfer(pair, IPV4, pair.port(), 20_000_000)
    wait_for(lambda: None not in coverage(pair).values(), "enough packets for a ratio")
    assert all(0.99 <= ratio <= 1.06 for ratio in coverage(pair).values() if ratio), coverage(pair)

    with pair.node.inside.socket(socket.AF_PACKET, socket.SOCK_RAW) as past:
        past.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        past.bind(("n0", 0))
        before = pair.node.inside.links()["n0"]["stats64"]["tx"]["packets"]
        for sent in range(100, 10_001, 100):
            for _ in range(100):
                past.send(frame(IPv4(src=IPV4.near, dst=IPV4.far), UDP()))
            wait_for(
                lambda sent=sent: pair.node.inside.links()["n0"]["stats64"]["tx"]["packets"] >= before + sent,  # type: ignore[misc]
                "the driver to have sent them",
            )

    wait_for(lambda: (coverage(pair)["egress"] or 1) < 0.9, "what was sent past the hook to be missed")
    assert (coverage(pair)["ingress"] or 0) > 0.99
    assert "of what its driver counts as sent" in pair.near.ctl("status").stdout
    samples = pair.near.scrape().families
    (ratios,) = (family.samples for family in samples if family.name == "cnf_interface_coverage_ratio")
    assert {sample.labels["direction"] for sample in ratios} == {"ingress", "egress"}


def coverage(pair: Pair) -> dict[str, float | None]:
    """Have the near node look at its interfaces, and return the coverage by direction."""
    pair.node.inside.ip("link", "set", "n0", "alias", f"look {time.monotonic_ns()}")
    return {there["direction"]: there["coverage"] for there in pair.near.interfaces()["n0"]["directions"]}
