"""The metrics server: strange names, many scrapes at once, and clients that are slow or silent."""

from __future__ import annotations

import http.client
import resource
import selectors
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from cnf.flows.top import PROVEN
from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFD, METRICS, Daemon
from tests.net.exposition import Exposition
from tests.net.namespaces import Wire
from tests.net.wait import PATIENCE, wait_for

SCRAPES: Final = 1000
DRAINS: Final = 10
"""How many drains must pass meanwhile."""
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
    page = daemon.http("/").body.decode()
    assert all(f'href="{path}"' in page for path in ("metrics", "healthz", "readyz"))
    assert daemon.http("/secrets").status == 404
    with daemon.connect_metrics() as client:
        client.sendall(b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 405 ")


def test_metrics_by_name(node: Node) -> None:
    """``name[]`` leaves the metrics of those names, samples' or families', and a name of nothing is refused."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    wire.send([PACKET] * 5)
    daemon.settle(5)

    def names(query: str) -> set[str]:
        answer = daemon.http(f"/metrics?{query}")
        assert answer.status == 200
        return {sample.name for family in Exposition(answer.body).families for sample in family.samples}

    assert names("name[]=cnf_build_info") == {"cnf_build_info"}
    assert names("name%5B%5D=cnf_build_info&name[]=cnf_received_packets_total") == {
        "cnf_build_info",
        "cnf_received_packets_total",
    }
    assert names("name[]=cnf_drain_duration_seconds_count") == {"cnf_drain_duration_seconds_count"}
    assert names("name[]=cnf_drain_duration_seconds") >= {
        "cnf_drain_duration_seconds_bucket",
        "cnf_drain_duration_seconds_sum",
    }
    for query in ("name[]=nothing", "name[]=cnf_build_info&name[]=nothing"):
        refused = daemon.http(f"/metrics?{query}")
        assert (refused.status, refused.body) == (400, b"no metric has the name 'nothing'\n")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_page_answers_head(node: Node, method: str) -> None:
    """On one connection, every page is answered by HEAD as by GET, and compressed for who can read that."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    client = http.client.HTTPConnection("localhost")
    client.sock = daemon.connect_metrics()
    with client.sock:
        for path in ("/metrics", "/", "/healthz", "/readyz"):
            client.request(method, path, headers={"Accept-Encoding": "gzip"})
            with client.getresponse() as answer:
                assert answer.status == 200
                body = answer.read()
            assert (answer.headers["Content-Encoding"] == "gzip") == (path == "/metrics")
            assert len(body) == (int(answer.headers["Content-Length"]) if method == "GET" else 0)


def test_a_thousand_idle_clients(node: Node) -> None:
    """With 1,000 clients on each server that never ask, a scrape and ``cnfctl`` get through, and drains go on."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    with _descriptors(3 * SCRAPES), ExitStack() as stack:
        for connect in (daemon.connect_metrics, daemon.connect_control):
            for _ in range(SCRAPES):
                stack.enter_context(connect())
        wire.send([PACKET] * 5)
        daemon.settle(5)
        assert daemon.scrape().total("cnf_received_packets_total") == 5
        assert daemon.ctl("status").returncode == 0
        assert not daemon.events("connection not accepted")


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ("both.test:9995", ["127.0.0.1", "::1"]),
        ("[::]:9995", ["127.0.0.1", "::1"]),
        ("127.0.0.1:9995", ["127.0.0.1"]),
        ("[::1]:9995", ["::1"]),
    ],
)
def test_where_it_listens(node: Node, listen: str, addresses: list[str]) -> None:
    """A name listens on every address that it has, and an address on itself."""
    _ipv6(node, off=False)
    node.wire("n0")
    daemon = _with_hosts(node.daemon("n0", metrics={"listen": listen})).start()
    answered = []
    for address in ("127.0.0.1", "::1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with node.inside.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(PATIENCE)
            if client.connect_ex((address, 9995)) == 0:
                client.sendall(SCRAPE)
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
                answered.append(address)
    assert answered == addresses
    assert daemon.events("not listening on one address") == []


def test_without_ipv6_a_name_is_its_ipv4_address(node: Node) -> None:
    """Where IPv6 is off, a name listens on its IPv4 address, and the log names the one that is left out."""
    _ipv6(node, off=True)
    node.wire("n0")
    daemon = _with_hosts(node.daemon("n0", metrics={"listen": "both.test:9995"})).start()
    assert daemon.http("/healthz").status == 200
    (left_out,) = daemon.events("not listening on one address")
    assert left_out["address"] == "::1"


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("[::1]:9995", "Cannot assign requested address (no interface here has the address, see: ip -6 address; "),
        ("192.0.2.77:9995", "Cannot assign requested address (no interface here has the address, see: ip address)"),
        ("no-such-host.invalid:9995", "(is the name right? getent ahosts no-such-host.invalid)"),
    ],
)
def test_an_address_that_cannot_be_had(node: Node, listen: str, says: str) -> None:
    """The line has the kernel's words and the remedy that fits the address."""
    _ipv6(node, off=True)
    node.wire("n0")
    status, line = node.daemon("n0", metrics={"listen": listen}).refused()
    assert status == 69
    assert says in line


def test_a_port_that_is_taken(node: Node) -> None:
    """A port of another program ends the start with the way to find whose it is."""
    node.wire("n0")
    with node.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(METRICS)
        other.listen()
        status, line = node.daemon("n0").refused()
    assert status == 69
    assert "Address already in use (see who uses the port: ss -ltnp; or change it)" in line


def test_max_series_bounds_a_scrape(node: Node) -> None:
    """With more flows than ``max_series`` a scrape is cut, says by how much, and keeps what is of first importance."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", metrics={"top_flows": 500, "max_series": 100}).start()
    _in_series(wire, daemon, 300)

    metrics = daemon.scrape()

    assert sum(1 for _ in metrics.samples("cnf_flow_packets_total")) < 100
    assert metrics.total("cnf_series_suppressed_total") >= 500
    assert metrics.total("cnf_interface_attached") == 1
    assert metrics.total("cnf_ledger_packets") == 300 * PROVEN


def test_a_thousand_scrapes_at_once(node: Node) -> None:
    """Each of 1,000 parallel scrapes gets a whole and valid answer, and drains go on."""
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
    assert not daemon.events("drain failed")


def test_silent_and_slow_clients_hold_up_nobody(node: Node) -> None:
    """Clients that never read, never ask, or send a byte now and then cost nobody else a scrape or a drain."""
    wire = node.wire("n0")
    # An answer beyond what the kernel buffers, so that it cannot be written to those who do not read.
    daemon = node.daemon("n0", metrics={"top_flows": 4000}).start()
    _in_series(wire, daemon, 3000)
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
        assert daemon.scrape().total("cnf_received_packets_total") == 3000 * PROVEN
        assert len(daemon.events("drained")) > drains
        assert not daemon.events("drain failed")
        slow.sendall(SCRAPE[10:])
        assert slow.recv(100).startswith(b"HTTP/1.1 200 OK")


def _in_series(wire: Wire, daemon: Daemon, flows: int) -> None:
    """Send so many flows, for as many drains as give each a series."""
    for drains in range(1, PROVEN + 1):
        wire.send(frame(IPv4(), UDP(port)) for port in range(1, flows + 1))
        daemon.settle(drains * flows)


def _with_hosts(daemon: Daemon) -> Daemon:
    """Have the daemon know a name of two addresses, as ``localhost`` is on most machines."""
    hosts = daemon.config.with_name("hosts")
    hosts.write_text("127.0.0.1 both.test\n::1 both.test\n", encoding="ascii")
    script = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
    daemon.command = ("unshare", "--mount", "sh", "-c", script, "sh", str(hosts), *CNFD)
    return daemon


def _ipv6(node: Node, *, off: bool) -> None:
    """Switch IPv6 of the node's loopback interface."""
    with node.inside.entered():
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text(str(int(off)), encoding="ascii")


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
