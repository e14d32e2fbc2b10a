"""The server keeps the manners of RFC 9110 and 9112, and no client costs others a place or the node its memory."""

from __future__ import annotations

import random
import resource
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import pytest

from cnf.server.connection import BODY_BYTES, HEAD_BYTES, Patience
from cnf.server.http import RETRY, Bounds
from tests.unit.served import BLOCK, PATIENCE, everything, get, headers, serving, status

DESCRIPTORS: Final = Path("/proc/self/fd")

# --- Manners ---


def test_an_answer_says_what_it_is() -> None:
    """Status, date, type and length are there, and the body has that length."""
    with serving() as server:
        answer = server.ask(get("/"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    found = headers(answer)
    assert found["content-type"] == "text/plain; charset=utf-8"
    assert found["content-length"] == "6"
    assert parsedate_to_datetime(found["date"]).tzname() == "UTC"
    assert answer.endswith(b"\r\n\r\nsmall\n")


@pytest.mark.parametrize("path", ["/", "/large", "/blocks", "/nothing", "/defect"])
def test_head_is_get_without_a_body(path: str) -> None:
    """HEAD has the status and headers of GET and not a byte more: the next answer on the connection is understood."""
    with serving() as server:
        got = server.ask(get(path))
        head = server.ask(get(path, method="HEAD", close=False) + get("/"))
    first, _, second = head.partition(b"\r\n\r\n")
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.endswith(b"\r\n\r\nsmall\n")
    changing = {"date": "", "connection": ""}
    assert headers(first + b"\r\n\r\n") | changing == headers(got) | changing
    assert status(first) == status(got)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "OPTIONS", "PATCH", "TRACE", "BREW", "get"])
def test_another_method_is_told_which_there_are(method: str) -> None:
    """A method that is not answered at a path is 405, with the field Allow."""
    with serving() as server:
        plain, both = (server.ask(get(path, method=method)) for path in ("/", "/body"))
    assert (status(plain), headers(plain)["allow"]) == (405, "GET, HEAD")
    assert (status(both), headers(both)["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/body?a=b&c", "/body", "a=b&c"),
        ("/%62ody", "/body", ""),
        ("http://host:9995/body?a=b", "/body", "a=b"),
        ("HTTPS://host/body", "/body", ""),
    ],
)
def test_a_target_is_a_path_and_a_query(target: str, path: str, query: str) -> None:
    """Escapes in the path are read, and a whole URL is its path."""
    with serving() as server:
        assert status(server.ask(get(target))) == 200
        (asked,) = server.application.asked
    assert (asked.path, asked.query) == (path, query)


@pytest.mark.parametrize("target", ["*", "host:443", "/%ff", "/nothing", "http://host", "//body", "/body/"])
def test_what_is_not_there_is_not_found(target: str) -> None:
    """A path that nobody answers is 404 or, as that of a whole URL, the root; nothing breaks."""
    with serving() as server:
        assert status(server.ask(get(target))) == (200 if target == "http://host" else 404)


def test_http_1_0_gets_a_plain_answer_and_an_end() -> None:
    """A client of HTTP/1.0 gets no chunks, and the end of the connection."""
    with serving() as server, server.connect() as client:
        client.sendall(b"GET /blocks HTTP/1.0\r\n\r\n")
        answer = everything(client)
    assert status(answer) == 200
    assert "transfer-encoding" not in headers(answer)
    assert answer.partition(b"\r\n\r\n")[2] == b"x" * (100 * (64 << 10))


def test_a_connection_is_kept() -> None:
    """One connection serves one request after the other, until the client says that it was the last."""
    with serving() as server, server.connect() as client:
        for _ in range(3):
            client.sendall(get("/", close=False))
            answer = b""
            while not answer.endswith(b"small\n"):
                answer += client.recv(1000)
        client.sendall(get("/"))
        assert everything(client).endswith(b"small\n")


def test_who_was_accepted_is_answered_at_the_end() -> None:
    """A server that ends still answers a client that it has accepted, whose request is not complete yet."""
    with ExitStack() as stack:
        with serving() as server:
            client = stack.enter_context(server.connect())
            client.sendall(b"GET / HTTP/1.1\r\n")
            server.ask(get("/"))  # so that the first one has been accepted, too
            threading.Timer(0.2, client.sendall, (b"Host: x\r\n\r\n",)).start()
        assert everything(client).endswith(b"small\n")


def test_pipelined_requests_are_answered_in_order() -> None:
    """Requests sent at once get their answers one after the other."""
    with serving() as server:
        answers = server.ask(get("/body", "Content-Length: 1", method="POST", close=False) + b"1" + get("/"))
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.index(b"\r\n\r\n1HTTP/1.1") < answers.index(b"small")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Content-Length: 5\r\n\r\nhello", id="length"),
        pytest.param(
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: t\r\n\r\n", id="chunks"
        ),
    ],
)
def test_a_request_may_have_a_body(body: bytes) -> None:
    """A body comes with a length or in chunks."""
    with serving() as server:
        answer = server.ask(b"POST /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + body)
    assert answer.endswith(b"\r\n\r\nhello")


def test_who_expects_100_gets_it() -> None:
    """A client that waits for 100 Continue gets it, then sends its body, and gets its answer."""
    with serving() as server, server.connect() as client:
        client.sendall(get("/body", "Content-Length: 5", "Expect: 100-continue", method="POST"))
        assert client.recv(1000) == b"HTTP/1.1 100 \r\n\r\n"
        client.sendall(b"hello")
        assert everything(client).endswith(b"hello")


def test_who_expects_100_for_too_much_is_refused_at_once() -> None:
    """A body that is announced as too large is never asked for."""
    with serving() as server, server.connect() as client:
        client.sendall(get("/body", f"Content-Length: {BODY_BYTES + 1}", "Expect: 100-continue", method="POST"))
        client.shutdown(socket.SHUT_WR)
        assert status(everything(client)) == 413


LONG = b"x" * (2 * HEAD_BYTES)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"\x00\x01\x02\xff\r\n\r\n", 400, id="bytes"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(b"hello\r\n\r\n", 400, id="a word"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, id="HTTP/2"),
        pytest.param(b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="path in other bytes"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX y: z\r\n\r\n", 400, id="space in a name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 200, id="folded header"),
        pytest.param(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400, id="negative length"),
        pytest.param(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\nab", 400, id="two lengths"),
        pytest.param(
            b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, id="digits"
        ),
        pytest.param(
            b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, id="bad chunk"
        ),
        pytest.param(b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, id="unknown coding"),
        pytest.param(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", 400, id="half a body"),
        pytest.param(b"GET / HTTP/1.1\r\nHo", 400, id="half a head"),
        pytest.param(b"GET /" + LONG + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, id="long request line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + LONG + b"\r\n\r\n", 431, id="long header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * (HEAD_BYTES // 4), 431, id="many headers"),
        pytest.param(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + 99 * LONG, 413, id="body"),
        pytest.param(
            b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + 9 * (b"20000\r\n" + LONG + b"\r\n"),
            413,
            id="chunked body",
        ),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, expected: int) -> None:
    """Whatever is wrong, its sender can read the status, and the connection ends."""
    with serving() as server:
        answer = server.ask(data)
    assert status(answer) == expected
    assert expected == 200 or headers(answer)["connection"] == "close"
    assert b"bytearray" not in answer
    assert len(answer) < 600


def test_any_bytes_are_survived() -> None:
    """Requests with bytes changed, left out or doubled get an answer or an end; whole ones are answered as before."""
    draw = random.Random(20)  # noqa: S311 - the same bytes each time
    whole = get("/body?top=5", "Accept: text/plain", "Content-Length: 5", method="POST") + b"hello"
    with serving() as server:
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(draw.randrange(1, 8)):
                place = draw.randrange(len(data))
                data[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(4))
            answer = server.ask(bytes(data))
            assert answer == b"" or answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
        assert server.ask(whole).endswith(b"\r\n\r\nhello")


def test_a_defect_is_answered_and_logged() -> None:
    """An application that fails is a line in the log and status 500, and the connection goes on."""
    with serving() as server:
        answers = server.ask(get("/defect", close=False) + get("/"))
        assert status(answers) == 500
        assert b"by zero" in answers
        assert answers.endswith(b"small\n")
        event, context = server.log.lines.get(timeout=PATIENCE)
    assert (event, context["path"]) == ("request failed", "/defect")


# --- Places ---


def test_a_thousand_idle_clients_cost_nobody_a_place() -> None:
    """With 1,000 clients that never ask, one that does is answered, and it is the oldest that had to leave."""
    with descriptors(3000), serving(Bounds(connections=50, grace=0.0)) as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(1000)]
        assert server.ask(get("/")).endswith(b"small\n")
        assert idle[0].recv(1) == b""
        assert open_ends(idle[-40:]) == 40
        assert open_ends(idle) <= 50


def test_idle_clients_stay_while_there_are_places() -> None:
    """Nobody has to leave for others as long as there is room."""
    with serving(Bounds(connections=50, grace=0.0)) as server, ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(40)]
        for _ in range(100):
            assert server.ask(get("/")).endswith(b"small\n")
        assert open_ends(idle) == 40


def test_who_waits_for_us_stays() -> None:
    """A client whose answer is still being made does not lose its place, however long that takes."""
    with (
        serving(Bounds(connections=2, grace=0.0, threads=2)) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        for client in (first, second):
            client.sendall(get("/held"))
        for _ in range(2):
            assert server.application.holding.acquire(timeout=PATIENCE)
        with server.connect() as third:
            third.sendall(get("/"))
            assert open_ends([first, second]) == 2
            server.application.hold.set()
            for client in (first, second):
                assert everything(client, may_be_reset=True).endswith(b"held\n")
            assert everything(third).endswith(b"small\n")


def test_a_slow_request_is_cut_off() -> None:
    """Who has begun a request and does not end it is told so and cut off, though each byte comes in time."""
    with serving(Bounds(patience=Patience(idle=60, silence=0.3))) as server, server.connect() as slow:
        slow.settimeout(0.05)
        data = iter(b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000)
        answer = b""
        while not answer:
            slow.sendall(bytes([next(data)]))
            try:
                answer = slow.recv(1000)
            except TimeoutError:
                continue
        assert status(answer) == 408
        slow.settimeout(PATIENCE)
        everything(slow)


def test_an_idle_client_is_let_go() -> None:
    """Who asks nothing for long enough finds the connection ended, without an answer."""
    with serving(Bounds(patience=Patience(idle=0.1, silence=60))) as server, server.connect() as idle:
        assert idle.recv(1) == b""


@pytest.mark.parametrize("path", ["/large", "/endless"])
def test_a_client_that_never_reads_is_cut_off(path: str) -> None:
    """Who takes nothing of an answer for long enough is cut off, and the log says so."""
    with serving(Bounds(patience=Patience(idle=60, silence=0.2))) as server, server.connect(receive_buffer=1) as deaf:
        deaf.sendall(get(path))
        event, context = server.log.lines.get(timeout=PATIENCE)
        assert (event, context["reason"]) == ("client cut off", "it has read nothing for 0.2 s")
        with suppress(ConnectionResetError):
            everything(deaf)


def test_an_answer_is_made_no_faster_than_it_is_taken() -> None:
    """Of an endless answer that nobody reads, a few blocks are made, and no more."""
    with serving() as server, server.connect(receive_buffer=1) as deaf:
        deaf.sendall(get("/endless"))
        made = 0
        while made < server.application.made or not made:
            made = server.application.made
            assert status(server.ask(get("/"))) == 200
            threading.Event().wait(0.2)
        assert made * (64 << 10) < 8 << 20


def test_pipelined_requests_that_nobody_reads_cost_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of requests whose answers are never read are left in the kernel, and nothing is written to disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))  # whoever wants a temporary file fails
    with serving() as server, server.connect(receive_buffer=1) as deaf:
        deaf.settimeout(0)
        request, left = 20 * get("/large", close=False), 64 << 20
        with suppress(BlockingIOError):
            while left > 0:
                left -= deaf.send(request)
        assert left > 0
        assert len(server.application.asked) <= 1
        assert server.ask(get("/large")).endswith(b"x" * 100)


def test_large_answers_wait_for_their_turn() -> None:
    """No more large answers are under way than there are places; small ones are answered meanwhile."""
    with (
        serving(Bounds(large=1, stall=60.0)) as server,
        server.connect(receive_buffer=1) as first,
        server.connect() as second,
    ):
        first.sendall(get("/large"))
        while not server.application.asked:
            assert status(server.ask(get("/"))) == 200
        second.sendall(get("/blocks"))
        for _ in range(20):
            assert status(server.ask(get("/"))) == 200
        assert [asked.path for asked in server.application.asked if asked.path != "/"] == ["/large"]
        everything(first)
        assert status(everything(second)) == 200


def test_a_large_answer_that_nobody_takes_makes_room() -> None:
    """With its places taken by clients that do not read, the one that has taken nothing for longest has to leave."""
    with serving(Bounds(large=2, stall=0.05)) as server, ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(server.connect(receive_buffer=1)).sendall(get("/endless"))
        assert status(server.ask(get("/large"))) == 200


def test_who_waits_too_long_for_a_large_answer_is_told() -> None:
    """When no place comes free in time, the answer is 503, with the time to try again."""
    with serving(Bounds(large=1, stall=60.0, queue=0.1)) as server, server.connect(receive_buffer=1) as first:
        first.sendall(get("/endless"))
        while not server.application.asked:
            assert status(server.ask(get("/"))) == 200
        refused = server.ask(get("/large"))
        assert (status(refused), headers(refused)["retry-after"]) == (503, "5")


def test_clients_that_hang_up_are_forgotten() -> None:
    """Connections that end at once, in a request, before or in an answer leave no descriptor and no place behind."""
    with serving(Bounds(connections=5, grace=60.0)) as server:
        assert status(server.ask(get("/"))) == 200
        before = len([*DESCRIPTORS.iterdir()])
        for data in (b"", b"GET / HT", get("/"), get("/large"), get("/endless")):
            for _ in range(10):
                with server.connect() as client:
                    client.sendall(data)
        assert status(server.ask(get("/blocks"))) == 200
        while len([*DESCRIPTORS.iterdir()]) > before:
            assert status(server.ask(get("/"))) == 200


def test_without_descriptors_the_oldest_idle_client_goes() -> None:
    """When no descriptor is left, the client that has been idle for longest gives its own up for the next one."""
    with serving(Bounds(grace=0.0)) as server, server.connect() as idle, socket.socket() as next_one:
        next_one.settimeout(PATIENCE)
        assert status(server.ask(get("/"))) == 200  # so the idle one has been accepted
        with no_more_descriptors():
            next_one.connect(server.address)
            next_one.sendall(get("/"))
            assert status(everything(next_one)) == 200
            assert idle.recv(1) == b""
        assert server.log.lines.get(timeout=PATIENCE)[0] == "connection not accepted"


def test_without_descriptors_it_is_tried_again_without_haste() -> None:
    """While no descriptor is to be had, accepting is tried again now and then, at next to no CPU time."""
    with serving() as server, socket.socket() as client:
        client.settimeout(PATIENCE)
        with no_more_descriptors():
            before = time.process_time()
            client.connect(server.address)
            client.sendall(get("/"))
            for _ in range(4):
                event, context = server.log.lines.get(timeout=PATIENCE)
                assert (event, context["error"]) == ("connection not accepted", "Too many open files")
            assert time.process_time() - before < RETRY
        assert status(everything(client)) == 200


def test_the_end_hangs_up_on_everybody() -> None:
    """A server that ends waits for no client: idle, slow, deaf or in the queue."""
    with ExitStack() as stack:
        with serving(Bounds(large=1)) as server:
            clients = [stack.enter_context(server.connect(receive_buffer=1)) for _ in range(4)]
            for client, data in zip(clients, (b"", b"GET", get("/endless"), get("/large")), strict=True):
                client.sendall(data)
            while server.application.made < 3:
                assert status(server.ask(get("/"))) == 200
        for client in clients:
            while client.recv(1 << 20):
                pass


# --- Answers that go on ---


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Return all that comes until ``end`` has come."""
    data = b""
    while end not in data:
        block = client.recv(1 << 20)
        assert block
        data += block
    return data


def test_an_answer_goes_on_as_there_is_more() -> None:
    """What there is comes at once, in chunks, and what comes later comes by itself, whoever follows."""
    with serving() as server, server.connect() as first, server.connect() as second:
        for client in (first, second):
            client.sendall(get("/followed", close=False))
            begin = read_until(client, b"first\n\r\n")
            assert (status(begin), headers(begin)["connection"]) == (200, "close")
        for line in (b"second\n", b"third\n"):
            server.application.tell(line)
            for client in (first, second):
                assert read_until(client, line) == b"%x\r\n%b\r\n" % (len(line), line)


def test_who_follows_takes_no_thread() -> None:
    """With more followers than threads, whoever asks for something else is answered."""
    with serving(Bounds(threads=2)) as server, ExitStack() as stack:
        followers = [stack.enter_context(server.connect()) for _ in range(16)]
        for follower in followers:
            follower.sendall(get("/followed"))
            read_until(follower, b"first\n")
        assert status(server.ask(get("/blocks"))) == 200
        server.application.tell(b"second\n")
        for follower in followers:
            read_until(follower, b"second\n")


def test_followers_are_few() -> None:
    """Those that there is no place for are told so, and the next one finds the place of one that has left."""
    with serving(Bounds(followers=2)) as server, server.connect() as first:
        with server.connect() as second:
            for client in (first, second):
                client.sendall(get("/followed"))
                read_until(client, b"first\n")
            for _ in range(20):
                refused = server.ask(get("/followed"))
                assert (status(refused), headers(refused)["retry-after"]) == (503, "5")
            assert refused.endswith(b"2 clients follow already (end one of them, and try again)\n")
        for _ in range(PATIENCE * 100):
            with server.connect() as third:
                third.sendall(get("/followed"))
                if status(third.recv(1 << 20)) == 200:
                    break
            time.sleep(0.01)
        else:
            pytest.fail("the place of the one that has left is not free")
        server.application.tell(b"second\n")
        read_until(first, b"second\n")


def test_a_follower_that_does_not_read_is_cut_off() -> None:
    """Of what is told no more is made than it takes, and after a while it has to leave."""
    told = [BLOCK] * 1000
    with serving(Bounds(patience=Patience(idle=60, silence=0.3))) as server, server.connect(receive_buffer=1) as deaf:
        deaf.sendall(get("/followed"))
        server.application.tell(*told)
        event, context = server.log.lines.get(timeout=PATIENCE)
        assert (event, context["reason"]) == ("client cut off", "it has read nothing for 0.3 s")
        with suppress(ConnectionResetError):
            assert len(everything(deaf)) < 8 << 20


def test_head_of_an_answer_that_goes_on_ends() -> None:
    """HEAD has the headers, and no follower's place for longer than that."""
    with serving(Bounds(followers=1)) as server:
        for _ in range(3):
            assert server.ask(get("/followed", method="HEAD")).endswith(b"\r\n\r\n")


def test_the_end_leaves_followers_what_there_is() -> None:
    """A server that ends sends what was told until then, and a good end."""
    told = b"x" * 1000 + b"\n"
    with ExitStack() as stack:
        with serving() as server:
            clients = [stack.enter_context(server.connect()) for _ in range(3)]
            for client in clients:
                client.sendall(get("/followed"))
                read_until(client, b"first\n")
            for _ in range(100):
                server.application.tell(told)
        for client in clients:
            answer = everything(client)
            assert answer.count(told) == 100
            assert answer.endswith(b"\r\n0\r\n\r\n")


def test_the_end_does_not_wait_long_for_followers() -> None:
    """One that does not read holds up the end for as long as is said, and no longer."""
    with ExitStack() as stack:
        with serving(Bounds(farewell=0.2)) as server:
            deaf = stack.enter_context(server.connect(receive_buffer=1))
            deaf.sendall(get("/followed"))
            server.application.tell(*[BLOCK] * 1000)
            assert status(server.ask(get("/"))) == 200
            before = time.monotonic()
        assert time.monotonic() - before < 5


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let this process open ``count`` descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Let this process open no more descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as holes:
        lowest = holes.enter_context(Path("/dev/null").open("rb"))
        highest = max(int(path.name) for path in DESCRIPTORS.iterdir())
        while lowest.fileno() < highest:
            lowest = holes.enter_context(Path("/dev/null").open("rb"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + 1, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def open_ends(clients: list[socket.socket]) -> int:
    """Return how many connections the server has not ended."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ)
        ended = [key for key, _ in selector.select(0.2)]
    return len(clients) - len(ended)
