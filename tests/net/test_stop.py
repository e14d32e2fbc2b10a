"""However and whenever cnfd is asked to stop, it ends in order and leaves nothing behind."""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from contextlib import closing, suppress
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

import pytest

from tests.leaks import bpf_objects
from tests.net.conftest import Node
from tests.net.daemon import STOP_LIMIT, Daemon
from tests.net.wait import wait_for


class HeldLog:
    """A log that is a pipe; ``hold()`` makes the daemon wait at the next line that it writes."""

    def __init__(self) -> None:
        """Open the pipe, as small as can be."""
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, mmap.PAGESIZE)
        self._text = b""

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self.writer)

    def hold(self) -> None:
        """Fill the pipe, until ``read()``."""
        # By a description of its own: whether the daemon's writes block must not change.
        filler = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(filler, b"\n")
        os.close(filler)

    def read(self) -> bytes:
        """Take what is there, and return all that came so far."""
        with suppress(BlockingIOError):
            self._text += os.read(self._reader, 1 << 16)
        return self._text


each_signal = pytest.mark.parametrize("number", [SIGTERM, SIGINT])


@each_signal
def test_stop_when_ready(node: Node, number: Signals) -> None:
    """A running daemon detaches, frees its program, removes its socket, says why once, and ends with status 0."""
    node.wire("n0")
    node.wire("n1", mtu=9000)
    daemon = node.daemon("n0", "n1").start()
    programs = set(node.inside.programs().values())
    assert len(programs) == 1

    _stop(daemon, node, number)

    assert [event["signal"] for event in daemon.events("stopping")] == [number.name]
    assert {event["interface"] for event in daemon.events("xdp detached")} == {"n0", "n1"}
    wait_for(lambda: programs.isdisjoint(number for number, _ in bpf_objects("prog")), "the program to be freed")


@each_signal
def test_stop_while_compiling(node: Node, number: Signals) -> None:
    """A daemon whose program is being compiled ends the compiler, attaches nothing, and ends with status 0."""
    node.wire("n0")
    daemon = node.daemon("n0").launch()
    compiler = wait_for(lambda: _compiler_of(daemon), "the compiler to start")

    _stop(daemon, node, number)

    assert [event["signal"] for event in daemon.events("stopped while compiling")] == [number.name]
    assert daemon.events("xdp attached") == []
    assert not Path(f"/proc/{compiler}").exists()


def test_stop_while_attaching(node: Node) -> None:
    """A signal between the first of three interfaces and the second leaves none of them attached."""
    for name in ("n0", "n1", "n2"):
        node.wire(name)
    daemon = node.daemon("n0", "n1", "n2", log={"level": "info"})
    with closing(HeldLog()) as log:
        log.hold()
        daemon.launch(stderr=log.writer)
        # It attaches n0, and cannot go on before that is logged.
        wait_for(node.inside.programs, "the program on n0")
        assert node.inside.programs().keys() == {"n0"}

        daemon.signal(SIGTERM)
        wait_for(lambda: log.read() and not daemon.is_running(), "the end of cnfd", STOP_LIMIT)

    _check_stopped(daemon, node)


@each_signal
def test_stop_while_draining(node: Node, number: Signals) -> None:
    """A signal in the middle of a drain lets it end, and then the daemon."""
    node.wire("n0")
    daemon = node.daemon("n0")
    with closing(HeldLog()) as log:
        daemon.launch(stderr=log.writer)
        wait_for(lambda: b'"ready"' in log.read(), "the daemon to be ready")
        log.hold()
        wait_for(lambda: daemon.http("/readyz").status == 503, "a drain that cannot log its end")

        daemon.signal(number)
        wait_for(lambda: log.read() and not daemon.is_running(), "the end of cnfd", STOP_LIMIT)

    _check_stopped(daemon, node)


def test_a_second_signal_changes_nothing(node: Node) -> None:
    """Impatience does not cut the end short: what is attached is detached."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    for number in (SIGTERM, SIGINT, SIGTERM):
        daemon.signal(number)

    assert daemon.ended() == 0

    _check_stopped(daemon, node)
    assert len(daemon.events("stopping")) == 1


def test_the_program_of_another_daemon_stays(node: Node) -> None:
    """Of two daemons in two namespaces, one's end leaves the other's program where it is."""
    wire = node.wire("n0")
    here = node.daemon("n0").start()
    there = node.daemon(wire.far_name)
    there.namespace = node.outside
    there.start()

    _stop(here, node, SIGTERM)

    assert node.outside.programs().keys() == {wire.far_name}
    assert there.interfaces()[wire.far_name]["state"] == "attached"


def _stop(daemon: Daemon, node: Node, number: Signals) -> None:
    asked = time.monotonic()
    daemon.signal(number)
    assert daemon.ended() == 0
    assert time.monotonic() - asked < STOP_LIMIT
    _check_stopped(daemon, node)


def _check_stopped(daemon: Daemon, node: Node) -> None:
    assert daemon.ended() == 0
    assert node.inside.programs() == {}
    assert not daemon.socket.exists()
    assert "Traceback" not in daemon.log.read_text(encoding="utf-8")


def _compiler_of(daemon: Daemon) -> int | None:
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text(encoding="ascii").split()
    for child in map(int, children):
        if b"cnf.kernel.compile" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
    return None
