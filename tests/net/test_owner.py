"""cnfctl flows --owner names who has the socket at the local end of a flow, of whatever kind it is."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import pytest

from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.users import NOBODY
from tests.net.wait import wait_for

NEAR, FAR, ELSEWHERE = "192.0.2.1", "192.0.2.2", "198.51.100.7"
NEAR6, FAR6 = "2001:db8::1", "2001:db8::2"
TCP4, UDP4, UDP_ONE, TCP_DUAL, UDP_DUAL, CLOSED, NOBODYS = 5001, 5002, 5003, 5004, 5005, 5006, 5007
SERVER: Final = """
import socket, sys
def opened(family, kind, address, port):
    it = socket.socket(family, kind)
    it.bind((address, port))
    if kind == socket.SOCK_STREAM:
        it.listen()
    return it
v4, v6, tcp, udp = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
kept = [opened(v4, tcp, "0.0.0.0", 5001), opened(v4, udp, "0.0.0.0", 5002), opened(v4, udp, "192.0.2.1", 5003),
    opened(v6, tcp, "::", 5004), opened(v6, udp, "::", 5005), opened(v4, tcp, "0.0.0.0", 5006)]
print("open", flush=True)
kept += [kept[0].accept()[0], kept[3].accept()[0]]
closing = kept[5].accept()[0]
closing.shutdown(socket.SHUT_WR)  # first: what is left of the connection here is TIME_WAIT
closing.recv(1)
closing.close()
print("accepted", flush=True)
sys.stdin.read()
"""
CLIENT: Final = """
import socket, sys
it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
it.connect(("192.0.2.2", 53))
it.send(b"question")
print(it.getsockname()[1], flush=True)
sys.stdin.read()
"""


def _top() -> Path | None:
    """Return where cgroups of version 2 can be made."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="ascii").splitlines():
        mount, _, kind = line.partition(" - ")
        top = Path(mount.split(" ")[4])
        if kind.startswith("cgroup2 ") and os.access(top, os.W_OK):
            return top
    return None


@contextmanager
def unit(node: Node, slice_: Path, name: str, program: str, *setpriv: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``program`` on the node, in a cgroup that is called as systemd calls a unit's."""
    group = slice_ / name
    group.mkdir()
    python = ("setpriv", *setpriv, "/usr/bin/python3", "-c", program) if setpriv else (sys.executable, "-c", program)
    enter = ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group))
    process = subprocess.Popen(
        (*enter, *node.inside.enter, *python), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.communicate()
        wait_for(lambda: not (group / "cgroup.procs").read_text(encoding="ascii"), "the end of all in the cgroup")
        group.rmdir()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line of a unit's output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[Daemon, int]]:
    """Give a daemon on a node with two units, after traffic with all of their sockets; and a client's port."""
    top = _top()
    if top is None:
        pytest.skip("no cgroup of version 2 can be made here")
    with ExitStack() as stack:
        node = Node(stack)
        wire = node.wire("n0")
        for namespace, name, address, address6 in (
            (node.inside, "n0", NEAR, NEAR6),
            (node.outside, wire.far_name, FAR, FAR6),
        ):
            namespace.ip("address", "add", f"{address}/24", "dev", name)
            with namespace.entered():
                Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("0", encoding="ascii")
            namespace.ip("address", "add", f"{address6}/64", "dev", name, "nodad")
        node.outside.ip("route", "add", "default", "via", NEAR)
        daemon = node.daemon("n0")
        daemon.configure(
            [{"name": "n0", "mode": "tc", "directions": ["ingress", "egress"]}], flows={"ended_timeout": "60s"}
        )
        daemon.start()

        slice_ = Path(mkdtemp(prefix="cnf-t-", suffix=".slice", dir=top))
        stack.callback(slice_.rmdir)
        user = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        server = stack.enter_context(unit(node, slice_, "web.service", SERVER, *user))
        assert said(server) == "open"
        client = stack.enter_context(unit(node, slice_, "resolver.service", CLIENT))
        for port in (TCP4, TCP_DUAL, CLOSED):
            connection = stack.enter_context(node.outside.socket(socket.AF_INET, socket.SOCK_STREAM))
            connection.connect((NEAR, port))
            if port == CLOSED:
                connection.recv(1)
                connection.close()
        assert said(server) == "accepted"
        refused = stack.enter_context(node.outside.socket(socket.AF_INET, socket.SOCK_STREAM))
        assert refused.connect_ex((NEAR, NOBODYS)) != 0
        for family, address, port in (
            (socket.AF_INET, NEAR, UDP4),
            (socket.AF_INET, NEAR, UDP_ONE),
            (socket.AF_INET, NEAR, UDP_DUAL),
            (socket.AF_INET6, NEAR6, UDP_DUAL),
            (socket.AF_INET, NEAR, NOBODYS),
            (socket.AF_INET, ELSEWHERE, UDP4),
        ):
            sender = stack.enter_context(node.outside.socket(family, socket.SOCK_DGRAM))
            sender.sendto(b"x", (address, port))
        port = int(said(client))
        wait_for(lambda: len(_owned(daemon)) >= 11, "all flows")
        yield daemon, port


def _owned(daemon: Daemon, *arguments: str) -> list[dict[str, Any]]:
    return daemon.flows("--owner", "--filter", "inbound and (tcp or udp) or (outbound and udp port 53)", *arguments)


WEB: Final = ("web.service", NOBODY)
NONE: Final = (None, None)


@pytest.mark.parametrize(
    ("protocol", "address", "port", "expected"),
    [
        ("tcp", NEAR, TCP4, WEB),
        ("tcp", NEAR, TCP_DUAL, WEB),
        ("tcp", NEAR, CLOSED, WEB),
        ("tcp", NEAR, NOBODYS, NONE),
        ("udp", NEAR, UDP4, WEB),
        ("udp", NEAR, UDP_ONE, WEB),
        ("udp", NEAR, UDP_DUAL, WEB),
        ("udp", NEAR6, UDP_DUAL, WEB),
        ("udp", NEAR, NOBODYS, NONE),
        ("udp", ELSEWHERE, UDP4, NONE),
    ],
    ids=str,
)
def test_received(
    busy: tuple[Daemon, int], protocol: str, address: str, port: int, expected: tuple[str | None, int | None]
) -> None:
    """The owner of the listener, connection or datagram socket; nobody, where none is open or a packet goes on."""
    flows = [
        (flow["owner"], flow["uid"])
        for flow in _owned(busy[0])
        if (flow["protocol"], flow["dst_addr"], flow["dst_port"]) == (protocol, address, port)
    ]
    assert flows == [expected]


def test_sent(busy: tuple[Daemon, int]) -> None:
    """Of what is sent, the source is the local end."""
    daemon, port = busy
    (flow,) = (flow for flow in _owned(daemon) if flow["direction"] == "egress" and flow["dst_port"] == 53)
    assert (flow["src_port"], flow["owner"], flow["uid"]) == (port, "resolver.service", 0)


def test_formats(busy: tuple[Daemon, int]) -> None:
    """Connections, the table, CSV and JSON lines have it, too."""
    daemon, _ = busy
    chosen = ("--filter", f"tcp and port {TCP4}")
    (pair,) = daemon.flows("--pairs", "--owner", *chosen)
    assert pair["owner"] == "web.service"
    table = daemon.ctl("flows", "--owner", *chosen).stdout.splitlines()
    assert "OWNER" in table[0].split()
    assert "web.service" in table[1].split()
    rows = list(csv.DictReader(daemon.ctl("flows", "--owner", "-o", "csv", *chosen).stdout.splitlines()))
    lines = [json.loads(line) for line in daemon.ctl("flows", "--owner", "-o", "jsonl", *chosen).stdout.splitlines()]
    assert {(row["owner"], row["uid"]) for row in rows} == {("web.service", str(NOBODY))}
    assert {(row["owner"], row["uid"]) for row in lines} == {("web.service", NOBODY)}
    assert "owner" not in daemon.flows(*chosen)[0]


def test_refusals(busy: tuple[Daemon, int]) -> None:
    """Groups have no owner, nor has the past: sockets are those of now."""
    for arguments in (("--by", "src"), ("--at", "03:12")):
        done = busy[0].ctl("flows", "--owner", *arguments)
        assert (done.returncode, done.stdout) == (os.EX_USAGE, "")
        assert "owner: expected flows or connections of now" in done.stderr
