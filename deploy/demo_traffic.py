#!/usr/bin/python3
"""The demo's traffic: sent from one network namespace, the peer, to another, the node, and held against the counts.

    demo_traffic.py send NODE [--forever]       in the peer: sends for 5 seconds, or until killed; prints what, as JSON
    demo_traffic.py check SOCKET PEER < JSON    asks the daemon behind SOCKET; exit status 1 if it has counted otherwise
    demo_traffic.py flood NODE SOCKET           in the peer: the loud source for 3 seconds; exit status 1 if the limit
                                                of the daemon behind SOCKET let through other than it should
    demo_traffic.py spread                      in the peer: small packets from and to many addresses and ports, until
                                                killed

deploy/demo.sh makes the namespaces and gives their interfaces the addresses that stand here.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from pyroute2 import netns

NIC: Final = "nic0"
NODE_MAC, PEER_MAC = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
NODE4, PEER4, LOUD4 = "192.0.2.1", "192.0.2.2", "192.0.2.66"
NODE6, PEER6 = "2001:db8::1", "2001:db8::2"
HTTP, DNS, SOURCE_PORT = 80, 53, 5300
VLAN: Final = 42
SPREAD_NET, SPREAD_FLOWS, SPREAD_PORTION = "198.51.100.", 20_000, 40
"""The network that a spread flood comes from, in how many flows, and its packets in a portion."""

SECONDS, TICKS = 5, 100
"""How long, and in how many portions a second."""

FLOOD_SECONDS: Final = 3
TOLERANCE: Final = 0.01
"""How far what a limit admits may be from rate x time + burst: a tick of the kernel's clock, and more."""

SEND_BUFFER: Final = 32 << 10
"""Bytes that a socket may have under way: less than a veth's queue holds, so that senders wait and no frame is lost."""

SEGMENTS_OUT: Final = slice(136, 140)
"""tcpi_segs_out in struct tcp_info, linux/tcp.h."""

PATIENCE: Final = 5
"""Seconds in which the daemon must have counted everything; in the demo it drains every second."""


class Source(Protocol):
    """Whatever sends one flow."""

    flow: dict[str, str | int | None]
    """The fields by which the flow is known in ``cnfctl flows -o json``."""

    def send(self) -> None:
        """Send one portion."""

    def finish(self) -> int:
        """End the flow and return how many packets it had."""


class Datagrams:
    """Datagrams, or whole frames, from a socket that knows where they go."""

    def __init__(self, sender: socket.socket, payload: bytes, portion: int, **flow: str | int | None) -> None:
        """Send ``portion`` times ``payload`` at a time."""
        self.flow = {"protocol": "udp", **flow}
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._sender, self._payload, self._portion, self._sent = sender, payload, portion, 0

    def send(self) -> None:
        """Send one portion; wait where the queue is full."""
        for _ in range(self._portion):
            self._sender.send(self._payload)
        self._sent += self._portion

    def finish(self) -> int:
        """Return how many were sent."""
        self._sender.close()
        return self._sent


class Connection:
    """A TCP connection that moves bytes; the kernel says in how many segments."""

    def __init__(self, address: str, portion: int) -> None:
        """Send ``portion`` bytes at a time to the node's ``address``."""
        self._connection = socket.create_connection((address, HTTP))
        self.flow = {"protocol": "tcp", "dst_addr": address, "src_port": self._connection.getsockname()[1]}
        self._payload = bytes(portion)

    def send(self) -> None:
        """Send one portion."""
        self._connection.sendall(self._payload)

    def finish(self) -> int:
        """Close it from both sides and return its segments on the way out, SYN, FIN and bare ACKs among them."""
        self._connection.shutdown(socket.SHUT_WR)
        self._connection.recv(1)  # nothing, once the node has read all and has closed its side
        info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SEGMENTS_OUT.stop)
        self._connection.close()
        return int.from_bytes(info[SEGMENTS_OUT], sys.byteorder)


class Ping:
    """The distribution's ping, twice a second."""

    def __init__(self, address: str, **flow: str | int | None) -> None:
        """Start it."""
        self.flow = {"dst_addr": address, **flow}
        self._count = 2 * SECONDS
        command = ["/usr/bin/ping", "-n", "-q", "-i", "0.5", "-c", str(self._count), address]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - addresses of this file alone

    def send(self) -> None:
        """Leave that to ping."""

    def finish(self) -> int:
        """Return how many echo requests were sent; each must have had its reply."""
        if self._process.wait() != 0:
            sys.exit(f"demo_traffic.py: ping {self.flow['dst_addr']}: replies are missing")
        return self._count


def sources() -> dict[str, Source]:
    """Return all that is sent, by name, ready to start from the namespace that the caller is in."""
    return {
        "TCP over IPv4": Connection(NODE4, 16_000),
        "TCP over IPv6": Connection(NODE6, 8_000),
        "UDP over IPv4": udp(PEER4, NODE4, portion=2),
        "UDP over IPv6": udp(PEER6, NODE6, portion=1),
        "UDP in VLAN 42": tagged_udp(portion=1),
        "ping over IPv4": Ping(NODE4, protocol="icmp", icmp_type=8),
        "ping over IPv6": Ping(NODE6, protocol="icmpv6", icmp_type=128),
        f"UDP from {LOUD4}": udp(LOUD4, NODE4, portion=150),
    }


def udp(source: str, destination: str, *, portion: int) -> Datagrams:
    """Return datagrams of 1,000 bytes to the node's port 53."""
    sender = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((source, SOURCE_PORT))
    sender.connect((destination, DNS))
    return Datagrams(sender, bytes(1000), portion, src_addr=source, src_port=SOURCE_PORT, vlan=None)


def tagged_udp(*, portion: int) -> Datagrams:
    """Return datagrams in whole frames with an 802.1Q tag, which takes no VLAN device: not every kernel has those."""
    tag = struct.pack(">HH", 0x8100, VLAN)
    return Datagrams(raw(), frame(PEER4, DNS, DNS, tag), portion, src_addr=PEER4, vlan=VLAN)


def raw() -> socket.socket:
    """Return what sends whole frames to the node."""
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind((NIC, 0))
    return sender


def frame(source: str, source_port: int, port: int, tag: bytes = b"") -> bytes:
    """Return a frame to the node with a datagram of 200 bytes."""
    datagram = struct.pack(">HHHH200x", source_port, port, 208, 0)
    header = struct.pack(">BxH4xBBH", 0x45, 20 + len(datagram), 64, socket.IPPROTO_UDP, 0)
    header += socket.inet_aton(source) + socket.inet_aton(NODE4)
    total = sum(struct.unpack(">10H", header))
    checksum = 0xFFFF - (total % 0xFFFF)  # one's complement arithmetic, RFC 1071
    header = header[:10] + struct.pack(">H", checksum) + header[12:]
    return NODE_MAC + PEER_MAC + tag + struct.pack(">H", 0x0800) + header + datagram


def listen(node: str) -> list[socket.socket]:
    """Take in what comes to the namespace ``node``: TCP is read to its end, UDP is left lying."""
    listening = []
    netns.pushns(node)
    for family in (socket.AF_INET, socket.AF_INET6):
        server = socket.create_server(("", HTTP), family=family)
        threading.Thread(target=_read_all, args=(server,), daemon=True).start()
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        datagrams.bind(("", DNS))
        listening += [server, datagrams]
    netns.popns()
    return listening


def _read_all(server: socket.socket) -> None:
    while True:
        connection, _address = server.accept()
        with connection:
            while connection.recv(1 << 16):
                pass


def send() -> list[dict[str, Any]]:
    """Send everything for SECONDS, and return what: its name, its flow, its packets."""
    running = sources()
    start = time.monotonic()
    for tick in range(SECONDS * TICKS):
        for source in running.values():
            source.send()
        time.sleep(max(0, start + (tick + 1) / TICKS - time.monotonic()))
    return [{"what": what, "flow": source.flow, "packets": source.finish()} for what, source in running.items()]


def check(socket_path: str, peer: str, sent: list[dict[str, Any]]) -> int:
    """Print what was sent beside what was counted, and return the exit status."""
    deadline = time.monotonic() + PATIENCE
    while True:
        rows = list(_compare(socket_path, peer, sent))
        equal = all(expected == counted for _what, expected, counted in rows)
        if equal or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    table = [f"{'':42}{'SENT':>12}{'COUNTED':>12}"]
    table += [f"{what:42}{a:12,}{b:12,}{'' if a == b else '  <- differs'}" for what, a, b in rows]
    sys.stdout.writelines(f"{line}\n" for line in table)
    return 0 if equal else 1


def flood(socket_path: str) -> int:
    """Send the loud source, print what the daemon's only rule did about it, and return the exit status."""
    before = _rule(socket_path)
    source = udp(LOUD4, NODE4, portion=150)
    start = time.monotonic()
    for tick in range(FLOOD_SECONDS * TICKS):
        source.send()
        last = time.monotonic()
        time.sleep(max(0, start + (tick + 1) / TICKS - last))
    sent = source.finish()
    deadline = time.monotonic() + PATIENCE
    while True:
        rule = _rule(socket_path)
        admitted, dropped = (rule[verdict]["packets"] - before[verdict]["packets"] for verdict in ("passed", "limited"))
        if admitted + dropped == sent or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    expected = rule["packets_per_second"] * (last - start) + rule["burst_packets"]
    lines = [("sent", sent), ("admitted", admitted), ("rate x time + burst", round(expected)), ("dropped", dropped)]
    sys.stdout.writelines(f"{what:42}{count:12,}\n" for what, count in lines)
    exact = admitted + dropped == sent and abs(admitted - expected) <= TOLERANCE * expected
    sys.stdout.write("to the packet, and within 1 %\n" if exact else "THAT IS WRONG\n")
    return 0 if exact else 1


def spread() -> NoReturn:
    """Send frames from every address of SPREAD_NET, and from and to any port."""
    chance = random.Random(1)  # noqa: S311 - nobody is to be kept from guessing these
    frames = [
        frame(f"{SPREAD_NET}{chance.randrange(1, 255)}", chance.randrange(1, 1 << 16), chance.randrange(1, 1 << 16))
        for _ in range(SPREAD_FLOWS)
    ]
    sender = raw()
    while True:
        for start in range(0, SPREAD_FLOWS, SPREAD_PORTION):
            for each in frames[start : start + SPREAD_PORTION]:
                sender.send(each)
            time.sleep(1 / TICKS)


def _rule(socket_path: str) -> dict[str, Any]:
    cnfctl = (Path(sys.executable).with_name("cnfctl"), "--socket", socket_path)
    (rule,) = json.loads(_output(*cnfctl, "limits", "-o", "json"))["rules"]
    return dict(rule)


def _compare(socket_path: str, peer: str, sent: list[dict[str, Any]]) -> Iterator[tuple[str, int, int]]:
    """Yield what, how often it was sent, and how often it was counted."""
    cnfctl = (Path(sys.executable).with_name("cnfctl"), "--socket", socket_path)
    flows = json.loads(_output(*cnfctl, "flows", "-o", "json"))
    for item in sent:
        counted = sum(flow["packets"] for flow in flows if item["flow"].items() <= flow.items())
        yield item["what"], item["packets"], counted
    (link,) = json.loads(_output("ip", "-n", peer, "-j", "-s", "link", "show", "dev", NIC))
    ledger = json.loads(_output(*cnfctl, "status", "-o", "json"))["ledger"]["packets"]
    yield "all frames, as the peer's kernel counts", link["stats64"]["tx"]["packets"], ledger["received"]
    yield "all states of the daemon's ledger", ledger["received"], ledger["received"] - ledger["difference"]


def _output(*command: str | Path) -> bytes:
    return subprocess.check_output(command)  # noqa: S603 - commands of this file alone


def main(arguments: list[str]) -> int:
    """Run one of the two commands and return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    match arguments:
        case ["send", node, *rest] if rest in ([], ["--forever"]):
            _listening = listen(node)
            sent = send()
            while rest:
                sent = send()
            json.dump(sent, sys.stdout)
            return 0
        case ["check", socket_path, peer]:
            return check(socket_path, peer, json.load(sys.stdin))
        case ["flood", node, socket_path]:
            _listening = listen(node)
            return flood(socket_path)
        case ["spread"]:
            spread()
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
