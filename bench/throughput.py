"""TCP through one of 20 veths, with cnfd on all as a container host has it: in mode auto, in both directions."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.daemon import running
from bench.report import Bar, Section

NEAR: Final = "tcp0"
FAR: Final = "tcp1"
PATTERN: Final = "tcp*"
IDLE: Final = 19
"""Pairs through which nothing comes."""
NEAR_ADDRESS: Final = "198.18.0.1"  # RFC 2544: for benchmarks
FAR_ADDRESS: Final = "198.18.0.2"
PORT: Final = 5001
SECONDS: Final = 0.5
BLOCK: Final = 1 << 20
SEND: Final = b"s"
RECEIVE: Final = b"r"
"""What the far end is to do with a connection."""


def measure(rounds: int) -> Section:
    """Send a stream, and receive one, without cnfd and with it, by turns."""
    section = Section("TCP through one of 20 veths, cnfd in mode auto on all, both directions")
    taken: dict[tuple[bytes, bool], list[float]] = {
        (what, tracked): [] for what in (RECEIVE, SEND) for tracked in (False, True)
    }
    with _pair(), _idle(), tempfile.TemporaryDirectory(prefix="cnf-bench-") as programs:
        for _ in range(rounds):
            for what in (RECEIVE, SEND):
                taken[what, False].append(_rate(what))
            with running("cache", interfaces=f'[{{name = "{PATTERN}"}}]', programs=Path(programs)) as daemon:
                daemon.wait("READY=1")
                for what in (RECEIVE, SEND):
                    taken[what, True].append(_rate(what))
    for what, title in ((RECEIVE, "sent"), (SEND, "received")):
        alone = section.add(f"{title}, without cnfd", "Gb/s", taken[what, False])
        bar = Bar(f"TCP {title}", 0.85, 0.95, "without", least=True)
        section.add(f"{title}, with cnfd", "Gb/s", taken[what, True], {"without": alone}, bar)
    return section


@contextmanager
def _pair() -> Iterator[None]:
    """Make the pair; its far end is in a namespace of its own, and answers there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        far_end = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-m", "bench.throughput"], stdin=theirs.fileno()
        )
        try:
            ours.recv(1)  # it is in its namespace
            _ip("link", "add", NEAR, "type", "veth", "peer", FAR, "netns", str(far_end.pid))
            _ip("address", "add", f"{NEAR_ADDRESS}/24", "dev", NEAR)
            _ip("link", "set", NEAR, "up")
            ours.send(b"\n")
            ours.recv(1)  # it listens
            yield
        finally:
            far_end.kill()
            far_end.wait()


@contextmanager
def _idle() -> Iterator[None]:
    """Make the pairs that PATTERN means, too."""
    names = [f"tcp-idle{number}" for number in range(IDLE)]
    try:
        for number, name in enumerate(names):
            _ip("link", "add", name, "type", "veth", "peer", f"idle{number}")
            _ip("link", "set", name, "up")
        yield
    finally:
        for name in names:
            _ip("link", "delete", name)


def _rate(what: bytes) -> float:
    """Return gigabits a second of a stream that the far end receives, or sends."""
    with socket.create_connection((FAR_ADDRESS, PORT)) as connection:
        connection.sendall(what)
        return _send(connection) if what == RECEIVE else _receive(connection)


def _send(connection: socket.socket) -> float:
    """Send for SECONDS; return the rate."""
    block, sent, started = bytes(BLOCK), 0, time.monotonic()
    while (taken := time.monotonic() - started) < SECONDS:
        sent += connection.send(block)
    return 8e-9 * sent / taken


def _receive(connection: socket.socket) -> float:
    """Receive until the other end closes; return the rate."""
    block, received, started = bytearray(BLOCK), 0, time.monotonic()
    while count := connection.recv_into(block):
        received += count
    return 8e-9 * received / (time.monotonic() - started)


def _answer() -> None:
    """Be the far end."""
    with socket.socket(fileno=0) as near_end:
        near_end.send(b"\n")
        near_end.recv(1)
        _ip("address", "add", f"{FAR_ADDRESS}/24", "dev", FAR)
        _ip("link", "set", FAR, "up")
        server = socket.create_server((FAR_ADDRESS, PORT))
        near_end.send(b"\n")
    with server:
        while True:
            connection, _address = server.accept()
            with connection:
                if connection.recv(1) == SEND:
                    _send(connection)
                else:
                    _receive(connection)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


if __name__ == "__main__":
    _answer()
