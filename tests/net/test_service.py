"""What cnfd tells systemd: sd_notify(3) over a socket that the test holds."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP, SIGTERM, SIGUSR2
from typing import Final

import pytest

from tests.net.conftest import Node
from tests.net.daemon import CNFD, METRICS, Daemon
from tests.net.wait import PATIENCE

Message = dict[str, str]
PASSING: Final = """
import os, sys
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
for place, descriptor in enumerate(map(int, sys.argv[1:3]), 3):
    os.dup2(descriptor, place)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Manager:
    """The receiving end of the notifications."""

    def __init__(self, listener: socket.socket) -> None:
        """Start with no message."""
        self._listener = listener
        self.seen: list[Message] = []

    def until(self, **expected: str) -> Message:
        """Receive until a message has all that is ``expected``, and return it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            lines = self._listener.recv(4096).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            self.seen.append(message)
            if expected.items() <= message.items():
                return message
        pytest.fail(f"no {expected} among {self.seen}")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Listen where a service manager would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(PATIENCE)
        yield Manager(listener)


@pytest.fixture
def daemon(node: Node, tmp_path: Path) -> Daemon:
    """Have a daemon with a service manager and a watchdog of 0.4 s, and drains too seldom to feed it."""
    node.wire("n0")
    daemon = node.daemon("n0", flows={"drain_interval": "1h"})
    daemon.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    return daemon.launch()


def test_the_steps_of_a_life(daemon: Daemon, manager: Manager) -> None:
    """STATUS names each step of the start, READY comes once attached, and STOPPING before the end.

    Each interface has half a minute to be attached in.
    """
    ready = manager.until(READY="1")
    assert ready["STATUS"] == "attached to 1 of 1 interfaces, 0 flows"
    assert [message["EXTEND_TIMEOUT_USEC"] for message in manager.seen if "STATUS" not in message] == ["30000000"]
    assert [message["STATUS"] for message in manager.seen if "STATUS" in message] == [
        "building the program",
        "attaching the program",
        ready["STATUS"],
    ]
    assert daemon.http("/healthz").status == 200

    daemon.signal(SIGTERM)

    manager.until(STOPPING="1")
    assert daemon.ended() == 0


def test_the_watchdog_is_fed(daemon: Daemon, manager: Manager) -> None:
    """The loop reports in time for the watchdog, also between drains that are far apart."""
    manager.until(READY="1")
    times = []
    for _ in range(5):
        manager.until(WATCHDOG="1")
        times.append(time.monotonic())
    assert times[-1] - times[0] < 10  # and not when the interfaces are looked at, every 10 s
    assert daemon.is_running()


def test_a_reload_is_announced(daemon: Daemon, manager: Manager) -> None:
    """RELOADING carries the time that systemd asks for, and READY follows, whether the file was good or bad."""
    manager.until(READY="1")
    for content in (daemon.config.read_text(encoding="utf-8"), "bad"):
        daemon.config.write_text(content, encoding="utf-8")
        before = time.monotonic_ns() // 1000
        daemon.signal(SIGHUP)
        reloading = manager.until(RELOADING="1")
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        manager.until(READY="1")


def test_a_failed_start_is_the_status(node: Node, manager: Manager, tmp_path: Path) -> None:
    """What ends the start is the last STATUS, for ``systemctl status`` to show."""
    node.wire("n0")
    daemon = node.daemon("n0")
    daemon.socket.write_text("", encoding="utf-8")
    daemon.environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}

    _, line = daemon.refused()

    assert manager.until(STATUS=line.removeprefix("cnfd: "))


def test_sockets_of_systemd(node: Node) -> None:
    """Over a restart nobody who connects is refused: both sockets stay, and whoever waits is answered then."""
    node.wire("n0")
    daemon = node.daemon("n0")
    with node.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as metrics, socket.socket(socket.AF_UNIX) as control:
        metrics.bind(METRICS)
        control.bind(str(daemon.socket))
        for listener in (metrics, control):
            listener.listen()
        daemon.command = (sys.executable, "-c", PASSING, str(metrics.fileno()), str(control.fileno()), *CNFD)
        daemon.passed = (metrics.fileno(), control.fileno())
        daemon.start()
        (event,) = daemon.events("listening on sockets of systemd")
        assert event["addresses"] == ["127.0.0.1:9995", str(daemon.socket)]
        assert daemon.http("/healthz").status == 200
        assert daemon.status()["daemon"]["pid"] == daemon.pid

        daemon.signal(SIGUSR2)
        assert daemon.ended() == 0
        with daemon.connect_metrics() as early:
            early.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            daemon.start()
            assert early.recv(100).startswith(b"HTTP/1.1 200 OK")
        assert daemon.ctl("status").returncode == 0
        daemon.stop()
        assert daemon.socket.exists()
