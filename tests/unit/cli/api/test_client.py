"""Questions to a daemon that answers, refuses, is gone or is not cnfd."""

from __future__ import annotations

import grp
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnf.cli.api.client import Client, DaemonConfigError
from cnf.cli.api.socket_groups import groups
from cnf.errors import CnfError, KernelError, PrivilegeError, UnavailableError, UsageError
from cnf.server.sockets import listen_unix
from tests.unit.cli.limit_samples import CHANGE
from tests.unit.cli.samples import FLOW, PING, STATUS, flows
from tests.unit.cli.stand_in import Answer, StandIn


def test_question_and_answer(daemon: StandIn) -> None:
    """A question carries its parameters, whatever is in them, and the answer comes back as it was."""
    query: dict[str, str | int] = {"top": 20, "sort": "bytes", "filter": "iface a&b=\udcff or src net 10.0.0.0/8"}
    assert Client(str(daemon.socket)).flows(query) == flows(FLOW, PING, matched=1_234)
    assert daemon.asked.get() == ("/v1/flows", {**{k: str(v) for k, v in query.items()}, "format": "json"})
    assert Client(str(daemon.socket)).status() == STATUS


def test_stream(daemon: StandIn) -> None:
    """Lines come as the daemon wrote them, and flows one by one."""
    client = Client(str(daemon.socket))
    assert list(client.flow_lines({}, "csv")) == [b"interface,packets\r\n", b"eth0,12\r\n"]
    assert list(client.each_flow({"top": 2})) == [FLOW, PING]


def test_request(daemon: StandIn) -> None:
    """A change is posted as JSON, whatever is in it, and what it did comes back."""
    request = {"op": "set", "rule": {"name": "a", "interfaces": ["b\udcff"]}, "confirm": 0.5, "ssh_connection": None}
    assert Client(str(daemon.socket)).change_limits(request) == CHANGE
    assert daemon.posted.get() == ("/v1/limits", request)


def test_no_daemon(tmp_path: Path) -> None:
    """Without a socket the error says that cnfd does not run, or not yet, where it was looked for, and what to do."""
    with pytest.raises(UnavailableError) as caught:
        Client(f"{tmp_path}/cnf.sock").status()
    assert str(caught.value) == (
        f"cnfd is not running, or still starting: {tmp_path}/cnf.sock does not exist "
        "(systemctl status cnfd shows which; start it: systemctl start cnfd, or name its socket by --socket)"
    )


def test_stale_socket(tmp_path: Path) -> None:
    """A socket that a killed daemon left behind is told from none at all."""
    path = tmp_path / "cnf.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(UnavailableError, match=f"still starting: nobody listens on {path}, it was left behind"):
        Client(str(path)).status()


def test_silent_daemon(tmp_path: Path) -> None:
    """A daemon that accepts and never answers is given up after the time-out."""
    path = tmp_path / "cnf.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(UnavailableError, match=r"does not answer on .* within 0\.05 s"):
            Client(str(path), timeout=0.05).status()


@pytest.mark.parametrize(("query", "seconds"), [({}, "0.2"), ({"top": 5}, "0.05")])
def test_a_listing_of_everything_has_its_turn_to_wait_for(
    tmp_path: Path, query: dict[str, str | int], seconds: str
) -> None:
    """The daemon writes a few whole listings at a time: for one, it is waited four times as long."""
    path = tmp_path / "cnf.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(UnavailableError, match=rf"within {re.escape(seconds)} s"):
            Client(str(path), timeout=0.05).flows(query)


def test_overloaded_daemon(tmp_path: Path) -> None:
    """A daemon whose queue of callers is full is reported as one that does not answer."""
    path = tmp_path / "cnf.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(UnavailableError, match="does not answer"):
            Client(str(path), timeout=0.05).status()


@pytest.mark.parametrize(
    ("status", "exit_status", "kind"),
    [
        (400, 64, UsageError),
        (503, 69, UnavailableError),
        (500, 71, KernelError),
        (403, 77, PrivilegeError),
        (404, 64, UsageError),
        (503, 78, DaemonConfigError),
        (500, 99, UnavailableError),
    ],
)
def test_refusal(daemon: StandIn, status: int, exit_status: int, kind: type[CnfError]) -> None:
    """What the daemon refuses is raised by its exit status, in the daemon's words."""
    daemon.say("/v1/status", {"error": "the daemon's words", "exit_status": exit_status}, status=status)
    with pytest.raises(kind, match=r"^the daemon's words"):
        Client(str(daemon.socket)).status()


@pytest.mark.parametrize(
    ("group", "mode", "remedy"),
    [
        (("cnf", "x", 990, []), 0o060, "run cnfctl as root or as a member of group cnf"),
        (("cnf", "x", 990, []), 0o040, "run cnfctl as root"),
        (("root", "x", 0, []), 0o060, "run cnfctl as root"),
    ],
)
def test_socket_without_permission(
    monkeypatch: pytest.MonkeyPatch, group: tuple[str, str, int, list[str]], mode: int, remedy: str
) -> None:
    """Who may not open the socket is told as whom he may: root, or a member of the socket's group if that may."""
    monkeypatch.setattr("grp.getgrgid", lambda _: grp.struct_group(group))
    with tempfile.TemporaryDirectory() as directory, ordinary_user(directory):
        path = f"{directory}/cnf.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            Path(path).chmod(mode)
            with pytest.raises(PrivilegeError) as caught:
                Client(path).status()
    assert str(caught.value) == f"{path}: Permission denied ({remedy})"


def test_socket_of_another_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an access control list opens the socket, its groups are named, and not the file's own, which may not."""
    monkeypatch.setattr("grp.getgrgid", lambda gid: grp.struct_group(("noc" if gid == 991 else "cnf", "x", gid, [])))
    with tempfile.TemporaryDirectory() as directory, ordinary_user(directory):
        path = Path(directory) / "cnf.sock"
        with listen_unix(path, None, 991):
            assert path.stat().st_mode & 0o070 == 0o060
            assert groups(str(path)) == ["noc"]


@contextmanager
def ordinary_user(directory: str) -> Iterator[None]:
    """Be the owner of ``directory``, and nobody if this is root, who is refused nothing."""
    uid = os.geteuid()
    if uid == 0:
        os.chown(directory, 65534, -1)
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(uid)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b"<html>"), "Expecting value"),
        (Answer(b"[" * 100_000), "recursion"),
        (Answer(b'"\xff"'), "utf-8"),
        (Answer(b"{}"), "reply has no daemon"),
        (Answer(b"<html>", status=502), "HTTP 502 Bad Gateway"),
        (Answer(b"{}", promised=99), "it broke off before its end"),
    ],
)
def test_foreign_answer(daemon: StandIn, answer: Answer, reason: str) -> None:
    """An answer that is not cnfd's is one line that says what came and what may be the cause."""
    daemon.answer("/v1/status", answer)
    with pytest.raises(UnavailableError, match=f"^no answer of cnfd on {daemon.socket}: .*{reason}.*another version"):
        Client(str(daemon.socket)).status()


def test_torn_stream(daemon: StandIn) -> None:
    """A stream that ends before its end is an error, after the lines that came."""
    daemon.answer("/v1/flows", Answer(b"{}\n", promised=99), output="jsonl")
    lines = Client(str(daemon.socket)).flow_lines({}, "jsonl")
    assert next(lines) == b"{}\n"
    with pytest.raises(UnavailableError, match="broke off before its end"):
        next(lines)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file", "nobody listens on"),
        ("file/below", "does not exist"),
        ("x" * 200, "AF_UNIX path too long"),
    ],
)
def test_no_socket(tmp_path: Path, path: str, reason: str) -> None:
    """A file that is no socket, and a path that can be none, are errors like the others."""
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match=reason):
        Client(str(tmp_path / path)).status()
