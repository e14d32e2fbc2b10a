"""TC counts what is on the wire, of real traffic: what the kernel has not cut up yet, or has put together."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal

import pytest

from cnf.counts import Count
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP, Hook
from tests.bpf.conftest import Datapath
from tests.bpf.packets import (
    TCP,
    UDP,
    VLAN,
    DestinationOptions,
    HopByHop,
    IPv4,
    IPv6,
    Layer,
    Raw,
    frame,
)
from tests.bpf.reference import Key, Value, tally
from tests.net.attached import attached
from tests.net.conftest import Node
from tests.net.namespaces import Namespace
from tests.net.wait import wait_for

SENDER4, RECEIVER4 = "192.0.2.1", "192.0.2.2"
SENDER6, RECEIVER6 = "2001:db8::1", "2001:db8::2"
PORT: Final = 5001
Protocol = Literal["tcp", "udp"]
NUMBERS: Final = {"tcp": 6, "udp": 17}
BULK: Final = bytes(3_000_000)
WINDOW: Final = 100_000
"""Bytes that the receiver takes at once: fewer packets than wait between the ends of a veth pair, so that none is lost
behind the hook that has counted it."""
UDP_SEGMENT: Final = 103  # linux/udp.h
JUMBO: Final = 5000
"""Bytes of a frame that a packet socket puts into pages, all but its Ethernet header."""
TUNSETIFF: Final = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x0002, 0x1000, 0x4000  # linux/if_tun.h


class Wired:
    """Two namespaces with addresses, and what one sends and the other receives, each counted."""

    def __init__(self, node: Node, stack: ExitStack, *receivers: Hook, mtu: int = 1500) -> None:
        """Count what is sent by TC, and what is received by each of ``receivers``."""
        self.wire = node.wire("n0", mtu)
        self.near, self.far = node.inside, node.outside
        ends = ((self.far, self.wire.far_name, SENDER4, SENDER6), (self.near, "n0", RECEIVER4, RECEIVER6))
        for namespace, name, address4, address6 in ends:
            with namespace.entered():
                Path("/proc/sys/net/ipv6/conf", name, "disable_ipv6").write_text("0", encoding="ascii")
            namespace.ip("address", "add", f"{address4}/24", "dev", name)
            namespace.ip("address", "add", f"{address6}/64", "dev", name, "nodad")
        wait_for(lambda: self.far.links()[self.wire.far_name]["operstate"] == "UP", "the wire to be up")
        self.received = [stack.enter_context(attached(self.near, "n0", hook)) for hook in receivers]
        self.sent = stack.enter_context(attached(self.far, self.wire.far_name, TC_EGRESS))

    def agree(self, protocol: Protocol) -> Count:
        """Wait until all have counted the same of a protocol, by flow and in sum, to the byte; return the sum."""

        def counted(each: Datapath) -> tuple[Count, dict[Key, Value]]:
            flows = {key: value for key, value in each.flows().items() if key.protocol == NUMBERS[protocol]}
            return Count(*each.received().get(protocol, (0, 0))), flows

        everything = [self.sent, *self.received]
        wait_for(
            lambda: all(counted(each) == counted(self.sent) != (Count(), {}) for each in everything), "equal counts"
        )
        return counted(self.sent)[0]

    @contextmanager
    def listening(self, family: int, address: str) -> Iterator[None]:
        """Have the receiver read all that comes in one connection."""
        with self.near.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
            listener.bind((address, PORT))
            listener.listen()
            reader = threading.Thread(target=_read_all, args=(listener,))
            reader.start()
            yield
            reader.join()


def _read_all(listener: socket.socket) -> None:
    connection, _address = listener.accept()
    with connection:
        while connection.recv(1 << 20):
            pass


@pytest.fixture
def wiring(node: Node) -> Iterator[Callable[..., Wired]]:
    """Return what makes a wire whose ends count."""
    with ExitStack() as stack:
        yield lambda *receivers, mtu=1500: Wired(node, stack, *receivers, mtu=mtu)


FAMILIES: Final = pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, RECEIVER4), (socket.AF_INET6, RECEIVER6)], ids=["IPv4", "IPv6"]
)


@FAMILIES
def test_tcp_with_segmentation(wiring: Callable[..., Wired], family: int, address: str) -> None:
    """What TC counts at the sender, before the cut, XDP counts at the receiver, and TC behind it, after GRO."""
    ends = wiring(XDP, TC_INGRESS)
    with ends.listening(family, address), ends.far.socket(family, socket.SOCK_STREAM) as stream:
        stream.connect((address, PORT))
        stream.sendall(BULK)
    assert ends.agree("tcp").bytes > len(BULK)


def test_a_whole_frame_counts_alike_at_both_ends(wiring: Callable[..., Wired]) -> None:
    """Without XDP the receiver gets it uncut: its segments are counted all the same."""
    ends = wiring(TC_INGRESS)
    with ends.listening(socket.AF_INET, RECEIVER4), ends.far.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        stream.connect((RECEIVER4, PORT))
        stream.sendall(BULK)
    frames, _octets = ends.wire.sent()
    assert ends.agree("tcp").packets > 5 * frames


@FAMILIES
def test_udp_with_segmentation(wiring: Callable[..., Wired], family: int, address: str) -> None:
    """A send of many datagrams counts as these, the last of which is shorter; so does an empty one."""
    ends = wiring(XDP, TC_INGRESS)
    with ends.far.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind(("", PORT))
        sender.sendto(b"", (address, PORT))
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        sender.sendto(bytes(20_500), (address, PORT))
    headers = 42 if family == socket.AF_INET else 62
    assert ends.agree("udp") == (22, 22 * headers + 20_500)


@FAMILIES
def test_fragments(wiring: Callable[..., Wired], family: int, address: str) -> None:
    """Each fragment is a frame of its own."""
    ends = wiring(XDP, TC_INGRESS)
    with ends.far.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(5000), (address, PORT))
    assert ends.agree("udp").packets == 4


LAYERS: Final[dict[str, tuple[Layer, ...]]] = {
    "TCP": (IPv4(), TCP()),
    "UDP with options": (IPv4(options=b"\x01" * 40), UDP()),
    "fragment": (IPv4(more=True, offset=9), Raw(protocol=17)),
    "IPv6": (IPv6(), TCP()),
    "IPv6, extension headers": (IPv6(), HopByHop(), DestinationOptions(bytes(14)), UDP()),
    "tag": (VLAN(5), IPv4(), UDP()),
    "two tags": (VLAN(100, 0x88A8), VLAN(5), IPv6(), TCP()),
    "three tags": (VLAN(0), VLAN(0), VLAN(5), IPv4(), TCP()),
    "not IP": (Raw(ethertype=0x88B5),),
    "bad header": (IPv4(version=5), UDP()),
}


def test_headers_that_are_not_in_one_piece(wiring: Callable[..., Wired]) -> None:
    """What lies behind the Ethernet header in pages is found, at both ends."""
    ends = wiring(TC_INGRESS, mtu=9000)
    frames = [frame(*layers, bytes(JUMBO)) for layers in LAYERS.values()] * 2
    ends.wire.send(frames)

    expected = tally(frames)
    everything = (ends.sent, *ends.received)
    wait_for(lambda: all(expected.flows.items() <= each.flows().items() for each in everything), "all frames")
    assert all(expected.received.items() <= each.received().items() for each in everything)


@contextmanager
def tunnel(namespace: Namespace, name: str, flags: int) -> Iterator[int]:
    """Make a tun or tap device, and yield its descriptor."""
    with namespace.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        try:
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags | IFF_NO_PI))
            namespace.ip("link", "set", name, "up")
            yield descriptor
        finally:
            os.close(descriptor)


@pytest.mark.needs("tun")
def test_a_tap_whose_user_has_not_counted_the_segments(node: Node) -> None:
    """A virtual machine says how long they are, and the kernel no more than that."""
    packet = frame(IPv4(), TCP(), bytes(4500))
    headers = 14 + 20 + 20
    virtio = struct.pack("<BBHHHH", 1, 1, headers, 1000, 34, 16)  # checksum to be made; VIRTIO_NET_HDR_GSO_TCPV4
    with (
        tunnel(node.inside, "t0", IFF_TAP | IFF_VNET_HDR) as tap,
        attached(node.inside, "t0", TC_INGRESS) as counting,
    ):
        os.write(tap, virtio + packet)
        wait_for(counting.received, "the frame")
        assert counting.received() == {"tcp": (5, len(packet) + 4 * headers)}


@pytest.mark.needs("tun")
def test_a_tun_device_has_no_ethernet_header(node: Node) -> None:
    """What it receives and what it sends are counted from the IP header on, which nothing stands before."""
    packet = frame(IPv4(src="192.0.2.9", dst=SENDER4), UDP(7, 9), bytes(50))
    with tunnel(node.inside, "t0", IFF_TUN) as tun, ExitStack() as stack:
        node.inside.ip("address", "add", f"{SENDER4}/24", "dev", "t0")
        received, sent = (
            stack.enter_context(attached(node.inside, "t0", hook, ethernet=False)) for hook in (TC_INGRESS, TC_EGRESS)
        )
        os.write(tun, packet[14:])
        wait_for(received.received, "the packet")
        assert received.received() == {"udp": (1, len(packet) - 14)}
        assert received.flows().keys() == tally([packet]).flows.keys()

        with node.inside.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(bytes(100), ("192.0.2.9", PORT))
        assert sent.received() | {"icmp": (0, 0)} == {"udp": (1, 128), "icmp": (0, 0)}
