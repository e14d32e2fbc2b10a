"""Other people's XDP programs stay, and ours stays ours: who is on an interface, and who is told."""

from __future__ import annotations

from signal import SIGTERM
from typing import Final

import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.foreign import foreign_program
from tests.net.users import Stage, as_user
from tests.net.wait import wait_for

PACKET = frame(IPv4(), UDP(), bytes(100))
CAPABILITIES: Final = ("bpf", "net_admin", "perfmon")
# A bpffs of its own with libxdp's folder of pins, of the mode $1, and in it the pin $2 of a dispatcher.
LIBXDP: Final = (
    "set -e; mount -t bpf bpf /sys/fs/bpf; mkdir /sys/fs/bpf/xdp /sys/fs/bpf/xdp/$2;"
    ' chmod $1 /sys/fs/bpf/xdp; shift 2; exec "$@"'
)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_a_foreign_program_stays_and_the_others_are_served(node: Node, mode: str) -> None:
    """An occupied interface is refused with the program's id and name, and taken at once when the program has gone."""
    wires = [node.wire(name) for name in ("n0", "n1", "n2")]
    daemon = node.daemon("n0", "n1", "n2")
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n1", mode)
        daemon.start()
        daemon.attached("n0", "n2")
        shown = daemon.interfaces()["n1"]
        assert shown["state"] == "refused"
        assert f"program {foreign.id} ({mode}, named foreign) is on it and is left alone" in shown["error"]
        assert shown["error"] in daemon.ctl("status").stdout
        metrics = daemon.scrape()
        assert metrics.by("interface", "cnf_interface_attached") == {"n0": 1, "n2": 1}
        assert metrics.by("interface", "cnf_interface_state", state="refused") == {"n1": 1}
        assert node.inside.programs()["n1"] == foreign.id
        for wire in wires:
            wire.send([PACKET] * 2)
        daemon.settle(4)
        assert {flow["interface"]: flow["packets"] for flow in daemon.flows()} == {"n0": 2, "n2": 2}
        (refusal,) = daemon.events("interface refused")
        assert refusal["interface"] == "n1"
        assert refusal["error"] == shown["error"]

        foreign.detach(node.inside, "n1", mode)
        daemon.attached("n0", "n1", "n2")
        wires[1].send([PACKET] * 2)
        daemon.settle(6)
        assert daemon.scrape().by("interface", "cnf_interface_state", state="attached") == {"n0": 1, "n1": 1, "n2": 1}


def test_only_foreign_programs_leave_nothing_to_do(node: Node) -> None:
    """A daemon whose every interface is occupied ends with status 71, names the program, and leaves it there."""
    node.wire("n0")
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n0")
        status, line = node.daemon("n0").refused()
        assert status == 71
        assert f"program {foreign.id} " in line
        assert node.inside.programs() == {"n0": foreign.id}


def test_a_hook_that_comes_free_in_silence_is_taken(node: Node) -> None:
    """The kernel tells nobody of a program taken off while its interface is down; the periodic look finds it."""
    node.wire("n0")
    node.wire("n1")
    daemon = node.daemon("n0", "n1")
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n1")
        node.inside.ip("link", "set", "n1", "down")
        daemon.start()
        foreign.detach(node.inside, "n1")
        daemon.attached("n0", "n1")


def test_the_dispatcher_of_libxdp_is_recognised(node: Node) -> None:
    """Where libxdp's dispatcher is, the refusal says so, and how to see and take off what it runs."""
    node.wire("n0")
    with foreign_program("xdp_dispatcher") as dispatcher:
        dispatcher.attach(node.inside, "n0")
        _status, line = node.daemon("n0").refused()
        assert f"program {dispatcher.id} (native, libxdp's dispatcher) is on it and is left alone" in line
        assert "xdp-loader unload n0 --all" in line
        assert node.inside.programs() == {"n0": dispatcher.id}


@pytest.mark.parametrize(("mode", "words"), [("755", "native, libxdp's"), ("700", "native, perhaps libxdp's")])
def test_the_dispatcher_is_recognised_without_privilege(node: Node, stage: Stage, mode: str, words: str) -> None:
    """A user who may not read a program's name looks for libxdp's pin, and says so if that is not to be seen either."""
    node.wire("n0")
    daemon = node.daemon("n0")
    with foreign_program("xdp_dispatcher") as dispatcher:
        dispatcher.attach(node.inside, "n0")
        pin = f"dispatch-{node.inside.links()['n0']['ifindex']}-{dispatcher.id}"
        user = stage.command("cnf.cnfd", *as_user(capabilities=CAPABILITIES))
        daemon.command = ("unshare", "--mount", "sh", "-c", LIBXDP, "sh", mode, pin, *user)
        daemon.config.parent.chmod(0o777)
        _status, line = daemon.refused()
        assert f"program {dispatcher.id} ({words} dispatcher)" in line


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


def test_our_program_is_put_back(node: Node) -> None:
    """Where somebody takes our program off, it is put back at once, the counts go on, and the log says both."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    wire.send([PACKET] * 3)
    daemon.settle(3)
    before = node.inside.programs()

    for times in (1, 2):
        node.inside.ip("link", "set", "n0", "xdp", "off")
        event = daemon.wait_for_event("program was taken off by somebody else, putting it back", times)
        assert event["interface"] == "n0"
        wait_for(lambda: node.inside.programs() == before, "the program on n0")

    wire.send([PACKET] * 2)
    daemon.settle(5)
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 5}
