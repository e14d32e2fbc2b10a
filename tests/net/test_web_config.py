"""The web configuration means to cnfd what it means to the node exporter, and a real Prometheus gets in."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.certificates import Authority
from tests.net.conftest import Node
from tests.net.daemon import METRICS
from tests.net.namespaces import Namespace
from tests.net.prometheus import Prometheus
from tests.net.wait import PATIENCE, wait_for

NODE_EXPORTER: Final = str(Path(sys.executable).with_name("prometheus-node-exporter"))
"""Put there by deploy/setup.sh --dev."""
EXPORTER: Final = ("127.0.0.1", 9100)
PASSWORD: Final = b"open sesame"
USERS: Final = f"basic_auth_users: {{alice: {bcrypt.hashpw(PASSWORD, bcrypt.gensalt(4)).decode()}}}\n"
SECURE: Final = "http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff}}\n"
CLIENTS: Final = "client_ca_file: ca.crt, client_auth_type"
SERVER: Final = "cert_file: server.crt, key_file: server.key"
CONFIGURATIONS: Final = {
    "nothing": "",
    "password": USERS + SECURE,
    "TLS": f"tls_server_config: {{{SERVER}}}\n",
    "TLS 1.2": f"tls_server_config: {{{SERVER}, max_version: TLS12}}\n",
    "all": f"tls_server_config: {{{SERVER}, min_version: TLS13}}\n{USERS}{SECURE}",
    "client": f"tls_server_config: {{{SERVER}, {CLIENTS}: RequireAndVerifyClientCert}}\n",
    "if given": f"tls_server_config: {{{SERVER}, {CLIENTS}: VerifyClientCertIfGiven}}\n",
}
Requests = Mapping[str, tuple[ssl.SSLContext | None, bytes]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return who has signed the certificates of a server and of a client; there is a client of another one, too."""
    folder = tmp_path_factory.mktemp("web")
    Authority(folder, "stranger").sign("strange", "DNS:client")
    authority = Authority(folder)
    authority.sign("server", "IP:127.0.0.1")
    authority.sign("client", "DNS:client")
    return authority


def requests(authority: Authority) -> Requests:
    """Return the table of requests: how each comes, and with what credentials."""
    right = b"alice:" + PASSWORD
    plain = authority.client()
    own, strange = (
        (authority.folder / f"{name}.crt", authority.folder / f"{name}.key") for name in ("client", "strange")
    )
    return {
        "no TLS": (None, b""),
        "no TLS, right": (None, right),
        "no TLS, wrong": (None, b"alice:open"),
        "TLS": (plain, b""),
        "TLS, right": (plain, right),
        "TLS, wrong": (plain, b"alice:open"),
        "TLS, empty": (plain, b"alice:"),
        "TLS, unknown": (plain, b"bob:" + PASSWORD),
        "TLS, no colon": (plain, b"alice"),
        "TLS 1.2, right": (authority.client(maximum_version=ssl.TLSVersion.TLSv1_2), right),
        "TLS 1.3, right": (authority.client(minimum_version=ssl.TLSVersion.TLSv1_3), right),
        "client": (authority.client(own), right),
        "client by TLS 1.2": (authority.client(own, maximum_version=ssl.TLSVersion.TLSv1_2), right),
        "stranger": (authority.client(strange), right),
        "stranger by TLS 1.2": (authority.client(strange, maximum_version=ssl.TLSVersion.TLSv1_2), right),
    }


def answer(namespace: Namespace, address: tuple[str, int], context: ssl.SSLContext | None, credentials: bytes) -> str:
    """Return what comes of a request: a status with the headers that matter, or that there is no answer."""
    with namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as plain:
        plain.settimeout(PATIENCE)
        plain.connect(address)
        client = http.client.HTTPConnection("127.0.0.1")
        fields = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"} if credentials else {}
        try:
            client.sock = context.wrap_socket(plain, server_hostname="127.0.0.1") if context else plain
            with client.sock:
                client.request("GET", "/metrics", headers=fields | {"Connection": "close"})
                with client.getresponse() as found:
                    found.read()
                    if found.status == http.HTTPStatus.BAD_REQUEST:
                        return "400"  # Go's comes from below exporter-toolkit, without its headers
                    wanted = found.headers.get("WWW-Authenticate", "").partition(" ")[0]
                    secure = [found.headers.get(name) for name in ("X-Frame-Options", "X-Content-Type-Options")]
                    return f"{found.status} {wanted} {secure}"
        except (ssl.SSLError, ConnectionError, http.client.BadStatusLine):
            return "none"


@contextmanager
def node_exporter(namespace: Namespace, web_config: Path) -> Iterator[None]:
    """Run Debian's node exporter with a web configuration."""
    options = ("--collector.disable-defaults", f"--web.listen-address={EXPORTER[0]}:{EXPORTER[1]}")
    command = (*namespace.enter, NODE_EXPORTER, *options, f"--web.config.file={web_config}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:

        def listens() -> bool:
            with namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                return client.connect_ex(EXPORTER) == 0

        try:
            wait_for(listens, "the node exporter to listen")
            yield
        finally:
            process.terminate()


def replace(path: Path, text: str) -> None:
    """Write a file as a whole."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="ascii")
    os.replace(new, path)  # noqa: PTH105 - as editors do


def test_the_same_answers_as_the_node_exporter(node: Node, authority: Authority) -> None:
    """To each of a table of requests, with each of some configurations, both give the same answer."""
    node.wire("n0")
    path = authority.folder / "web.yml"
    replace(path, "")
    daemon = node.daemon("n0", metrics={"web_config": str(path)}).start()
    table = requests(authority)
    seen = set()
    for name, text in CONFIGURATIONS.items():
        replace(path, text)
        with node_exporter(node.inside, path):
            theirs = {request: answer(node.inside, EXPORTER, *how) for request, how in table.items()}
        ours = {request: answer(node.inside, METRICS, *how) for request, how in table.items()}
        assert ours == theirs, name
        seen |= {*ours.values()}
    assert {each[:3] for each in seen} == {"200", "400", "401", "non"}
    assert daemon.ctl("status").returncode == 0


def test_a_mistake_changes_nothing(node: Node, authority: Authority) -> None:
    """With a mistake in the file the previous passwords hold, and a metric and the log say so; at a start it is 78."""
    node.wire("n0")
    path = authority.folder / "web.yml"
    replace(path, USERS)
    daemon = node.daemon("n0", metrics={"web_config": str(path)}).start()
    right = (None, b"alice:" + PASSWORD)
    replace(path, "basic_auth_users: {alice: secret}\n")
    for _ in range(3):
        assert answer(node.inside, METRICS, None, b"").startswith("401 ")
        assert answer(node.inside, METRICS, *right).startswith("200 ")
    (refused,) = daemon.events("web configuration refused, the previous one holds")
    assert "expected bcrypt's hash of the password" in refused["error"]
    replace(path, "{}")
    metrics = daemon.scrape()
    assert metrics.total("cnf_web_config_errors_total") == 1
    assert metrics.total("cnf_web_config_failing") == 0
    assert metrics.by("reason", "cnf_web_refused_total") == {"password": 3}
    daemon.stop()

    replace(path, "no: such key\n")
    status, line = node.daemon("n0", metrics={"web_config": str(path)}).refused()
    assert status == 78
    assert f"metrics.web_config {path}: no: unknown key" in line


def test_prometheus_gets_in(node: Node, authority: Authority, tmp_path: Path) -> None:
    """A real Prometheus scrapes by TLS, with a password and a certificate, and has what was counted."""
    wire = node.wire("n0")
    path = authority.folder / "web.yml"
    replace(path, CONFIGURATIONS["client"] + USERS)
    daemon = node.daemon("n0", metrics={"web_config": str(path)}).start()
    wire.send([frame(IPv4(), UDP())] * 5)
    daemon.settle(5)
    folder = authority.folder
    options = f"""
    scheme: https
    basic_auth: {{username: alice, password: {PASSWORD.decode()}}}
    tls_config: {{ca_file: {folder}/ca.crt, cert_file: {folder}/client.crt, key_file: {folder}/client.key}}
"""
    with Prometheus(node.inside, tmp_path, f"{METRICS[0]}:{METRICS[1]}", f"{tmp_path}/*.yml.none", options) as server:
        wait_for(lambda: sum(server.query("sum(cnf_received_packets_total)").values()) == 5, "5 packets in Prometheus")
        assert [*server.query("up").values()] == [1]
