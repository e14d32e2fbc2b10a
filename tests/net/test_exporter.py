"""The metrics server: strange names, many scrapes at once, and clients that are slow or silent."""

from __future__ import annotations

import resource
import selectors
import socket
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import METRICS, Daemon
from tests.net.exposition import Exposition
from tests.net.wait import wait_for

SCRAPES: Final = 1000
DRAINS: Final = 10
"""How many drains must pass meanwhile."""
HOLD_UP: Final = 0.1
"""Seconds that scrapes may cost a drain. The median has to keep it: a busy machine can hold up a single one."""
SCRAPE: Final = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
PACKET: Final = frame(IPv4(), UDP(), bytes(100))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        pytest.param('q"x\\y', 'q"x\\y', id="quote and backslash"),
        pytest.param(b"\xff\xfe", "\\xff\\xfe", id="not UTF-8"),
        pytest.param("{a=b},#", "{a=b},#", id="punctuation"),
        pytest.param("\u00fc\u20ac\U0001f41d", "\u00fc\u20ac\U0001f41d", id="UTF-8"),
        pytest.param("a\x07\x1b[31m", "a\x07\x1b[31m", id="control characters"),
    ],
)
def test_a_strange_name_is_a_label_like_others(node: Node, name: str | bytes, shown: str) -> None:
    """An interface whose name has quotes or any bytes is counted under it, in a valid exposition, beside others."""
    strange, plain = node.wire(name), node.wire("n0")
    daemon = node.daemon("*").start()
    daemon.attached(shown, "n0")
    strange.send([PACKET] * 3)
    plain.send([PACKET] * 4)
    daemon.settle(7)

    metrics = daemon.scrape()
    assert metrics.by("interface", "cnf_interface_attached") == {shown: 1, "n0": 1}
    assert metrics.by("interface", "cnf_received_packets_total") == {shown: 3, "n0": 4}
    assert metrics.by("interface", "cnf_flow_packets_total") == {shown: 3, "n0": 4}
    assert set(metrics.by("collector", "cnf_collector_success").values()) == {1}
    assert {flow["interface"]: flow["packets"] for flow in daemon.flows()} == {shown: 3, "n0": 4}
    assert daemon.ctl("status").returncode == 0
    assert daemon.ctl("flows").returncode == 0


def test_the_pages(node: Node) -> None:
    """There are /metrics, /healthz, /readyz and a page that links them; all else is 404, and only GET is answered."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    assert [daemon.http(path).status for path in ("/metrics", "/healthz", "/readyz", "/")] == [200] * 4
    assert all(path in daemon.http("/").body for path in (b"/metrics", b"/healthz", b"/readyz"))
    assert daemon.http("/secrets").status == 404
    with daemon.connect_metrics() as client:
        client.sendall(b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 405 ")


def test_max_series_bounds_a_scrape(node: Node) -> None:
    """With more flows than ``max_series`` a scrape is cut, says by how much, and keeps what is of first importance."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", metrics={"top_flows": 500, "max_series": 100}).start()
    wire.send(frame(IPv4(), UDP(port)) for port in range(1, 301))
    daemon.settle(300)

    metrics = daemon.scrape()

    assert sum(1 for _ in metrics.samples("cnf_flow_packets_total")) < 100
    assert metrics.total("cnf_series_suppressed_total") >= 500
    assert metrics.total("cnf_interface_attached") == 1
    assert metrics.total("cnf_ledger_packets") == 300


def test_a_thousand_scrapes_at_once(node: Node) -> None:
    """Each of 1,000 parallel scrapes gets a whole and valid answer, and drains are not held up by 100 ms."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    wire.send([PACKET] * 5)
    daemon.settle(5)
    drains = len(daemon.events("drained"))

    while len(daemon.events("drained")) < drains + DRAINS:
        answers = _storm(daemon)

        assert len(answers) == SCRAPES
        assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
        for answer in answers[:: SCRAPES // 10]:
            assert Exposition(answer.partition(b"\r\n\r\n")[2]).total("cnf_received_packets_total") == 5
    assert _held_up(daemon, drains) < HOLD_UP


def test_silent_and_slow_clients_hold_up_nobody(node: Node) -> None:
    """Clients that never read, never ask, or send a byte now and then cost nobody else a scrape or a drain."""
    wire = node.wire("n0")
    # An answer beyond what the kernel buffers, so that it cannot be written to those who do not read.
    daemon = node.daemon("n0", metrics={"top_flows": 4000}).start()
    wire.send(frame(IPv4(), UDP(port)) for port in range(1, 3001))
    daemon.settle(3000)
    drains = len(daemon.events("drained"))
    with ExitStack() as stack:
        for _ in range(10):
            deaf = stack.enter_context(_small(node.inside.socket(socket.AF_INET, socket.SOCK_STREAM)))
            deaf.sendall(SCRAPE)
            stack.enter_context(daemon.connect_metrics())
        slow = stack.enter_context(daemon.connect_metrics())
        for byte in SCRAPE[:10]:
            slow.send(bytes([byte]))
            daemon.drain()
            assert daemon.http("/readyz").status == 200
        assert _held_up(daemon, drains) < HOLD_UP
        assert daemon.scrape().total("cnf_received_packets_total") == 3000
        slow.sendall(SCRAPE[10:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200 OK")


def _held_up(daemon: Daemon, since: int) -> float:
    """Return how long after it was due a drain had ended, in seconds: the median of those but the first ``since``."""
    drains = daemon.events("drained")[since:]
    assert len(drains) >= DRAINS
    assert not daemon.events("drain failed")
    return statistics.median(float(drain["late"] + drain["seconds"]) for drain in drains)


def _storm(daemon: Daemon) -> list[bytes]:
    """Connect SCRAPES times before the first answer is read; return all answers."""
    answers: dict[socket.socket, bytes] = {}
    done = []
    with _descriptors(2 * SCRAPES), selectors.DefaultSelector() as selector, ExitStack() as stack:
        for _ in range(SCRAPES):
            client = stack.enter_context(daemon.connect_metrics())
            client.sendall(SCRAPE)
            selector.register(client, selectors.EVENT_READ)
            answers[client] = b""

        def all_answered() -> bool:
            for key, _ in selector.select(1):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                if block := client.recv(1 << 20):
                    answers[client] += block
                else:
                    selector.unregister(client)
                    done.append(answers.pop(client))
            return not answers

        wait_for(all_answered, f"{SCRAPES} answers", 60)
    return done


@contextmanager
def _descriptors(count: int) -> Iterator[None]:
    """Let this process open ``count`` descriptors."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], min(count, limit[1])), limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def _small(client: socket.socket) -> socket.socket:
    """Connect with a receive buffer as small as can be."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    client.connect(METRICS)
    return client
