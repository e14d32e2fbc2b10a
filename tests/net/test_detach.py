"""cnfctl detach: with no daemon there, it takes off what is ours, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import SIGKILL

import pytest

from cnf.kernel import pins
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, CNFD
from tests.net.foreign import foreign_program
from tests.net.leavings import clear
from tests.net.namespaces import Namespace
from tests.net.users import Stage, as_user
from tests.net.wait import PATIENCE

PACKET = frame(IPv4(), UDP())


@pytest.fixture(autouse=True)
def folders(node: Node) -> Iterator[list[Path]]:
    """Return the folders of pins, inside and outside; whatever becomes of a test, they are gone in the end."""
    paths = [namespace.pins for namespace in (node.inside, node.outside)]
    yield paths
    for path in paths:
        clear(path)


def test_what_was_left_is_taken_off(node: Node, folders: list[Path]) -> None:
    """Of every interface that has our program, whatever its mode, and of no other; a second time there is nothing."""
    wires = [node.wire(name) for name in ("n0", "n1", "n2")]
    daemon = node.daemon()
    daemon.configure([{"name": "n0", "mode": "native"}, {"name": "n1", "mode": "generic"}])
    daemon.start()
    daemon.signal(SIGKILL)
    daemon.ended()
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n2")

        done = _detach(node.inside)

        assert (done.returncode, done.stderr) == (0, "")
        *detached, unpinned = done.stdout.splitlines()
        assert detached == ["detached from n0", "detached from n1"]
        assert unpinned.startswith("unpinned ")
        assert str(folders[0]) in unpinned
        assert node.inside.programs() == {"n2": foreign.id}
        assert not folders[0].exists()
        again = _detach(node.inside)
        assert (again.returncode, again.stdout) == (0, f"nothing is left under {folders[0]}\n")
        assert node.inside.programs() == {"n2": foreign.id}

    daemon.start()
    wires[0].send([PACKET] * 3)
    assert daemon.settle(3)["ledger"]["packets"]["received"] == 3


def test_what_has_lost_its_pin_is_known(node: Node, folders: list[Path]) -> None:
    """A program whose pin is gone, or was given another name, is taken off, too; one of its name alone is not."""
    node.wire("n0")
    node.wire("n1")
    daemon = node.daemon("n0").start()
    daemon.signal(SIGKILL)
    daemon.ended()
    for path in folders[0].iterdir():
        pins.remove(path)
    with foreign_program("cnf_ingress") as foreign:
        foreign.attach(node.inside, "n1")

        done = _detach(node.inside)

        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[0] == "detached from n0"
        assert node.inside.programs() == {"n1": foreign.id}


def test_a_daemon_without_pins_is_left_alone(node: Node) -> None:
    """A running daemon that could pin nothing, and holds no lock, is refused as any other that runs."""
    node.wire("n0")
    daemon = node.daemon("n0")
    daemon.command = (
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs -o ro tmpfs /sys/fs/bpf; exec "$@"',
        "sh",
        *CNFD,
    )
    daemon.start()
    program = node.inside.programs()

    refused = _detach(node.inside, (*CNFCTL, "--socket", str(daemon.socket)))

    assert refused.returncode == 69
    assert f"pid {daemon.pid}" in refused.stderr
    assert node.inside.programs() == program
    assert not daemon.events("program was taken off by somebody else, putting it back")


def test_what_another_namespace_has_stays(node: Node, folders: list[Path]) -> None:
    """A daemon of another network namespace, and what it has pinned, are none of its business."""
    wire = node.wire("n0")
    there = node.daemon(wire.far_name)
    there.namespace = node.outside
    there.start()

    done = _detach(node.inside)

    assert (done.returncode, done.stdout) == (0, f"nothing is left under {folders[0]}\n")
    assert node.outside.programs().keys() == {wire.far_name}
    assert folders[1].exists()


def test_a_running_daemon_is_left_alone(node: Node) -> None:
    """While a daemon runs it is refused with status 69 and the daemon's pid, and the program stays."""
    node.wire("n0")
    daemon = node.daemon("n0").start()

    refused = _detach(node.inside)

    assert (refused.returncode, refused.stdout) == (69, "")
    assert f"pid {daemon.pid}" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert daemon.interfaces()["n0"]["state"] == "attached"


@pytest.mark.parametrize(
    ("capabilities", "words"),
    [pytest.param((), "CAP_BPF", id="no capabilities"), pytest.param(("bpf", "net_admin"), "netns-", id="no access")],
)
def test_it_takes_privilege(
    node: Node, stage: Stage, folders: list[Path], capabilities: Sequence[str], words: str
) -> None:
    """Without the capabilities, or access to the pins of another user, it says so with status 77, and all stays."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    daemon.signal(SIGKILL)
    daemon.ended()
    refused = _detach(node.inside, stage.command("cnf.cli", *as_user(capabilities=capabilities)))

    assert (refused.returncode, refused.stdout) == (77, "")
    assert words in refused.stderr
    assert node.inside.programs().keys() == {"n0"}
    assert folders[0].exists()


def test_a_program_in_place_of_ours_stays(node: Node, folders: list[Path]) -> None:
    """Where somebody else has put a program over ours, that stays, and there is nothing of ours to take off."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    daemon.signal(SIGKILL)
    daemon.ended()
    with foreign_program() as foreign:
        foreign.attach(node.inside, "n0")

        done = _detach(node.inside)

        assert done.returncode == 0
        assert "detached" not in done.stdout
        assert node.inside.programs() == {"n0": foreign.id}
        assert not folders[0].exists()


def _detach(namespace: Namespace, command: Sequence[str] = CNFCTL) -> subprocess.CompletedProcess[str]:
    whole = (*namespace.enter, *command, "detach")
    return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=PATIENCE)
