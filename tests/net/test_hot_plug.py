"""Interfaces that come, go, flap, and change name, namespace or MTU under a running daemon."""

from __future__ import annotations

import subprocess
import time
from itertools import chain
from pathlib import Path
from signal import SIGCONT, SIGHUP, SIGSTOP
from typing import Final

import pytest
from pyroute2 import IPRoute

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.namespaces import Namespace
from tests.net.wait import wait_for

PACKET = frame(IPv4(), UDP(), bytes(100))
JUMBO = frame(IPv4(), UDP(), bytes(8972))
ATTACH_LIMIT: Final = 8.0
"""Seconds from an interface's appearance to the program on it, at most: without a notification it takes ten."""
XDP_EVENTS: Final = ("program attached", "program detached", "interface gone", "interface refused")


def batch(namespace: Namespace, *commands: str) -> None:
    """Run many commands of ip(8) as one."""
    lines = "\n".join(commands).encode()
    subprocess.run(("ip", "-netns", namespace.name, "-batch", "-"), input=lines, check=True, capture_output=True)


def happened(daemon: Daemon) -> list[str]:
    """Return what the daemon has said about its interfaces."""
    return [event["event"] for name in XDP_EVENTS for event in daemon.events(name)]


def holdings(daemon: Daemon) -> dict[str, int | list[str]]:
    """Return what the daemon holds, and how much it shows."""
    series = sum(len(family.samples) for family in daemon.scrape().families)
    process = Path(f"/proc/{daemon.pid}")
    described = [*chain.from_iterable(_lines(entry) for entry in (process / "fdinfo").iterdir())]
    return {
        "descriptors": sum(line.startswith("pos:") for line in described),
        "programs and maps": sorted(line for line in described if line.startswith(("prog_id:", "map_id:"))),
        "threads": len([*(process / "task").iterdir()]),
        "series": series,
    }


def _lines(entry: Path) -> list[str]:
    try:
        return entry.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:  # a connection that has just been closed
        return []


def carrier_changes(namespace: Namespace, name: str) -> int:
    """Return how often the interface has got or lost its carrier."""
    with namespace.entered(), IPRoute() as netlink:
        (message,) = netlink.get_links(ifname=name)
        return int(message.get_attr("IFLA_CARRIER_CHANGES"))


def test_a_missing_interface_is_attached_when_it_appears(node: Node) -> None:
    """An interface that is not there is a warning; when it comes it is attached within 2 s, and counted."""
    daemon = node.daemon("n0", "n1")
    node.wire("n0")
    daemon.start()
    assert [event["interface"] for event in daemon.events("interface missing, waiting for it")] == ["n1"]
    assert daemon.interfaces()["n1"]["state"] == "missing"
    assert daemon.scrape().by("interface", "cnf_interface_attached") == {"n0": 1}

    appeared = time.monotonic()
    late = node.wire("n1")
    wait_for(lambda: "n1" in node.inside.programs(), "the program on n1")

    assert time.monotonic() - appeared < ATTACH_LIMIT
    late.send([PACKET] * 5)
    daemon.settle(5)
    assert [(flow["interface"], flow["packets"]) for flow in daemon.flows()] == [("n1", 5)]


def test_a_daemon_without_any_interface_waits_for_one(node: Node) -> None:
    """A daemon whose only interface is missing starts, is not ready for traffic, and becomes so."""
    daemon = node.daemon("n0").start()
    assert daemon.http("/healthz").status == 200
    assert daemon.http("/readyz").status == 503

    node.wire("n0")
    daemon.attached("n0")

    wait_for(lambda: daemon.http("/readyz").status == 200, "/readyz")


def test_what_a_deleted_interface_has_counted_stays_in_the_sums(node: Node) -> None:
    """An interface that is deleted and made again is attached again, and the counts of both lives add up."""
    daemon = node.daemon("n0").start()
    for life in range(1, 6):
        wire = node.wire("n0")
        daemon.attached("n0")
        wire.send([PACKET] * 3)
        status = daemon.settle(3 * life)
        assert status["ledger"]["packets"]["received"] == 3 * life
        wire.delete()
        daemon.attached()
    metrics = daemon.scrape()
    assert metrics.total("cnf_received_packets_total", interface="n0", protocol="udp") == 15
    assert metrics.total("cnf_ledger_packets") == 15
    assert metrics.total("cnf_flow_bytes_total") == 15 * len(PACKET)


def test_a_renamed_interface_keeps_counting(node: Node) -> None:
    """An interface that gets a name outside the configuration is let go; with its name back it is taken again."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    node.inside.ip("link", "set", "n0", "down")
    node.inside.ip("link", "set", "n0", "name", "other0")
    daemon.attached()
    assert node.inside.programs() == {}

    node.inside.ip("link", "set", "other0", "name", "n0")
    node.inside.ip("link", "set", "n0", "up")
    daemon.attached("n0")
    wire.send([PACKET] * 4)
    assert daemon.settle(4)["ledger"]["packets"]["live"] == 4


def test_fifty_interfaces_at_once(node: Node) -> None:
    """Fifty interfaces that come at once are all attached within 2 s of the last, and each is counted."""
    daemon = node.daemon("n*").start()
    names = [f"n{number}" for number in range(50)]
    pairs = (f"link add {name} type veth peer far-{name} netns {node.outside.name}" for name in names)
    batch(node.inside, *pairs, *(f"link set {name} up" for name in names))

    appeared = time.monotonic()
    wait_for(lambda: node.inside.programs().keys() == {*names}, "the program on all of them")

    assert time.monotonic() - appeared < ATTACH_LIMIT
    daemon.attached(*names)
    assert daemon.events("looking at the interfaces failed") == []


def test_lost_notifications_heal(node: Node) -> None:
    """Notifications that the kernel threw away are counted and logged, and what they told of is found all the same."""
    node.wire("n0")
    daemon = node.daemon("n0", "n1").start()
    assert daemon.scrape().total("cnf_link_notifications_lost_total") == 0

    daemon.signal(SIGSTOP)
    batch(node.inside, *(f"link set lo alias {number}" for number in range(1000)))
    node.wire("n1")
    daemon.signal(SIGCONT)

    daemon.attached("n0", "n1")
    daemon.wait_for_event("link notifications lost, everything read afresh")
    assert daemon.scrape().total("cnf_link_notifications_lost_total") >= 1


def test_an_interface_made_a_hundred_times(node: Node) -> None:
    """An interface that is deleted and made again 100 times is attached each time, and leaves nothing behind."""
    daemon = node.daemon("n0", history={"keep": "0s"}).start()  # its first minute has a series
    wire = node.wire("n0")
    daemon.attached("n0")
    wire.send([PACKET])
    daemon.settle(1)
    before = holdings(daemon)

    for life in range(1, 101):
        wire.delete()
        wire = node.wire("n0")
        daemon.wait_for_event("program attached", life + 1)
        if life % 25 == 0:
            wire.send([PACKET])

    daemon.attached("n0")
    daemon.settle(5)
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 5}
    wait_for(lambda: holdings(daemon) == before, "everything to be back to where it was")
    assert len(daemon.events("program attached")) == 101


def test_a_flapping_interface_stays_attached(node: Node) -> None:
    """An interface that goes down and up 50 times keeps its program, and every packet in between is counted."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    before = node.inside.programs()

    for _ in range(5):
        batch(node.inside, *["link set n0 down", "link set n0 up"] * 10)
        wire.send([PACKET] * 2)

    daemon.settle(10)
    assert node.inside.programs() == before
    assert happened(daemon) == ["program attached"]


def test_the_carrier_does_not_notice(node: Node) -> None:
    """However often the daemon looks at an interface that stays as it is, the carrier never changes."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    wire.send([PACKET])
    before = carrier_changes(node.inside, "n0"), carrier_changes(node.outside, wire.far_name)

    for number in range(5):
        node.wire(f"other{number}")
        daemon.drain()

    assert (carrier_changes(node.inside, "n0"), carrier_changes(node.outside, wire.far_name)) == before
    assert happened(daemon) == ["program attached"]


def test_an_interface_renamed_while_up(node: Node) -> None:
    """An interface whose new name is meant as well stays on; what comes from then on has that name."""
    wire = node.wire("n0")
    daemon = node.daemon("n*").start()
    wire.send([PACKET] * 3)
    daemon.settle(3)
    node.inside.ip("link", "set", "n0", "name", "n9")
    daemon.attached("n9")

    wire.send([PACKET] * 2)
    daemon.settle(5)

    assert happened(daemon) == ["program attached"]
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 3, "n9": 2}
    assert [(flow["interface"], flow["packets"]) for flow in daemon.flows()] == [("n9", 5)]


def test_an_interface_in_another_namespace_and_back(node: Node) -> None:
    """An interface that leaves for another namespace takes the program along, which the log says; back, it is ours."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    wire.send([PACKET] * 3)
    daemon.settle(3)
    program = node.inside.programs()

    with Namespace() as elsewhere:
        node.inside.ip("link", "set", "n0", "netns", elsewhere.name)
        event = daemon.wait_for_event("interface moved to another network namespace, with the program on it")
        assert event["interface"] == "n0"
        assert elsewhere.programs() == program
        daemon.attached()
        elsewhere.ip("link", "set", "n0", "up")
        wire.send([PACKET] * 2)
        elsewhere.ip("link", "set", "n0", "netns", node.inside.name)

    daemon.attached("n0")
    assert node.inside.programs() == program
    node.inside.ip("link", "set", "n0", "up")
    wire.send([PACKET] * 4)
    daemon.settle(9)
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 7, "unassigned": 2}
    assert daemon.events("interface refused") == []


def test_an_mtu_raised_under_a_native_program(node: Node) -> None:
    """Under a native program the kernel refuses frames that would not fit; with mode generic, by a reload, they do."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    assert daemon.interfaces()["n0"]["mode"] == "native"
    node.inside.ip("link", "set", "n0", "mtu", "9000")  # what a veth sends; its peer decides what it may receive
    with pytest.raises(AssertionError, match="mtu greater than device maximum"):
        node.outside.ip("link", "set", wire.far_name, "mtu", "9000")
    wire.send([PACKET] * 2)
    daemon.settle(2)

    daemon.configure([{"name": "n0", "mode": "generic"}])
    daemon.signal(SIGHUP)
    wait_for(lambda: daemon.interfaces()["n0"]["mode"] == "generic", "mode generic")
    assert sorted(happened(daemon)) == ["program attached", "program attached"]
    node.outside.ip("link", "set", wire.far_name, "mtu", "9000")
    wire.send([JUMBO] * 3)
    daemon.settle(5)
    assert {flow["bytes"] for flow in daemon.flows()} == {2 * len(PACKET) + 3 * len(JUMBO)}


def test_a_mode_that_the_kernel_refuses_leaves_the_one_before(node: Node) -> None:
    """A reload that asks for native where it cannot be leaves the program in generic mode, and says why, once."""
    wire = node.wire("n0", mtu=9000)
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": "generic"}])
    daemon.start()
    daemon.configure([{"name": "n0", "mode": "native"}])
    daemon.signal(SIGHUP)

    refused = daemon.wait_for_event("mode refused, the previous one stays")
    assert "MTU is too large" in refused["error"]
    node.wire("n1")  # something to look at the interfaces for
    daemon.drain()
    shown = daemon.interfaces()["n0"]
    assert (shown["state"], shown["mode"], shown["requested_mode"]) == ("attached", "generic", "native")
    assert "MTU is too large" in shown["error"]
    assert len(daemon.events("mode refused, the previous one stays")) == 1
    wire.send([JUMBO] * 3)
    daemon.settle(3)

    daemon.configure([{"name": "n0", "mode": "auto"}])
    daemon.signal(SIGHUP)
    wait_for(lambda: daemon.interfaces()["n0"]["error"] is None, "the error to go with its cause")
