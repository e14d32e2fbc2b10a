"""A daemon whose program was built before starts without BCC and LLVM, and goes on with what is pinned."""

from __future__ import annotations

import shutil
from pathlib import Path
from signal import SIGKILL, SIGUSR2
from typing import Final

import pytest

from cnf.datapath.program_file import PREFIX
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon

PACKET: Final = frame(IPv4("10.0.0.1"), UDP())
LIMITS: Final = {"rules": [{"name": "all", "prefixes": ["0.0.0.0/0"], "packets_per_second": 1000}]}
NOT_USED, NOT_KEPT = "program of a file not used", "program not kept in a file"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Give each test a folder for programs, in which there is none."""
    return tmp_path / "programs"


@pytest.fixture
def daemon(node: Node, programs: Path) -> Daemon:
    """Have a daemon that keeps its program there, on an interface."""
    node.wire("n0")
    return node.daemon("n0").keep_programs_in(programs)


def memory_maps(daemon: Daemon) -> str:
    """Return what files the daemon has in memory."""
    return Path(f"/proc/{daemon.pid}/maps").read_text(encoding="utf-8")


def test_a_restart_goes_on_without_llvm(node: Node, programs: Path) -> None:
    """No child is started, the daemon loads no BCC and no LLVM, and flows go on; limits are another program."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").keep_programs_in(programs).start()
    wire.send([PACKET] * 3)
    daemon.settle(3)
    daemon.signal(SIGUSR2)
    assert daemon.ended() == 0

    daemon.start()

    assert Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text(encoding="ascii") == ""
    assert not {word for word in ("libbcc", "libLLVM", "libclang") if word in memory_maps(daemon)}
    assert daemon.events("going on with the flows and counters of the previous daemon")
    wire.send([PACKET] * 4)
    daemon.settle(7)
    (flow,) = daemon.flows()
    assert flow["packets"] == 7
    assert (daemon.events(NOT_USED), daemon.events(NOT_KEPT)) == ([], [])
    daemon.stop()
    assert len([*programs.iterdir()]) == 1

    daemon.configure([{"name": "n0"}], limits=LIMITS)
    daemon.start().stop()
    assert len([*programs.iterdir()]) == 2


def test_a_start_without_bcc(daemon: Daemon, tmp_path: Path, programs: Path) -> None:
    """It works where the program was built before, and nowhere else."""
    daemon.start().stop()

    daemon.remove_bcc(tmp_path).start().stop()

    shutil.rmtree(programs)
    status, line = daemon.refused()
    assert status == 69
    assert "BCC is missing" in line


def test_a_torn_file_costs_a_compilation(daemon: Daemon, programs: Path) -> None:
    """The log has a line, and the next start none."""
    daemon.start().stop()
    (path,) = programs.glob(f"{PREFIX}*")
    path.write_bytes(path.read_bytes()[:1000])

    daemon.start().stop()
    (event,) = daemon.events(NOT_USED)
    assert (event["level"], event["error"], event["path"]) == ("warning", "not whole", str(programs))

    daemon.start().stop()
    assert daemon.events(NOT_USED) == []


def test_no_folder_costs_a_compilation(daemon: Daemon) -> None:
    """Each start, with a line in the log."""
    daemon.keep_programs_in(Path("/proc/no/such/folder"))
    for _ in range(2):
        daemon.start().stop()
        (event,) = daemon.events(NOT_KEPT)
        assert (event["level"], event["error"]) == ("warning", "No such file or directory")


def test_killed_at_any_moment_of_a_start(daemon: Daemon, programs: Path) -> None:
    """Whatever is left, the next start works."""
    daemon.launch().wait_for_event("ready")
    daemon.signal(SIGKILL)
    daemon.ended()
    (path,) = programs.iterdir()
    shutil.copy(path, f"{path}.{daemon.pid}")

    daemon.start().stop()

    assert (daemon.events(NOT_USED), daemon.events(NOT_KEPT)) == ([], [])
