"""Interfaces on top of others, matched together: what is counted twice, and what is said about it.

Bonds and VLAN devices are tried where the kernel has them; bridges and macvlan stand for them elsewhere.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from signal import SIGHUP
from typing import Final

import pytest
from pyroute2.ethtool import Ethtool

from tests.bpf.packets import UDP, VLAN, IPv4, Layer, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, Daemon
from tests.net.wait import wait_for

PACKET = frame(IPv4(), UDP(), bytes(100))
ON_ONE: Final = {
    "macvlan": ("mode", "private"),
    "macvtap": ("mode", "private"),
    "ipvlan": ("mode", "l2"),
    "ipvtap": ("mode", "l2"),
    "vlan": ("id", "5"),
}
"""How to make those of them that repeat plain packets."""
HERE: Final = "203.0.113.5"
"""The address of the upper one, where packets go by addresses."""


def kernel_has(kind: str) -> bool:
    """Tell whether interfaces of this kind can be made here."""
    made = ("ip", "link", "add", "t0", "type", "veth")
    over = ("link", "t0", "name", "t1") if kind in ON_ONE else ("t1",)
    script = f"{' '.join(made)} && ip link add {' '.join(over)} type {kind} {' '.join(ON_ONE.get(kind, ()))}"
    return subprocess.run(("unshare", "--net", "sh", "-c", script), capture_output=True, check=False).returncode == 0


def address(node: Node, name: str) -> str:
    """Return the hardware address of one of the node's interfaces."""
    return str(node.inside.links()[name]["address"])


def foreseen(node: Node, daemon: Daemon) -> dict[str, str]:
    """Return the mode of each interface that the doctor foresees for ``daemon``."""
    doctor = daemon.ctl("doctor", "-o", "json", "--config", str(daemon.config), command=(*node.inside.enter, *CNFCTL))
    modes = {}
    for finding in json.loads(doctor.stdout)["findings"]:
        if mode := re.search(r"MTU \d+: (\w+)", finding["seen"]):
            modes[finding["name"].removeprefix("interface ")] = mode[1].lower()
    return modes


def bond(node: Node) -> None:
    """Make bond0, and n0 its only member."""
    node.inside.ip("link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "10")
    join(node, "bond0", "n0")


def join(node: Node, bond: str, member: str) -> None:
    """Make ``member`` one of the bond, and wait until it carries its packets."""
    node.inside.ip("link", "set", member, "down")
    node.inside.ip("link", "set", member, "master", bond)
    node.inside.ip("link", "set", member, "up")
    node.inside.ip("link", "set", bond, "up")
    wait_for(lambda: node.inside.links()[bond]["operstate"] == "UP", f"{bond} to be up")


@pytest.mark.parametrize(("mode", "upper"), [("native", "generic"), ("generic", "generic"), ("tc", "auto")])
@pytest.mark.parametrize("kind", [kind for kind in ON_ONE if kernel_has(kind)])
def test_a_device_on_another_repeats_its_packets(node: Node, kind: str, mode: str, upper: str) -> None:
    """A device on another, and that one, count a packet twice, in any mode; doctor and warning say which to drop."""
    wire = node.wire("n0")
    node.inside.ip("link", "add", "link", "n0", "name", "n0.5", "type", kind, *ON_ONE[kind])
    node.inside.ip("link", "set", "n0.5", "up")
    node.inside.ip("address", "add", f"{HERE}/24", "dev", "n0.5")
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": mode}, {"name": "n0.*", "mode": upper}])
    daemon.start()
    layers: tuple[Layer | bytes, ...] = (IPv4(dst=HERE), UDP(), bytes(100))
    layers = (VLAN(5), *layers) if kind == "vlan" else layers

    wire.send([PACKET] * 3)
    wire.send([frame(*layers, dst=address(node, "n0.5"))] * 4)

    daemon.settle(11)
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 7, "n0.5": 4}
    (event,) = daemon.events("packets counted twice")
    assert event["interface"] == "n0.5"
    shown = daemon.interfaces()
    assert shown["n0"]["warning"] is None
    assert shown["n0.5"]["warning"] == event["warning"]
    assert "on n0 and here once more (leave n0.5 out" in event["warning"]
    assert "narrow the pattern n0.*" in event["warning"]
    doctor = daemon.ctl("doctor", "-o", "json", "--config", str(daemon.config), command=(*node.inside.enter, *CNFCTL))
    report = json.loads(doctor.stdout)
    told = [f"{each['seen']} ({each['remedy']})" for each in report["findings"] if each["name"] == "interface n0.5"]
    assert event["warning"] in told
    assert event["warning"] in daemon.ctl("status").stdout

    daemon.configure([{"name": "n0", "mode": mode}])
    daemon.signal(SIGHUP)
    daemon.attached("n0")
    assert daemon.interfaces()["n0"]["warning"] is None


def test_a_bridge_repeats_what_it_hands_to_the_node(node: Node) -> None:
    """A bridge counts its ports' packets to this node once more, and not what it forwards; the warning says so."""
    node.inside.ip("link", "add", "br0", "type", "bridge")
    node.inside.ip("link", "set", "br0", "up")
    wires = [node.wire("n0"), node.wire("n1")]
    for wire in wires:
        node.inside.ip("link", "set", wire.name, "master", "br0")
    daemon = node.daemon()
    daemon.configure([{"name": "br0", "mode": "auto"}, {"name": "n*"}])
    daemon.start()
    daemon.attached("br0", "n0", "n1")
    wait_for(lambda: "br0" in {event["interface"] for event in daemon.events("packets counted twice")}, "the warning")

    wires[0].send([frame(IPv4(), UDP(), dst=address(node, "br0"))] * 5)
    far = wires[1].far.links()[wires[1].far_name]["address"]
    wires[1].send([frame(IPv4(), UDP(), src=far)])  # from now on the bridge knows where that is
    daemon.settle(7)
    before = daemon.scrape().by("interface", "cnf_received_packets_total")
    wires[0].send([frame(IPv4(), UDP(), dst=far)] * 3)
    daemon.settle(10)

    assert before["n0"] == 5
    after = daemon.scrape().by("interface", "cnf_received_packets_total")
    assert {name: after[name] - before[name] for name in after} == {"n0": 3, "n1": 0, "br0": 0}
    warning = daemon.interfaces()["br0"]["warning"]
    assert "hands to this node is counted, and charged to limits, on n0, n1 and here once more (leave br0" in warning


def test_a_port_under_a_bridge_with_the_program_is_refused_with_the_reason(node: Node) -> None:
    """The kernel takes no program below one that is there; the refusal names the reason, and a remedy that works."""
    node.wire("n0")
    node.inside.ip("link", "add", "br0", "type", "bridge")
    daemon = node.daemon()
    daemon.configure([{"name": "br0", "mode": "generic"}])
    daemon.start()
    node.inside.ip("link", "set", "n0", "master", "br0")
    daemon.configure([{"name": "br0", "mode": "generic"}, {"name": "n0"}])
    daemon.signal(SIGHUP)
    wait_for(lambda: "n0" in daemon.interfaces(), "the new configuration")
    error = daemon.interfaces()["n0"]["error"]
    assert "the bond, bridge or VLAN device above it has a program" in error
    assert "leave one of the two out of the interfaces" in error

    daemon.configure([{"name": "n0"}])
    daemon.signal(SIGHUP)
    daemon.attached("n0")


if kernel_has("vlan"):

    @pytest.mark.parametrize(("offload", "vlans"), [(True, {1: None, 2: 9}), (False, {1: 7, 2: 7})])
    def test_tags_over_a_veth(node: Node, offload: bool, vlans: dict[int, int | None]) -> None:  # noqa: FBT001
        """A veth hides the tags that the other end's stack puts on, until the other end is told to write them."""
        wire, far = node.wire("n0"), node.outside
        with far.entered(), Ethtool() as ethtool:
            features = ethtool.get_features(wire.far_name)
            for name in ("tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"):  # ethtool's txvlan is the first
                features.features[name].enable = offload
            ethtool.set_features(wire.far_name, features)
        far.ip("link", "add", "link", wire.far_name, "name", "outer", "type", "vlan", "id", "7", "protocol", "802.1ad")
        far.ip("link", "set", "outer", "up")
        far.ip("link", "add", "link", "outer", "name", "inner", "type", "vlan", "id", "9")
        far.ip("link", "set", "inner", "up")
        daemon = node.daemon("n0").start()
        wait_for(lambda: far.links()["inner"]["operstate"] == "UP", "the inner device to be up")
        with far.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            for name, port in (("outer", 1), ("inner", 2)):
                raw.sendto(frame(IPv4(), UDP(port, port), bytes(100)), (name, 0))
        daemon.settle(2)
        assert {flow["src_port"]: flow["vlan"] for flow in daemon.flows()} == vlans


if kernel_has("bond"):

    def test_one_flow_through_two_members_is_one_row(node: Node) -> None:
        """What comes in through either member of a bond in native mode is one flow, of the bond."""
        wires = {name: node.wire(name) for name in ("n0", "n1")}
        node.inside.ip("link", "add", "bond0", "type", "bond", "mode", "balance-rr", "miimon", "10")
        for name in wires:
            join(node, "bond0", name)
        daemon = node.daemon("bond0").start()
        daemon.wait_for_event("member counts as its bond", 2)
        for wire in wires.values():
            wire.send([PACKET] * 4)
        daemon.settle(8)
        assert [(flow["interface"], flow["packets"]) for flow in daemon.flows()] == [("bond0", 8)]

    def test_a_block_on_a_bond(node: Node) -> None:
        """In native mode, where the members' drivers run the program, it is there from the next packet on, and goes."""
        wires = {name: node.wire(name) for name in ("n0", "n1")}
        node.inside.ip("link", "add", "bond0", "type", "bond", "mode", "balance-rr", "miimon", "10")
        for name in wires:
            join(node, "bond0", name)
        daemon = node.daemon()
        daemon.configure([{"name": "bond0", "mode": "native"}], limits={"mode": "enforce"})
        daemon.start()
        daemon.wait_for_event("member counts as its bond", 2)
        for change, dropped in (("add", 8), ("remove", 8)):
            daemon.limits("deny", change, "192.0.2.1")
            for wire in wires.values():
                wire.send([PACKET] * 4)
            sent = 8 if change == "add" else 16
            assert daemon.settle(sent)["ledger"]["packets"]["dropped"] == dropped

    @pytest.mark.parametrize(
        ("names", "counted"),
        [(("n0", "bond0"), {"n0": 6, "bond0": 6}), (("n0",), {"n0": 6}), (("bond0",), {"bond0": 6})],
    )
    def test_a_bond_and_its_member(node: Node, names: tuple[str, ...], counted: dict[str, int]) -> None:
        """Matched together they count twice, with a warning; a bond alone has its member's packets as its own.

        The doctor foresees the modes.
        """
        wire = node.wire("n0")
        bond(node)
        daemon = node.daemon()
        daemon.configure([{"name": name, "mode": "auto" if name == "bond0" else "native"} for name in names])
        modes = foreseen(node, daemon)
        daemon.start()
        assert modes == {name: shown["mode"] for name, shown in daemon.interfaces().items()}
        wire.send([frame(IPv4(), UDP(), dst=address(node, "bond0"))] * 6)
        daemon.settle(sum(counted.values()))
        assert daemon.scrape().by("interface", "cnf_received_packets_total") == counted
        assert {flow["interface"]: flow["packets"] for flow in daemon.flows()} == counted
        assert len(daemon.events("packets counted twice")) == len(counted) - 1

    @pytest.mark.parametrize("member", ["n0", "n1"])
    def test_a_member_that_joins_counts_as_its_bond(node: Node, member: str) -> None:
        """What a bond in native mode receives through a member that joins later is the bond's, until it leaves."""
        wires = {name: node.wire(name) for name in ("n0", "n1")}
        node.inside.ip("link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "10")
        daemon = node.daemon("bond0").start()
        join(node, "bond0", member)
        event = daemon.wait_for_event("member counts as its bond")
        assert event["member_ifindex"] == node.inside.links()[member]["ifindex"]
        wires[member].send([PACKET] * 6)
        daemon.settle(6)
        assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"bond0": 6}
        node.inside.ip("link", "set", member, "nomaster")
        node.inside.ip("link", "set", member, "up")
        daemon.drain()
        wires[member].send([PACKET] * 6)
        daemon.drain()
        assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"bond0": 6}
