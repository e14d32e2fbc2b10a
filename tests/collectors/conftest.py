"""A node that exports to a collector on the other end of a wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Final

import pytest

from tests.bpf.packets import ICMP, TCP, UDP, VLAN, IPv4, IPv6, frame
from tests.collectors.programs import PORT
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.leavings import clear
from tests.net.wait import wait_for

NODE: Final = "192.0.2.1"
COLLECTOR: Final = "192.0.2.9"
ADDRESS: Final = f"{COLLECTOR}:{PORT}"
SIZE: Final = 150


class Exporting:
    """The node, the wire to its collector, and a daemon that counts what comes and goes on it."""

    def __init__(self, node: Node) -> None:
        """Give both ends an address."""
        self.node = node
        self.wire = node.wire("ens1")
        node.inside.ip("address", "add", f"{NODE}/24", "dev", "ens1")
        node.outside.ip("address", "add", f"{COLLECTOR}/24", "dev", self.wire.far_name)
        self.tables: dict[str, Mapping[str, object]] = {}
        self.daemon = self._daemon()

    def _daemon(self) -> Daemon:
        return self.node.daemon("ens1")

    def configure(self, *collectors: Mapping[str, object], **flows: object) -> Daemon:
        """Have the daemon export to ``collectors``: without any, to the one on the wire."""
        wanted = [*(collectors or ({"collector": ADDRESS, "active_timeout": "500ms"},))]
        interfaces = [{"name": "ens1", "mode": "tc", "directions": ["ingress", "egress"]}]
        history = {"folder": str(self.daemon.config.parent / "history")}
        self.daemon.configure(interfaces, flows={"table": "cache", **flows}, export={"ipfix": wanted}, history=history)
        return self.daemon

    def sent(self, records: int) -> None:
        """Wait until the first collector has been sent so many flow records."""

        def are_sent() -> bool:
            exporter = self.daemon.status()["records"]["exporters"][0]
            return bool(exporter["records"] >= records)

        wait_for(are_sent, f"{records} records to be sent")


@pytest.fixture
def exporting() -> Iterator[Exporting]:
    """Give each test a node; whatever becomes of it, its pins are gone in the end."""
    with ExitStack() as stack:
        node = Node(stack)
        folder = node.inside.pins
        stack.callback(clear, folder)
        yield Exporting(node)


def traffic(flows: int, first: int = 0) -> list[bytes]:
    """Return a frame of each of so many flows: TCP, UDP with a VLAN tag, ICMP and IPv6 in turn."""
    kinds = (
        lambda number: (IPv4("198.51.100.1", "198.51.100.2"), TCP(number, 443, flags="SA")),
        lambda number: (VLAN(17), IPv4("198.51.100.1", "198.51.100.2"), UDP(number, 53)),
        lambda number: (IPv4("198.51.100.1", f"198.51.{number >> 8 & 255}.{number & 255}"), ICMP(8, 0)),
        lambda number: (IPv6("2001:db8::1", "2001:db8::2"), TCP(number, 22, flags="S")),
    )
    return [frame(*kinds[number % 4](1000 + number), pad_to=SIZE) for number in range(first, first + flows)]


def layer3(frames: list[bytes]) -> int:
    """Return the bytes of frames without Ethernet header and VLAN tag."""
    return sum(len(each) - (18 if each[12:14] == b"\x81\x00" else 14) for each in frames)
