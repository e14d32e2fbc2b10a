"""A log reader that lives but reads nothing: lines are lost, and nothing else."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGHUP, SIGTERM
from typing import Final, Literal

import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.wait import wait_for

PACKET: Final = frame(IPv4(), UDP(), bytes(100))
LOST: Final = "cnf_log_lines_lost_total"


@dataclass
class Ends:
    """What the log is written to, and where nobody reads it for now."""

    reader: int
    writer: int

    def read(self) -> str:
        """Return what is there."""
        text = b""
        while True:
            try:
                text += os.read(self.reader, 1 << 16)
            except BlockingIOError:
                return text.decode()


@contextmanager
def log_of(kind: Literal["pipe", "socket"]) -> Iterator[Ends]:
    """Open a small pipe, as of ``cnfd 2>&1 | less``, or a socket, as of the journal."""
    if kind == "pipe":
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, mmap.PAGESIZE)
    else:
        near, far = socket.socketpair()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least that there is
        reader, writer = near.detach(), far.detach()
    os.set_blocking(reader, False)
    try:
        yield Ends(reader, writer)
    finally:
        os.close(reader)
        os.close(writer)


def lost(daemon: Daemon) -> int:
    """Return the log lines that the daemon has lost."""
    return daemon.scrape().total(LOST)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_log_that_nobody_reads_holds_nothing_up(node: Node, kind: Literal["pipe", "socket"]) -> None:
    """With its log full, the daemon counts the lines that it loses, and drains, reloads, answers and stops as ever."""
    wire = node.wire("n0")
    daemon = node.daemon("n0")
    with log_of(kind) as log:
        daemon.launch(stderr=log.writer)
        wait_for(lambda: daemon.socket.exists() and _ready(daemon), "the daemon to be ready")
        wait_for(lambda: lost(daemon) > 0, "the log to be full")
        assert os.get_blocking(log.writer)

        wire.send([PACKET] * 5)
        wait_for(lambda: daemon.status()["ledger"]["packets"]["received"] == 5, "a drain")
        daemon.configure([{"name": "n0"}], flows={"drain_interval": "150ms"})
        daemon.signal(SIGHUP)
        wait_for(lambda: daemon.status()["drain"]["interval_seconds"] == 0.15, "the reload")
        before = lost(daemon)
        wait_for(lambda: lost(daemon) > before, "more lines to be lost")
        assert daemon.http("/readyz").status == 200

        daemon.signal(SIGTERM)
        assert daemon.ended() == 0
    assert node.inside.programs() == {}


def test_a_log_reader_that_comes_back_gets_whole_lines(node: Node) -> None:
    """What a reader finds after a pause is whole lines, those from before and from after the gap."""
    node.wire("n0")
    daemon = node.daemon("n0")
    with log_of("pipe") as log:
        daemon.launch(stderr=log.writer)
        wait_for(lambda: daemon.socket.exists() and _ready(daemon), "the daemon to be ready")
        wait_for(lambda: lost(daemon) > 0, "the log to be full")

        before = log.read()
        after = wait_for(log.read, "a line after the gap")

    events = [[json.loads(line)["event"] for line in text.splitlines()] for text in (before, after)]
    assert all(events)


def _ready(daemon: Daemon) -> bool:
    try:
        return daemon.http("/readyz").status == 200
    except ConnectionRefusedError:
        return False
