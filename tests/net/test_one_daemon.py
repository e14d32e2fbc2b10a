"""One daemon a socket and a namespace; and what else may stand where the socket should be."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from signal import SIGKILL, SIGUSR2

import pytest

from cnf.kernel import pins
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFD
from tests.net.namespaces import run
from tests.net.users import NOBODY


def test_a_second_daemon_is_told_who_is_there(node: Node) -> None:
    """A second daemon in the namespace ends with status 69 and the first one's pid, and the first one counts on."""
    wire = node.wire("n0")
    first = node.daemon("n0").start()
    program = node.inside.programs()

    status, line = node.daemon("n0").refused()

    assert status == 69
    assert f"pid {first.pid}" in line
    assert node.inside.programs() == program
    wire.send([frame(IPv4(), UDP())] * 3)
    first.settle(3)
    assert [flow["packets"] for flow in first.flows()] == [3]


def test_nobody_else_can_take_the_lock(node: Node) -> None:
    """Another user, who may have any abstract socket's name and look at every path, keeps no daemon from starting."""
    node.wire("n0")
    folder = node.inside.pins
    folder.mkdir(parents=True)  # as an older version has made it, for others to look into
    with node.inside.socket(socket.AF_UNIX, socket.SOCK_STREAM) as squatter:
        squatter.bind("\0cnfd")
        daemon = node.daemon("n0").start()
    opened = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "ls", folder], capture_output=True, text=True, check=False
    )
    assert "Permission denied" in opened.stderr
    assert folder.stat().st_mode & 0o777 == 0o700
    assert node.daemon("n0").refused()[0] == 69
    daemon.stop()
    assert not folder.exists()


@pytest.mark.parametrize("whose", ["folder", "namespace"])
def test_a_folder_of_another_user_is_not_relied_on(node: Node, whose: str) -> None:
    """Where bpffs is open to all, and another user was there first, nothing is pinned; all else works, also the end."""
    wire = node.wire("n0")
    daemon = node.daemon("n0")
    make = 'mount -t bpf bpf /sys/fs/bpf; mkdir -p $0; chown 65534 $0; exec "$@"'
    theirs = pins.BPFFS / "cnf" if whose == "folder" else node.inside.pins
    daemon.command = ("unshare", "--mount", "sh", "-c", make, str(theirs), *CNFD)
    daemon.start()

    (warning,) = daemon.events("program not pinned")
    assert (warning["path"], warning["error"]) == (str(theirs), "it is user 65534's, who could change what is in it")
    assert "mode=0700" in warning["remedy"]
    wire.send([frame(IPv4(), UDP())] * 3)
    daemon.settle(3)
    daemon.signal(SIGUSR2)
    assert daemon.ended() == 0
    assert daemon.events("not leaving the program, which is not pinned: the next daemon would not know it")
    assert node.inside.programs() == {}


def test_a_socket_in_use_is_not_taken(node: Node) -> None:
    """A daemon of another namespace with the same socket ends with status 69 and the pid, and the socket works on."""
    wire = node.wire("n0")
    first = node.daemon("n0").start()
    second = node.daemon(wire.far_name)
    second.namespace = node.outside
    second.configure([{"name": wire.far_name}], control={"socket": str(first.socket)})

    status, line = second.refused()

    assert status == 69
    assert f"pid {first.pid}" in line
    assert node.outside.programs() == {}
    assert first.status()["daemon"]["pid"] == first.pid


def test_a_socket_folder_that_is_full(node: Node) -> None:
    """A file system without room for the socket ends a start with 69, which systemd tries again; with room it works."""
    node.wire("n0")
    daemon = node.daemon("n0")
    folder = daemon.socket.parent / "run"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "nr_inodes=1", "cnf-t", f"{folder}")
    try:
        daemon.socket = folder / "cnf.sock"
        daemon.configure([{"name": "n0"}])
        status, line = daemon.refused()
        assert status == 69
        assert f"control.socket {daemon.socket}: No space left on device (make room there" in line
        assert node.inside.programs() == {}

        run("mount", "-o", "remount,nr_inodes=16", f"{folder}")
        daemon.start()
        assert daemon.status()["daemon"]["pid"] == daemon.pid
        daemon.stop()
    finally:
        run("umount", "--lazy", f"{folder}")


def test_a_group_that_is_not_there_yet(node: Node, tmp_path: Path) -> None:
    """Without its group a start ends with 69, which systemd tries again; once there is one, it has the socket."""
    node.wire("n0")
    groups = tmp_path / "group"
    groups.write_text("root:x:0:\n", encoding="ascii")
    daemon = node.daemon("n0", control={"group": "cnf-late"})
    daemon.command = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/group; exec "$@"', str(groups), *CNFD)

    status, line = daemon.refused()
    assert status == 69
    assert "control.group: there is no group 'cnf-late' here (groupadd cnf-late" in line
    assert node.inside.programs() == {}

    groups.write_text("root:x:0:\ncnf-late:x:4711:\n", encoding="ascii")
    daemon.start()
    assert (daemon.socket.stat().st_gid, daemon.socket.stat().st_mode & 0o777) == (4711, 0o660)


def test_a_metrics_address_in_use_is_named(node: Node) -> None:
    """A port that is taken ends the start with status 69, names the setting, and leaves nothing attached."""
    node.wire("n0")
    daemon = node.daemon("n0")
    with node.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 9995))
        taken.listen()
        status, line = daemon.refused()
    assert status == 69
    assert "metrics.listen 127.0.0.1:9995" in line
    assert node.inside.programs() == {}
    assert not daemon.socket.exists()


def test_a_stale_socket_is_taken_over(node: Node) -> None:
    """A socket file that nobody listens on is no obstacle."""
    node.wire("n0")
    daemon = node.daemon("n0")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(daemon.socket))

    daemon.start()

    assert daemon.status()["daemon"]["pid"] == daemon.pid


def test_a_killed_daemons_leavings_are_no_obstacle(node: Node) -> None:
    """After SIGKILL the next daemon starts by itself, and its program is the only one on the interface."""
    wire = node.wire("n0")
    killed = node.daemon("n0").start()
    killed.signal(SIGKILL)
    killed.ended()
    assert killed.socket.exists()
    (left,) = node.inside.programs().values()

    killed.start()

    (now,) = node.inside.programs().values()
    assert now != left
    wire.send([frame(IPv4(), UDP())] * 3)
    assert killed.settle(3)["ledger"]["packets"]["live"] == 3


def test_a_file_in_the_sockets_place_is_left_alone(node: Node) -> None:
    """A regular file is refused with status 78 and keeps its content; nothing is attached."""
    node.wire("n0")
    daemon = node.daemon("n0")
    daemon.socket.write_text("precious", encoding="utf-8")

    status, line = daemon.refused()

    assert status == 78
    assert str(daemon.socket) in line
    assert daemon.socket.read_text(encoding="utf-8") == "precious"
    assert node.inside.programs() == {}


def test_a_link_in_the_sockets_place_is_left_alone(node: Node) -> None:
    """A symbolic link, even to a stale socket, is refused with status 78; link and target stay."""
    node.wire("n0")
    daemon = node.daemon("n0")
    target = daemon.socket.with_name("target")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(target))
    daemon.socket.symlink_to(target)

    status, line = daemon.refused()

    assert status == 78
    assert str(daemon.socket) in line
    assert daemon.socket.readlink() == target
    assert target.is_socket()
    assert node.inside.programs() == {}
