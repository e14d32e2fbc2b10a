"""The page of a node: what it shows is what was counted, and addresses only to who is on the node."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Final

import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon

ATTACKER: Final = "192.0.2.66"
LARGEST: Final = "192.0.2.1"
ADDRESSES: Final = ("Largest sources", "Largest destinations", "Held back")


class Tables(HTMLParser):
    """The tables of a page, by the heading above them: rows of cells."""

    def __init__(self, page: str) -> None:
        """Read ``page``."""
        super().__init__()
        self.by_title: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._within = self._title = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element."""
        self._within = tag if tag in ("h2", "th", "td") else self._within
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "tr":
            self.by_title.setdefault(self._title, []).append([])
        elif tag in ("th", "td"):
            self.by_title[self._title][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """End an element."""
        if tag in ("h2", "th", "td"):
            self._within = ""

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._within == "h2":
            self._title = data
        elif self._within in ("th", "td"):
            self.by_title[self._title][-1][-1] += data

    def row(self, title: str, name: str) -> list[str]:
        """Return the cells beside ``name``."""
        (row,) = (cells[1:] for cells in self.by_title[title] if cells[:1] == [name])
        return row


def ask(daemon: Daemon, path: str = "/", **headers: str) -> tuple[Mapping[str, str], str]:
    """Return the headers and the text of an answer."""
    client = http.client.HTTPConnection("localhost")
    client.sock = daemon.connect_metrics()
    with client.sock:
        client.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        with client.getresponse() as answer:
            assert answer.status == 200, daemon.log_lines()[-3:]
            return dict(answer.headers), answer.read().decode()


@pytest.fixture
def daemon(node: Node) -> Daemon:
    """Return a daemon that has received 30 packets from LARGEST and dropped 7 from ATTACKER."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits={"mode": "enforce", "deny": [ATTACKER]}).start()
    wire.send([frame(IPv4(LARGEST, "198.51.100.9"), UDP(), pad_to=1000)] * 30)
    wire.send([frame(IPv4(ATTACKER, "198.51.100.9"), UDP(), pad_to=100)] * 7)
    daemon.settle(37)
    return daemon


def test_what_the_page_shows(daemon: Daemon) -> None:
    """Who sends, who is held back, the ledger and the interfaces, with exact counts; nothing that needs a script."""
    headers, page = ask(daemon)
    tables = Tables(page)
    assert tables.row("Largest sources", LARGEST)[0] == "1"
    assert tables.row("Largest sources", LARGEST)[3:] == ["30.0 kB", "0"]
    assert tables.row("Largest destinations", "198.51.100.9")[3] == "30.0 kB"
    assert tables.row("Held back", ATTACKER)[4:] == ["7", "0"]
    ledger = "Ledger: where every packet is"
    assert tables.row(ledger, "seen") == ["37", "30,700", "0", "0"]
    assert tables.row(ledger, "dropped") == ["7", "700", "0", "0"]
    assert tables.row(ledger, "passed during the drain") == ["0"] * 4
    assert tables.row("Interfaces", "n0") == ["attached", "native", "37", "30,700", "0", "0"]
    assert headers["Content-Security-Policy"].startswith("default-src 'self'")
    assert not tables.tags & {"script", "style", "iframe", "object", "form"}
    assert not tables.attributes & {"style", "onclick", "onload"}
    (style,) = re.findall('<link rel="stylesheet" href="(.*?)">', page)
    assert ask(daemon, f"/{style}")[0]["Content-Type"] == "text/css; charset=utf-8"


def test_a_page_that_stays(daemon: Daemon) -> None:
    """A page asks anew unless its reader wants it to stay, and each has a link to the other."""
    pages = {path: ask(daemon, path)[1] for path in ("/", "/?still")}
    assert ['http-equiv="refresh"' in page for page in pages.values()] == [True, False]
    assert ['href="?still"' in page for page in pages.values()] == [True, False]


def test_a_name_that_is_bound_anew(daemon: Daemon) -> None:
    """A browser on the node that a page of somebody else's has ask, by a name that means 127.0.0.1, gets no address."""
    _, page = ask(daemon, Host="evil.example:9995")
    assert not Tables(page).by_title.keys() & {*ADDRESSES}
    assert LARGEST not in page


@pytest.mark.parametrize("header", ["Forwarded", "X_Forwarded_For", "Via"])
def test_no_addresses_through_a_proxy(daemon: Daemon, header: str) -> None:
    """Who asks through a proxy on the node may be anybody: no address is shown, the sums are."""
    _, page = ask(daemon, **{header: "203.0.113.5"})
    tables = Tables(page)
    assert not tables.by_title.keys() & {*ADDRESSES}
    assert LARGEST not in page
    assert ATTACKER not in page
    assert tables.row("Interfaces", "n0")[2] == "37"


def test_no_addresses_for_others(node: Node) -> None:
    """Who asks from another node gets no address."""
    wire = node.wire("n0")
    node.inside.ip("address", "add", "10.9.0.1/24", "dev", "n0")
    node.outside.ip("address", "add", "10.9.0.2/24", "dev", wire.far_name)
    daemon = node.daemon("n0", metrics={"listen": "10.9.0.1:9100"}).start()
    wire.send([frame(IPv4(LARGEST, "198.51.100.9"), UDP())] * 3)
    daemon.settle(3)
    with node.outside.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.connect(("10.9.0.1", 9100))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        page = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()
    assert page.startswith("HTTP/1.1 200 ")
    assert "Addresses are shown by a password (metrics.web_config), and on the node itself" in page
    assert "ssh -L 9100:127.0.0.1:9100 NODE" in page
    assert LARGEST not in page


def test_the_last_day_comes_from_the_history(node: Node) -> None:
    """A daemon that starts anew shows what its history has."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    wire.send([frame(IPv4(LARGEST), UDP(), pad_to=1000)] * 3000)
    daemon.settle(3000)
    daemon.stop()
    daemon.start()
    _, page = ask(daemon)
    hours = Tables(page).by_title["The last 24 hours"][1:]
    known = [cells for cells in hours if cells[1] != "-"]
    assert len(known) in (1, 2)
    assert all(cells[1] not in ("0", "-") for cells in known)
