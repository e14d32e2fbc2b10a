"""A server with TLS and passwords keeps what one without has: no client costs others a place, an answer or memory."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from cnf.server.connection import Patience
from cnf.server.http import Bounds
from tests.certificates import Authority
from tests.unit.served import BLOCK, PATIENCE, Server, everything, get, headers, serving, status

TLS: Final = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
HELLO: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who has signed the server's certificate."""
    authority = Authority(tmp_path_factory.mktemp("ca"))
    authority.sign("server", "IP:127.0.0.1")
    return authority


@pytest.fixture
def web_config(authority: Authority) -> Iterator[Path]:
    """Return a web configuration with TLS."""
    path = authority.folder / "web.yml"
    path.write_text(TLS, encoding="ascii")
    yield path
    path.unlink()


def secured(server: Server, context: ssl.SSLContext, **options: int) -> ssl.SSLSocket:
    """Return a connection by TLS."""
    return context.wrap_socket(server.connect(**options), server_hostname="127.0.0.1")


def ask(server: Server, authority: Authority, *requests: bytes) -> bytes:
    """Return all that comes by TLS until the end that TLS has, too."""
    with secured(server, authority.client()) as client:
        client.sendall(b"".join(requests))
        return everything(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_answers_are_those_without_tls(authority: Authority, web_config: Path, version: ssl.TLSVersion) -> None:
    """Small ones, large ones, and those in blocks come whole, on one connection."""
    context = authority.client(maximum_version=version)
    with serving(web_config=web_config) as server, secured(server, context) as client:
        for path, length in (("/", 6), ("/large", 100 * len(BLOCK)), ("/body", 3)):
            body = b"abc" if path == "/body" else b""
            client.sendall(get(path, f"Content-Length: {len(body)}", close=False, method="POST" if body else "GET"))
            client.sendall(body)
            answer = b""
            while len(answer.partition(b"\r\n\r\n")[2]) < length:
                answer += client.recv(1 << 20)
            assert (status(answer), len(answer.partition(b"\r\n\r\n")[2])) == (200, length)
        client.sendall(get("/blocks"))
        assert everything(client).endswith(b"\r\n0\r\n\r\n")


def test_an_answer_that_goes_on(authority: Authority, web_config: Path) -> None:
    """Who follows by TLS gets what comes as it comes."""
    with serving(web_config=web_config) as server, secured(server, authority.client()) as client:
        client.sendall(get("/followed"))
        data = b""
        for line in (b"first\n", b"second\n", b"third\n"):
            while line not in data:
                data += client.recv(1 << 20)
            server.application.tell({b"first\n": b"second\n"}.get(line, b"third\n"))


def test_plain_http_is_told_so(web_config: Path) -> None:
    """A request without TLS gets 400 and a line that says why, and nobody's answer."""
    with serving(web_config=web_config) as server:
        answer = server.ask(get("/"))
        assert status(answer) == 400
        assert answer.endswith(b"Client sent an HTTP request to an HTTPS server.\n")
        assert not server.application.asked
        assert server.access
        assert server.access.refused["plain"] == 1


def test_stalled_handshakes_hold_up_nobody(authority: Authority, web_config: Path) -> None:
    """With every place taken by clients that begin a handshake and no more, the next one is answered."""
    with serving(Bounds(connections=20, grace=0.0), web_config) as server, ExitStack() as stack:
        for begin in (b"", HELLO) * 100:
            stack.enter_context(server.connect()).sendall(begin)
        assert status(ask(server, authority, get("/"))) == 200


def test_a_handshake_has_its_time(web_config: Path) -> None:
    """Who does not end a handshake is cut off; it is counted, and the log says so."""
    bounds = Bounds(patience=Patience(idle=60, silence=0.2))
    with serving(bounds, web_config) as server, server.connect() as slow:
        slow.sendall(HELLO)
        assert slow.recv(1) == b""
        event, context = server.log.lines.get(timeout=PATIENCE)
        assert (event, context["reason"]) == ("tls handshake failed", "not complete within 0.2 s")
        assert server.access
        assert server.access.refused["handshake"] == 1


def test_a_client_that_never_reads_is_cut_off(authority: Authority, web_config: Path) -> None:
    """Of an endless answer by TLS no more than some blocks are made, and who takes none of it has to leave."""
    bounds = Bounds(patience=Patience(idle=60, silence=0.5))
    with serving(bounds, web_config) as server, secured(server, authority.client(), receive_buffer=1) as deaf:
        deaf.sendall(get("/endless"))
        event, context = server.log.lines.get(timeout=PATIENCE)
        assert (event, context["reason"]) == ("client cut off", "it has read nothing for 0.5 s")
        assert server.application.made * len(BLOCK) < 8 << 20


@pytest.mark.parametrize("data", [HELLO + bytes(600), b"\x16" + bytes(600), b"\x15\x03\x01\x00\x02\x02\x46"])
def test_what_is_no_handshake(web_config: Path, data: bytes) -> None:
    """Whatever comes in place of one, the connection ends, and the server goes on."""
    with serving(web_config=web_config) as server:
        for _ in range(3):
            with server.connect() as client, suppress(ConnectionResetError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                everything(client)


def test_a_client_that_breaks_off_by_tls(authority: Authority, web_config: Path) -> None:
    """A client that ends TLS, or the connection, in the middle of anything leaves no place taken."""
    with serving(Bounds(connections=2, grace=60.0), web_config) as server:
        for data in (b"", b"GET / HT", get("/"), get("/endless")):
            for _ in range(5):
                with secured(server, authority.client()) as client:
                    client.sendall(data)
        assert status(ask(server, authority, get("/"))) == 200


def test_passwords_and_headers(authority: Authority, web_config: Path) -> None:
    """Each answer has the headers; without the password it is 401, and the application is not asked."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    secure = "http_server_config: {headers: {X-Frame-Options: deny}}\n"
    web_config.write_text(f"{TLS}{secure}basic_auth_users: {{alice: {hashed}}}\n", encoding="ascii")
    credentials = base64.b64encode(b"alice:secret").decode()
    with serving(web_config=web_config) as server:
        refused = ask(server, authority, get("/"))
        assert (status(refused), headers(refused)["www-authenticate"]) == (401, 'Basic realm="cnfd"')
        assert not server.application.asked
        admitted = ask(server, authority, get("/", f"Authorization: Basic {credentials}"))
        assert admitted.endswith(b"\r\n\r\nsmall\n")
        assert [asked.user for asked in server.application.asked] == ["alice"]
        assert {headers(answer)["x-frame-options"] for answer in (refused, admitted)} == {"deny"}
        one_after_the_other = get("/", close=False), get("/", f"Authorization: Basic {credentials}")
        answers = ask(server, authority, *one_after_the_other)
        assert answers.startswith(b"HTTP/1.1 401 ")
        assert answers.endswith(b"\r\n\r\nsmall\n")


def test_tls_that_is_switched_on(authority: Authority, web_config: Path) -> None:
    """A connection that was there before is refused its next request, until it begins anew, by TLS."""
    web_config.write_text("", encoding="ascii")
    with serving(web_config=web_config) as server, server.connect() as client:
        client.sendall(get("/", close=False))
        assert status(client.recv(1 << 20)) == 200
        web_config.write_text(TLS, encoding="ascii")
        client.sendall(get("/"))
        assert status(everything(client)) == 400
        assert status(ask(server, authority, get("/"))) == 200
