"""What the daemon tells systemd arrives as sd_notify(3) and sd_watchdog_enabled(3) describe it, or harms nobody."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnf.errors import UnavailableError
from cnf.process import systemd


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listen where systemd would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(5)
        bound.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield bound


def test_variables_arrive_in_one_datagram(listener: socket.socket) -> None:
    """Each variable is a line of its own."""
    systemd.notify(READY=1, STATUS="attached to 2 of 2 interfaces, 0 flows")

    assert listener.recv(4096) == b"READY=1\nSTATUS=attached to 2 of 2 interfaces, 0 flows"


def test_a_status_may_hold_any_character(listener: socket.socket) -> None:
    """Text goes out as UTF-8."""
    systemd.notify(STATUS='interface q"x\\y é')

    assert listener.recv(4096).decode() == 'STATUS=interface q"x\\y é'


def test_a_reload_says_when_it_began(listener: socket.socket) -> None:
    """RELOADING=1 and the monotonic time, in microseconds, are in the same datagram."""
    before = time.monotonic_ns() // 1000
    systemd.notify_reloading()
    reloading, when = listener.recv(4096).decode().split("\n")

    assert reloading == "RELOADING=1"
    assert before <= int(when.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that begins with @ is one without a file."""
    name = f"cnf-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(5)
        bound.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        systemd.notify(WATCHDOG=1)

        assert bound.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("path", [None, "", "relative/notify", "vsock:2:1", "/nonexistent/notify", "@cnf-nobody"])
def test_nobody_listening_is_no_error(monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    """Without systemd, or with one that is gone, nothing happens."""
    if path is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", path)

    systemd.notify(READY=1)


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", None, 15.0),
        ("30000000", "own", 15.0),
        ("30000000", "1", None),
        (None, None, None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
        ("-5", None, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, interval: float | None
) -> None:
    """Half of WATCHDOG_USEC, if it is meant for this process; anything else means no watchdog."""
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)

    assert systemd.watchdog_interval() == interval


@pytest.mark.parametrize(
    ("level", "number"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 3)],
)
def test_the_journal_is_told_a_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int, number: int
) -> None:
    """A line for the journal begins with its priority; one for a file that only stands beside it does not."""
    with (tmp_path / "journal").open("w") as journal, (tmp_path / "file").open("w") as file:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert systemd.priority(level, journal) == f"<{number}>"
        assert systemd.priority(level, file) == ""
        monkeypatch.delenv("JOURNAL_STREAM")
        assert systemd.priority(level, journal) == ""


def test_without_a_descriptor_the_service_goes_on(listener: socket.socket) -> None:
    """When the process has no descriptor left for a notification, that one is not sent, and nothing else happens."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno() + 1, limits[1]))
    spare = []
    try:
        with contextlib.suppress(OSError):
            while True:
                spare.append(os.dup(0))
        systemd.notify(WATCHDOG=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in spare:
            os.close(descriptor)


def test_sockets_that_systemd_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those from the first descriptor on; no child has them, nor is told of them."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        addresses = [each.getsockname() for each in (first, second)]
        low = os.dup(first.fileno())
        os.dup2(second.fileno(), low + 1)
        monkeypatch.setattr(systemd, "FIRST_PASSED", low)
        for name, value in (("PID", str(os.getpid())), ("FDS", "2"), ("FDNAMES", "cnfd.socket:cnfd.socket")):
            monkeypatch.setenv(f"LISTEN_{name}", value)
        passed = systemd.inherited_sockets()
    assert [each.getsockname() for each in passed] == addresses
    assert not any(each.get_inheritable() for each in passed)
    assert not any(name.startswith("LISTEN_") for name in os.environ)
    assert systemd.inherited_sockets() == []
    for each in passed:
        each.close()


def test_a_pipe_that_systemd_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no socket, as ListenFIFO= has it, is named for what it is."""
    reading, writing = os.pipe()
    try:
        monkeypatch.setattr(systemd, "FIRST_PASSED", reading)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with pytest.raises(UnavailableError, match="systemd passed what is no socket"):
            systemd.inherited_sockets()
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(("pid", "count"), [("1", "1"), ("", "1"), ("own", ""), ("own", "x"), ("own", "0")])
def test_sockets_for_somebody_else(monkeypatch: pytest.MonkeyPatch, pid: str, count: str) -> None:
    """What is another process's, or no number, is left alone."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if pid == "own" else pid)
    monkeypatch.setenv("LISTEN_FDS", count)
    assert systemd.inherited_sockets() == []
