"""A collector that cannot be reached is counters, a warning with the remedy, and never a stall."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from signal import SIGKILL
from typing import Any, Final

import numpy as np
import pytest

from cnf.export.templates import FLOWS
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFD, Daemon
from tests.net.leavings import clear
from tests.net.namespaces import Namespace, Wire
from tests.net.wait import wait_for

PORT: Final = 4739
COUNT: Final = 40
LATER: Final = f"192.0.2.9:{PORT}"
FORBIDDEN: Final = f"192.0.2.10:{PORT}"
REJECTED: Final = f"198.51.100.9:{PORT}"
NO_ROUTE: Final = f"203.0.113.9:{PORT}"
NAMED: Final = f"collector.test:{PORT}"
GLOBAL: Final = f"[2001:db8::9]:{PORT}"
SCOPED: Final = f"[fe80::9%ens1]:{PORT}"
AWAY: Final = {
    LATER: ("refused", "start the collector, or correct the port"),
    FORBIDDEN: (
        "not_permitted",
        "systemctl edit cnfd: [Service] IPAddressAllow=192.0.2.10; else see the firewall of this node",
    ),
    REJECTED: ("unreachable", "ip route get 198.51.100.9; else a firewall on the way refuses it"),
    NO_ROUTE: ("unreachable", "ip route get 203.0.113.9; else a firewall on the way refuses it"),
    NAMED: ("refused", "start the collector, or correct the port"),
}
THERE: Final = (GLOBAL, SCOPED)
ONLY: Final = {"filter": "dst host 198.18.0.2"}


class Listener:
    """A collector that reads the flow records of UDP port 4739."""

    def __init__(self, stack: ExitStack, namespace: Namespace, address: str, scope: int = 0) -> None:
        """Listen on ``address``."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = stack.enter_context(namespace.socket(family, socket.SOCK_DGRAM))
        self.socket.bind((address, PORT, 0, scope) if scope else (address, PORT))
        self.socket.setblocking(False)  # noqa: FBT003 - its only argument
        self.numbers: list[int] = []
        self.ports: list[int] = []
        self.destinations: set[int] = set()

    def read(self) -> list[int]:
        """Return the source ports of all records so far, which tell their flows apart."""
        with suppress(BlockingIOError):
            while True:
                message = self.socket.recv(2000)
                (number,) = struct.unpack_from(">I", message, 8)
                (kind,) = struct.unpack_from(">H", message, 16)
                for template in FLOWS.values():
                    if template.id == kind:
                        records = np.frombuffer(message[20:], template.dtype)
                        self.numbers += range(number, number + len(records))
                        self.ports += records["sourceTransportPort"].tolist()
                        self.destinations |= {*records["destinationTransportPort"].tolist()}
        return self.ports

    def wait_for(self, ports: range) -> None:
        """Wait for the records of these flows, each once and nothing else."""
        wait_for(lambda: len(self.read()) >= len(ports), f"{len(ports)} records")
        assert sorted(self.ports) == [*ports]


def flows(ports: range) -> list[bytes]:
    """Return a packet of each flow."""
    return [frame(IPv4("198.18.0.1", "198.18.0.2"), UDP(port, 53), bytes(50)) for port in ports]


@pytest.fixture
def wire(node: Node) -> Iterator[Wire]:
    """Give a wire to the collectors' side, with addresses of both versions."""
    wire = node.wire("ens1")
    for namespace, name, last in ((node.inside, "ens1", 1), (node.outside, wire.far_name, 9)):
        with namespace.entered():
            for option in ("accept_dad", "disable_ipv6"):
                Path(f"/proc/sys/net/ipv6/conf/{name}/{option}").write_text("0", encoding="ascii")
        for address in (f"192.0.2.{last}/24", f"2001:db8::{last}/64", f"fe80::{last}/64"):
            namespace.ip("address", "add", address, "dev", name, *(["nodad"] if ":" in address else []))
    yield wire
    clear(node.inside.pins)


def configured(node: Node, collectors: list[dict[str, Any]], **settings: object) -> Daemon:
    """Return a daemon that exports to these."""
    daemon = node.daemon()
    daemon.configure(
        [{"name": "ens1", "mode": "tc", "directions": ["ingress", "egress"]}],
        flows={"table": "cache", "idle_timeout": "300ms", **settings},
        export={"ipfix": collectors},
    )
    return daemon


def counted(daemon: Daemon, name: str, *exporters: str) -> list[int]:
    """Return a metric of these exporters."""
    scrape = daemon.scrape()
    return [scrape.total(f"cnf_export_{name}_total", exporter=each) for each in exporters]


def test_collectors_that_are_away_and_come(node: Node, wire: Wire) -> None:  # noqa: PLR0915 - one daemon for all
    """Each has its reason and its remedy; others get all meanwhile, and so does it once it can be reached."""
    inside, outside = node.inside, node.outside
    for last in (10, 12, 13):
        outside.ip("address", "add", f"192.0.2.{last}/24", "dev", wire.far_name)
    inside.ip("route", "add", "prohibit", "192.0.2.10/32")
    inside.ip("route", "add", "unreachable", "198.51.100.9/32")
    daemon = configured(node, [{"collector": each, **(ONLY if each != GLOBAL else {})} for each in (*AWAY, *THERE)])
    hosts = daemon.config.with_name("hosts")
    hosts.write_text("192.0.2.12 collector.test\n", encoding="ascii")
    script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
    daemon.command = ("unshare", "--mount", "sh", "-c", script, "sh", str(hosts), *CNFD)
    first, second, third = (range(1000 + COUNT * part, 1000 + COUNT * (part + 1)) for part in range(3))
    with ExitStack() as stack:
        index = int(outside.links()[wire.far_name]["ifindex"])
        there = {
            SCOPED: Listener(stack, outside, "fe80::9", index),
            GLOBAL: Listener(stack, outside, "2001:db8::9"),
        }
        daemon.start()
        wire.send(flows(first))
        there[SCOPED].wait_for(first)
        wait_for(lambda: counted(daemon, "lost", *AWAY) == [COUNT] * len(AWAY), "what is lost")
        assert counted(daemon, "records", *AWAY) == [0] * len(AWAY)
        warned = {each["exporter"]: (each["reason"], each["remedy"]) for each in daemon.events("records not sent")}
        assert warned == AWAY
        assert len(daemon.events("records not sent")) == len(AWAY)
        for exporter, (reason, remedy) in AWAY.items():
            assert daemon.scrape().by("reason", "cnf_export_errors_total", exporter=exporter).keys() == {reason}
            (shown,) = (each for each in daemon.status()["records"]["exporters"] if each["exporter"] == exporter)
            assert (shown["failing"], shown["lost"], shown["waiting"]) == (True, COUNT, 0)
            assert (shown["last_error"]["reason"], shown["last_error"]["remedy"]) == (reason, remedy)
        assert daemon.ctl("status").stdout.count("! not sent, ") == len(AWAY)

        hosts.write_text("192.0.2.13 collector.test\n", encoding="ascii")
        inside.ip("route", "del", "prohibit", "192.0.2.10/32")
        inside.ip("route", "del", "unreachable", "198.51.100.9/32")
        inside.ip("route", "add", "198.51.100.0/24", "via", "192.0.2.9")
        inside.ip("route", "add", "203.0.113.0/24", "via", "192.0.2.9")
        for address in ("198.51.100.9", "203.0.113.9"):
            outside.ip("address", "add", f"{address}/32", "dev", wire.far_name)
        addresses = (LATER, FORBIDDEN, REJECTED, NO_ROUTE, f"192.0.2.13:{PORT}")
        come = [Listener(stack, outside, each.partition(":")[0]) for each in addresses]
        wire.send(flows(second))
        for listener in come:
            listener.wait_for(second)
            assert listener.numbers == [*range(COUNT, 2 * COUNT)]  # what was lost leaves a gap
        wait_for(lambda: counted(daemon, "records", *AWAY) == [COUNT] * len(AWAY), "what was sent")
        assert counted(daemon, "lost", *AWAY) == [COUNT] * len(AWAY)
        assert {each["exporter"]: each["lost"] for each in daemon.events("records sent again")} == dict.fromkeys(
            AWAY, COUNT
        )
        assert "! not sent" not in daemon.ctl("status").stdout

        come[0].socket.close()
        wire.send(flows(third))
        there[SCOPED].wait_for(range(first.start, third.stop))
        wait_for(
            lambda: sum(sum(counted(daemon, name, LATER)) for name in ("records", "lost")) == 3 * COUNT, "the third"
        )
        assert counted(daemon, "lost", LATER)[0] > COUNT
        assert counted(daemon, "lost", *THERE) == [0, 0]
        daemon.stop()
        there[GLOBAL].read()
    assert daemon.events("drain failed") == []
    assert {*there[GLOBAL].ports} >= {*range(first.start, third.stop)}  # without a filter
    assert PORT not in there[GLOBAL].destinations


def test_a_daemon_that_is_killed_while_it_sends(node: Node, wire: Wire) -> None:
    """Nothing comes twice, numbers go on, and the collector sees how many records are missing."""
    before, after = range(1000, 3000), range(3000, 3500)
    daemon = configured(node, [{"collector": LATER, **ONLY}], drain_interval="2s", idle_timeout="1s")
    with ExitStack() as stack:
        listener = Listener(stack, node.outside, "192.0.2.9")
        daemon.start()
        wire.send(flows(before))
        wait_for(lambda: len(listener.read()) > COUNT, "the beginning of the records")
        daemon.signal(SIGKILL)
        daemon.ended()
        got = len(listener.read())
        daemon.start()
        wire.send(flows(after))
        wait_for(lambda: {*after} <= {*listener.read()}, "the next daemon's records")
        daemon.stop()
        listener.read()
    assert got < len(before)
    assert len(listener.ports) == len({*listener.ports})
    assert listener.numbers == sorted({*listener.numbers})
    missing = len(before) + len(after) - len(listener.ports)
    assert listener.numbers[-1] + 1 - len(listener.numbers) == missing > 0
