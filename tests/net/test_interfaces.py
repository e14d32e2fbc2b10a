"""Interfaces that are missing, come and go, refuse native XDP, or carry somebody else's program."""

from __future__ import annotations

import time
from signal import SIGTERM

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.foreign import foreign_program
from tests.net.wait import wait_for

PACKET = frame(IPv4(), UDP(), bytes(100))
ATTACH_LIMIT = 2.0
"""Seconds from an interface's appearance to the program on it."""


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


def test_a_foreign_program_stays_and_the_others_are_served(node: Node) -> None:
    """An occupied interface is refused with the program's id, and taken once the program has gone."""
    wires = [node.wire(name) for name in ("n0", "n1", "n2")]
    daemon = node.daemon("n0", "n1", "n2")
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n1")
        daemon.start()
        daemon.attached("n0", "n2")
        (refusal,) = daemon.events("interface refused")
        assert refusal["interface"] == "n1"
        assert f"program {foreign.id} (native)" in refusal["error"]
        assert daemon.interfaces()["n1"]["state"] == "refused"
        assert node.inside.programs()["n1"] == foreign.id
        for wire in wires:
            wire.send([PACKET] * 2)
        assert {flow["interface"] for flow in daemon.flows()} <= {"n0", "n2"}
        daemon.settle(4)
        assert {flow["interface"]: flow["packets"] for flow in daemon.flows()} == {"n0": 2, "n2": 2}

        foreign.detach(node.inside, "n1")
        daemon.attached("n0", "n1", "n2")
        wires[1].send([PACKET] * 2)
        daemon.settle(6)


def test_only_foreign_programs_leave_nothing_to_do(node: Node) -> None:
    """A daemon whose every interface is occupied ends with status 71, names the program, and leaves it there."""
    node.wire("n0")
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n0")
        status, line = node.daemon("n0").refused()
        assert status == 71
        assert f"program {foreign.id} " in line
        assert node.inside.programs() == {"n0": foreign.id}


def test_a_program_in_place_of_ours_is_left_alone(node: Node) -> None:
    """Where somebody has put a program over ours, the daemon says so, and leaves it there at its end."""
    node.wire("n0")
    node.wire("n1")
    daemon = node.daemon("n0", "n1").start()
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n0")
        wait_for(lambda: daemon.interfaces()["n0"]["state"] == "refused", "n0 to be refused")
        assert f"program {foreign.id} " in daemon.interfaces()["n0"]["error"]

        daemon.signal(SIGTERM)

        assert daemon.ended() == 0
        assert node.inside.programs() == {"n0": foreign.id}
