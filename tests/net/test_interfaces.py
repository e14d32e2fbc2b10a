"""Which interfaces are meant, and the modes in which the program is on them."""

from __future__ import annotations

from signal import SIGHUP

import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node

PACKET = frame(IPv4(), UDP(), bytes(100))
ATTACH_LIMIT = 8.0
"""Seconds from an interface's appearance to the program on it, at most: without a notification it takes ten."""


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
    daemon = node.daemon()
    daemon.configure([{"name": "lo", "mode": "auto"}])
    daemon.start().attached("lo")

    assert daemon.interfaces()["lo"]["mode"] == "tc"


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


@pytest.mark.parametrize(("wanted", "mode"), [("generic", "generic"), ("auto", "tc")])
def test_a_large_mtu(node: Node, wanted: str, mode: str) -> None:
    """Where native XDP takes no frame of that size, the other modes count 9,000 bytes exactly."""
    wire = node.wire("n0", mtu=9000)
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": wanted}])
    daemon.start()

    assert daemon.interfaces()["n0"]["mode"] == mode
    assert daemon.interfaces()["n0"]["requested_mode"] == wanted
    assert list(daemon.scrape().samples("cnf_interface_attached")) == [
        ({"interface": "n0", "direction": "ingress", "mode": mode}, 1)
    ]

    jumbo = frame(IPv4(), UDP(), bytes(8972))
    wire.send([jumbo] * 9)
    daemon.settle(9)
    assert [(flow["packets"], flow["bytes"]) for flow in daemon.flows()] == [(9, 9 * 9014)]


def test_generic_is_generic_where_native_would_do(node: Node) -> None:
    """Mode generic is taken at its word, and native, beside each other."""
    node.wire("n0")
    node.wire("n1")
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": "generic"}, {"name": "n1"}])
    daemon.start()
    assert {name: shown["mode"] for name, shown in daemon.interfaces().items()} == {"n0": "generic", "n1": "native"}


def test_an_altname_means_its_interface(node: Node) -> None:
    """An interface that is named by one of its altnames, long or short, is attached, and shown by its name."""
    wire = node.wire("n0")
    node.wire("n1")
    node.inside.ip("link", "property", "add", "dev", "n0", "altname", "a-name-of-more-than-15-bytes")
    daemon = node.daemon("a-name-of-more-than-15-bytes", "other").start()
    daemon.attached("n0")
    assert daemon.interfaces()["other"]["state"] == "missing"
    node.inside.ip("link", "property", "add", "dev", "n1", "altname", "other")
    daemon.attached("n0", "n1")
    wire.send([PACKET] * 3)
    daemon.settle(3)
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 3}
    (flow,) = daemon.flows("--filter", "iface a-name-of-more-than-15-bytes")
    assert (flow["interface"], flow["packets"]) == ("n0", 3)
    assert daemon.flows("--filter", "iface other") == []


def test_a_long_name_that_no_interface_has_is_refused(node: Node) -> None:
    """What cannot be a name, and is no altname, ends cnfd with status 78; a reload leaves all as it is."""
    node.wire("n0")
    name = "abcdefghijklmnop"
    status, line = node.daemon("n0", name).refused()
    assert status == 78
    assert f'interfaces[1].name: expected 15 bytes at most, or an altname that an interface has, got "{name}"' in line

    daemon = node.daemon("n0").start()
    daemon.configure([{"name": name}])
    daemon.signal(SIGHUP)
    assert name in daemon.wait_for_event("reload refused, the settings stay as they were")["error"]
    daemon.attached("n0")
