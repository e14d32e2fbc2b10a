"""Which interfaces are meant, and the modes in which the program is on them."""

from __future__ import annotations

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node

PACKET = frame(IPv4(), UDP(), bytes(100))
ATTACH_LIMIT = 2.0
"""Seconds from an interface's appearance to the program on it."""


def test_a_pattern_takes_what_matches_and_nothing_else(node: Node) -> None:
    """A shell pattern means every interface that matches, also later ones, but never the loopback interface."""
    for name in ("eth0", "eth1", "wan0"):
        node.wire(name)
    daemon = node.daemon("eth*", "[kl]o").start()
    daemon.attached("eth0", "eth1")

    node.wire("eth2")
    daemon.attached("eth0", "eth1", "eth2")
    assert node.inside.programs().keys() == {"eth0", "eth1", "eth2"}


def test_the_loopback_interface_by_its_name(node: Node) -> None:
    """Named in full, the loopback interface is tracked as well."""
    daemon = node.daemon("lo").start()

    daemon.attached("lo")

    assert daemon.interfaces()["lo"]["mode"] == "generic"


def test_native_on_a_large_mtu_is_refused_in_the_kernels_words(node: Node) -> None:
    """Mode native on a veth pair of MTU 9000 ends with status 71, and says what the kernel said."""
    node.wire("n0", mtu=9000)
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": "native"}])

    status, line = daemon.refused()

    assert status == 71
    assert "n0" in line
    assert "MTU is too large" in line
    assert "generic" in line
    assert node.inside.programs() == {}


def test_auto_on_a_large_mtu_is_generic_and_says_so(node: Node) -> None:
    """Mode auto falls back to generic, says why in the log, shows it everywhere, and counts 9,000 bytes exactly."""
    wire = node.wire("n0", mtu=9000)
    daemon = node.daemon("n0").start()

    (warning,) = daemon.events("native xdp refused, generic in use")
    assert warning["interface"] == "n0"
    assert "MTU is too large" in warning["refused"]
    assert daemon.interfaces()["n0"]["mode"] == "generic"
    assert daemon.interfaces()["n0"]["requested_mode"] == "auto"
    assert node.inside.links()["n0"]["xdp"]["mode"] == 2  # XDP_ATTACHED_SKB
    assert list(daemon.scrape().samples("cnf_interface_attached")) == [({"interface": "n0", "mode": "generic"}, 1)]

    jumbo = frame(IPv4(), UDP(), bytes(8972))
    wire.send([jumbo] * 9)
    daemon.settle(9)
    assert [(flow["packets"], flow["bytes"]) for flow in daemon.flows()] == [(9, 9 * 9014)]


def test_generic_is_generic_where_native_would_do(node: Node) -> None:
    """Mode generic is taken at its word, and auto gets native, beside each other."""
    node.wire("n0")
    node.wire("n1")
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": "generic"}, {"name": "n1"}])
    daemon.start()
    assert {name: shown["mode"] for name, shown in daemon.interfaces().items()} == {"n0": "generic", "n1": "native"}
