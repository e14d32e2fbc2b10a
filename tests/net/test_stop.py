"""However and whenever cnfd is asked to stop, it ends in order and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGTERM, Signals
from typing import Final

import pytest

from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.programs import is_loaded
from tests.net.wait import wait_for

STOP_AT: Final = """
import logging, os, signal, sys
from cnf.cnfd import main

awaited = sys.argv.pop(1).split(",")
make = logging.getLogRecordFactory()

def stop_at(*arguments, **more):
    record = make(*arguments, **more)
    if isinstance(record.msg, dict) and record.msg["event"] == awaited[0]:
        del awaited[0]
        if not awaited:
            os.kill(os.getpid(), signal.SIGSTOP)
            awaited.append(None)
    return record

logging.setLogRecordFactory(stop_at)
sys.exit(main())
"""
"""A cnfd that stops, as by SIGSTOP, when it has met the events of its first argument in this order, before the last of
them is logged."""


each_signal = pytest.mark.parametrize("number", [SIGTERM, SIGINT])


@each_signal
def test_stop_when_ready(node: Node, number: Signals) -> None:
    """A running daemon detaches, frees its program, removes its socket, says why once, and ends with status 0."""
    node.wire("n0")
    node.wire("n1", mtu=9000)
    daemon = node.daemon()
    daemon.configure([{"name": "n0"}, {"name": "n1", "mode": "generic"}])
    daemon.start()
    (program,) = set(node.inside.programs().values())

    _stop(daemon, node, number)

    assert [event["signal"] for event in daemon.events("stopping")] == [number.name]
    assert {event["interface"] for event in daemon.events("program detached")} == {"n0", "n1"}
    wait_for(lambda: not is_loaded(program), "the program to be freed")


@each_signal
def test_stop_while_compiling(node: Node, tmp_path: Path, number: Signals) -> None:
    """A daemon whose program is being compiled ends the compiler, attaches nothing, and ends with status 0."""
    node.wire("n0")
    daemon = node.daemon("n0").keep_programs_in(tmp_path).launch()
    compiler = wait_for(daemon.compiler, "the compiler to start")

    _stop(daemon, node, number)

    assert [event["signal"] for event in daemon.events("stopped while compiling")] == [number.name]
    assert daemon.events("program attached") == []
    assert not Path(f"/proc/{compiler}").exists()


def test_stop_while_attaching(node: Node) -> None:
    """A signal between the first of three interfaces and the second leaves none of them attached."""
    for name in ("n0", "n1", "n2"):
        node.wire(name)
    daemon = _stopped_at(node.daemon("n0", "n1", "n2"), "program attached")
    assert node.inside.programs().keys() == {"n0"}

    daemon.signal(SIGTERM)
    daemon.signal(SIGCONT)

    _check_stopped(daemon, node)


@each_signal
def test_stop_while_draining(node: Node, number: Signals) -> None:
    """A signal in the middle of a drain lets it end, and then the daemon."""
    node.wire("n0")
    daemon = _stopped_at(node.daemon("n0"), "ready", "drained")
    drains = len(daemon.events("drained"))

    daemon.signal(number)
    daemon.signal(SIGCONT)

    _check_stopped(daemon, node)
    (stopping,) = daemon.events("stopping")  # a drain that comes later records what is left
    before = [drain for drain in daemon.events("drained") if drain["timestamp"] < stopping["timestamp"]]
    assert len(before) == drains + 1


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
    daemon.signal(number)
    assert daemon.ended() == 0
    _check_stopped(daemon, node)


def _stopped_at(daemon: Daemon, *events: str) -> Daemon:
    """Launch ``daemon``, and return it when it has come to a stop at the last of ``events``."""
    daemon.command = (sys.executable, "-P", "-c", STOP_AT, ",".join(events))
    status = Path(f"/proc/{daemon.launch().pid}/status")
    wait_for(lambda: "State:\tT" in status.read_text(encoding="ascii"), f"cnfd to stop at {events[-1]!r}")
    return daemon


def _check_stopped(daemon: Daemon, node: Node) -> None:
    assert daemon.ended() == 0
    assert node.inside.programs() == {}
    assert not daemon.socket.exists()
    assert "Traceback" not in daemon.log.read_text(encoding="utf-8")
