"""The control socket: who may use it, and what it answers to clients that are wrong, huge, slow or silent."""

from __future__ import annotations

import grp
import json
import mmap
import resource
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, Answer, Daemon
from tests.net.users import Stage, as_user

BIG = 10 << 20


@pytest.fixture(scope="module")
def served() -> Iterator[Daemon]:
    """Have one daemon for these tests, with one flow; each must leave it as it was."""
    with ExitStack() as stack:
        node = Node(stack)
        wire = node.wire("n0")
        daemon = node.daemon("n0", flows={"idle_timeout": "1h"}).start()
        wire.send([frame(IPv4(), UDP())] * 7)
        daemon.settle(7)
        yield daemon


@pytest.fixture
def daemon(served: Daemon) -> Iterator[Daemon]:
    """Check after each test that the daemon drains, and answers as before."""
    yield served
    served.drain()
    assert [flow["packets"] for flow in served.flows()] == [7]
    assert served.events("control request failed") == []


@pytest.fixture(scope="module")
def group() -> grp.struct_group:
    """Choose a group of this machine that is neither root's nor nobody's."""
    return next(group for group in grp.getgrall() if 0 < group.gr_gid < 1000)


def test_root_is_served(daemon: Daemon) -> None:
    """``cnfctl status`` and ``cnfctl flows`` answer root, in every output."""
    assert daemon.ctl("status").returncode == 0
    assert "192.0.2.1" in daemon.ctl("flows").stdout
    assert json.loads(daemon.ctl("flows", "-o", "jsonl").stdout)["packets"] == 7
    assert len(daemon.ctl("flows", "-o", "csv").stdout.splitlines()) == 2


def test_another_user_is_kept_out_by_the_files_mode(daemon: Daemon, stage: Stage) -> None:
    """``cnfctl`` of a user who is not root ends with status 77 and one line that says so."""
    refused = daemon.ctl("status", command=stage.command("cnf.cli", *as_user()))

    assert (refused.returncode, refused.stdout) == (77, "")
    assert refused.stderr.startswith(f"cnfctl: {daemon.socket}: Permission denied")
    assert refused.stderr.count("\n") == 1


def test_another_user_is_kept_out_by_credentials(daemon: Daemon, stage: Stage) -> None:
    """Where the file's mode lets everybody in, the daemon still answers 403, and logs who asked."""
    daemon.socket.chmod(0o666)
    try:
        refused = daemon.ctl("status", command=stage.command("cnf.cli", *as_user()))
    finally:
        daemon.socket.chmod(0o600)

    assert refused.returncode == 77
    assert "user 65534 may not use this socket (run as root)" in refused.stderr
    assert daemon.events("control request refused")[-1]["uid"] == 65534


def test_the_group_is_served(node: Node, stage: Stage, group: grp.struct_group) -> None:
    """With ``control.group``, its members are served, also by a supplementary group, and nobody else is."""
    node.wire("n0")
    daemon = node.daemon("n0", control={"group": group.gr_name}).start()
    member = daemon.ctl("status", command=stage.command("cnf.cli", *as_user(groups=[group.gr_gid])))
    assert member.returncode == 0, member.stderr

    outsider = daemon.ctl("status", command=stage.command("cnf.cli", *as_user()))
    assert outsider.returncode == 77
    assert group.gr_name in outsider.stderr

    daemon.socket.chmod(0o666)
    outsider = daemon.ctl("status", command=stage.command("cnf.cli", *as_user(groups=[group.gr_gid + 1])))
    assert outsider.returncode == 77
    assert f"may not use this socket (run as root or as a member of group {group.gr_name})" in outsider.stderr


def test_who_may_only_look(node: Node, stage: Stage, group: grp.struct_group) -> None:
    """Members of ``control.read_group`` are shown all, and change nothing; each refusal says who may."""
    node.wire("n0")
    writers = next(other.gr_name for other in grp.getgrall() if 0 < other.gr_gid < 1000 and other != group)
    control = {"group": writers, "read_group": group.gr_name}
    daemon = node.daemon("n0", control=control, limits={"mode": "shadow"}).start()
    reader = stage.command("cnf.cli", *as_user(groups=[group.gr_gid]))
    for command in ("status", "flows", "limits", "limits sources"):
        looked = daemon.ctl(*command.split(), command=reader)
        assert looked.returncode == 0, looked.stderr
    for command in ("limits deny add 192.0.2.7", "limits mode enforce", "reload"):
        refused = daemon.ctl(*command.split(), command=reader)
        assert refused.returncode == 77
        assert f"user 65534 may only look (run as root or as a member of group {writers})" in refused.stderr
    assert daemon.limits()["deny"] == []
    writer = stage.command("cnf.cli", *as_user(groups=[grp.getgrnam(writers).gr_gid]))
    assert daemon.ctl("limits", "deny", "add", "192.0.2.7", command=writer).returncode == 0
    outsider = daemon.ctl("status", command=stage.command("cnf.cli", *as_user()))
    assert outsider.returncode == 77
    assert "Permission denied" in outsider.stderr


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        pytest.param(b"GET /v1/%ff%fe HTTP/1.1", 404, id="path that is not UTF-8 when decoded"),
        pytest.param(b"GET /v1/flows?filter=%ff%fe HTTP/1.1", 400, id="filter that is not UTF-8"),
        pytest.param(b"GET /v1/nothing HTTP/1.1", 404, id="unknown path"),
        pytest.param(b"GET /v1/flows?colour=red HTTP/1.1", 400, id="unknown parameter"),
        pytest.param(b"GET /v1/flows?top=-1 HTTP/1.1", 400, id="negative top"),
        pytest.param(b"GET /v1/flows?top=%d HTTP/1.1" % 10**30, 200, id="top beyond every number"),
        pytest.param(b"GET /v1/flows?sort=beauty HTTP/1.1", 400, id="unknown field"),
        pytest.param(b"GET /v1/flows?pairs=1 HTTP/1.1", 200, id="pairs"),
        pytest.param(b"GET /v1/flows?by=src,port&sort=flows&top=3 HTTP/1.1", 200, id="groups"),
        pytest.param(b"GET /v1/flows?by=colour HTTP/1.1", 400, id="what nobody groups by"),
        pytest.param(b"GET /v1/flows?by=src&pairs=1 HTTP/1.1", 400, id="groups of pairs"),
        pytest.param(b"GET /v1/flows?by=src&sort=last_seen HTTP/1.1", 400, id="groups by a time"),
        pytest.param(b"GET /v1/flows?pairs=yes HTTP/1.1", 400, id="neither pairs nor none"),
        pytest.param(b"GET /v1/flows?filter=src+net HTTP/1.1", 400, id="half a filter"),
        pytest.param(b"GET /v1/flows?format=xml HTTP/1.1", 400, id="unknown format"),
        pytest.param(b"DELETE /v1/flows HTTP/1.1", 405, id="another method"),
        pytest.param(b"GET /v1/flows?top=%b HTTP/1.1" % (b"9" * 5000), 400, id="top of 5,000 digits"),
        pytest.param(b"GET /v1/flows?filter=port+%b HTTP/1.1" % (b"9" * 5000), 400, id="port of 5,000 digits"),
        pytest.param(b"GET /v1/flows?top= HTTP/1.1", 200, id="empty top"),
    ],
)
def test_a_wrong_request_is_answered(daemon: Daemon, request_line: bytes, status: int) -> None:
    """What the daemon does not know gets its status and one JSON object that says why."""
    answer = _ask(daemon, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert answer.status == status
    document = json.loads(answer.body)
    assert status == 200 or {"error", "exit_status"} == document.keys()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\x01\x02\xff\r\n\r\n", id="bytes"),
        pytest.param(b"hello\r\n\r\n", id="a word"),
        pytest.param(b'{"command": "flows"}\r\n\r\n', id="JSON"),
        pytest.param(b"GET\r\n\r\n", id="no path"),
        pytest.param(b"GET /v1/\xff\xfe HTTP/1.1\r\n\r\n", id="request line that is not UTF-8"),
        pytest.param(b"POST /v1/flows HTTP/1.1\r\nContent-Length: -5\r\n\r\n", id="negative length"),
        pytest.param(b"POST /v1/flows HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="bad chunk"),
    ],
)
def test_what_is_not_http_is_answered(daemon: Daemon, data: bytes) -> None:
    """Bytes that are no request are answered with an HTTP error, or at least with an end."""
    answer = _ask(daemon, data)
    assert 400 <= answer.status < 600


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"POST /v1/flows HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % BIG, id="body"),
        pytest.param(b"GET /v1/flows HTTP/1.1\r\nX-Filler: ", id="header"),
        pytest.param(b"GET /v1/flows?filter=", id="request line"),
    ],
)
def test_a_request_of_10_megabytes_is_refused(daemon: Daemon, head: bytes) -> None:
    """A request that large gets a 4xx and is not kept in memory."""
    before = _resident(daemon)

    answer = _ask(daemon, head + bytes(BIG))

    assert 400 <= answer.status < 500
    assert _resident(daemon) - before < BIG // 2


def test_a_filter_of_nested_brackets_is_refused(daemon: Daemon) -> None:
    """A filter made to overflow the parser's stack is an error of its sender."""
    answer = _ask(daemon, b"GET /v1/flows?filter=" + b"(" * 20_000 + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert answer.status == 400


def test_a_client_that_hangs_up_is_forgotten(daemon: Daemon) -> None:
    """Connections closed at once, in the middle of a request, or before the answer, leave no descriptor open."""
    for data in (b"", b"GET /v1/fl", b"GET /v1/flows HTTP/1.1\r\nHost: x\r\n\r\n"):
        for _ in range(20):
            with daemon.connect_control() as client:
                client.sendall(data)
    daemon.attached("n0")


def test_clients_that_never_read_hold_up_nobody(node: Node) -> None:
    """While more clients than the server has threads ask for all flows and read nothing, others are answered."""
    wire = node.wire("n0")
    keeps_all = {"table": "lru_hash", "max_entries": 1 << 18, "idle_timeout": "1h"}  # a cache may let one go by chance
    daemon = node.daemon("n0", flows=keeps_all).start()
    count = 50_000
    wire.send(frame(IPv4(), UDP(1 + number // 250, 1 + number % 250)) for number in range(count))
    daemon.settle(count)
    with ExitStack() as stack:
        for _ in range(6):
            silent = stack.enter_context(daemon.connect_control())
            silent.sendall(b"GET /v1/flows?format=jsonl HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(3):
            daemon.drain()
            assert daemon.status()["flow_table"]["ipv4"]["entries"] == count
            assert [flow["packets"] for flow in daemon.flows("--top", "1")] == [1]
        whole = daemon.ctl("flows", "-o", "jsonl")
        assert whole.stdout.count("\n") == count


def test_four_listings_at_once(node: Node) -> None:
    """Four clients that list all flows get all of them; drains and ``cnfctl status`` go on meanwhile."""
    wire = node.wire("n0")
    keeps_all = {"table": "lru_hash", "max_entries": 1 << 16, "idle_timeout": "1h"}
    daemon = node.daemon("n0", flows=keeps_all).start()
    count = 30_000
    wire.send(frame(IPv4(), UDP(1 + number // 250, 1 + number % 250)) for number in range(count))
    daemon.settle(count)
    listings = [
        subprocess.Popen([*CNFCTL, "--socket", str(daemon.socket), "flows", "-o", "jsonl"], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    with ThreadPoolExecutor(4) as readers:
        answers = [readers.submit(each.communicate) for each in listings]
        for _ in range(3):
            daemon.drain()
            assert daemon.ctl("status").returncode == 0
        assert [answer.result()[0].count(b"\n") for answer in answers] == [count] * 4
    assert [each.returncode for each in listings] == [0] * 4


def test_without_descriptors_the_daemon_goes_on(node: Node) -> None:
    """With no descriptor left, what fails has a line each, and is made up for as soon as there are some."""
    wire = node.wire("n0")
    daemon = node.daemon("n*").start()
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path(f"/proc/{daemon.pid}/fd").iterdir())
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    node.wire("n1")
    failed = daemon.wait_for_event("looking at the interfaces failed")
    assert "Too many open files" in failed["error"]
    wire.send([frame(IPv4(), UDP())] * 7)  # a table without any flow yet is not mapped
    assert "Too many open files" in daemon.wait_for_event("drain failed")["error"]
    with daemon.connect_control() as client:
        client.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        daemon.wait_for_event("connection not accepted")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
    daemon.attached("n0", "n1")
    assert daemon.settle(7)["ledger"]["packets"]["difference"] == 0
    assert daemon.scrape().total("cnf_drain_errors_total") >= 1
    daemon.stop()
    assert [line for line in daemon.log_lines() if not line.startswith("{")] == []


def _ask(daemon: Daemon, data: bytes) -> Answer:
    """Send ``data`` as far as it is taken, and return the answer; one that never comes fails the test."""
    with daemon.connect_control() as client:
        with suppress(BrokenPipeError, ConnectionResetError):  # it was refused before its end
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):  # not all was taken
            while block := client.recv(1 << 16):
                answer += block
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head, "hung up without an answer"
    return Answer(int(head.split()[1]), body)


def _resident(daemon: Daemon) -> int:
    """Return the memory of the daemon in bytes."""
    return int(Path(f"/proc/{daemon.pid}/statm").read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE
