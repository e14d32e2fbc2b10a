"""Names of hosts: in time or not at all, and never able to control a terminal."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable

import pytest

from cnf.cli.flows import names
from cnf.cli.flows.names import LONGEST, Names, in_csv, in_jsonl

NAMES = {"192.0.2.1": "web.example", "2001:db8::1": "six.example"}
ROWS: list[dict[str, object]] = [
    {"src_addr": "192.0.2.1", "dst_addr": "2001:db8::1", "packets": 1},
    {"src_addr": "192.0.2.9", "dst_addr": "192.0.2.1", "packets": 2},
]


Resolver = Callable[[Callable[[str], str]], list[str]]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Return what puts a function in the place of the resolver, and returns the list of its questions."""

    def put(answer: Callable[[str], str]) -> list[str]:
        asked: list[str] = []

        def getnameinfo(address: tuple[str, int], flags: int) -> tuple[str, str]:
            assert flags == socket.NI_NAMEREQD
            asked.append(address[0])
            return answer(address[0]), "0"

        monkeypatch.setattr(socket, "getnameinfo", getnameinfo)
        return asked

    return put


def known(address: str) -> str:
    """Answer as a resolver that knows NAMES."""
    if address not in NAMES:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return NAMES[address]


def test_names_stand_beside_addresses(resolver: Resolver) -> None:
    """Each address is asked for once, also by the next listing; one without a name has null."""
    asked = resolver(known)
    looked = Names()
    expected = [
        {**ROWS[0], "src_name": "web.example", "dst_name": "six.example"},
        {**ROWS[1], "src_name": None, "dst_name": "web.example"},
    ]
    assert list(looked.beside(ROWS)) == expected
    assert list(looked.beside(ROWS)) == expected
    assert sorted(asked) == ["192.0.2.1", "192.0.2.9", "2001:db8::1"]
    assert not looked.late


def test_groups_have_the_names_of_the_addresses_that_they_have(resolver: Resolver) -> None:
    """Flows by source have no destination; flows by port have no name at all."""
    asked = resolver(known)
    assert list(Names().beside([{"src_addr": "192.0.2.1", "flows": 3}])) == [
        {"src_addr": "192.0.2.1", "flows": 3, "src_name": "web.example"}
    ]
    assert list(Names().beside([{"dst_port": 53, "flows": 3}])) == [{"dst_port": 53, "flows": 3}]
    assert list(Names().beside([])) == []
    assert list(Names().beside([{"src_addr": None}])) == [{"src_addr": None, "src_name": None}]  # the rest of the past
    assert asked == ["192.0.2.1"]


def test_a_resolver_that_hangs_holds_nobody_up(resolver: Resolver) -> None:
    """What has not come in time is missing and said to be late; the next listing has it."""
    answer, answered = threading.Event(), threading.Semaphore(0)

    def slow(address: str) -> str:
        if address != "192.0.2.1":
            answer.wait(60)
        answered.release()
        return "late.example" if address != "192.0.2.1" else known(address)

    resolver(slow)
    looked = Names(patience=0.1)
    found = list(looked.beside(ROWS))
    assert [row["src_name"] for row in found] == ["web.example", None]
    assert looked.late == {"2001:db8::1", "192.0.2.9"}
    answer.set()
    for _ in range(3):
        answered.acquire()
    looked._patience = 60  # noqa: SLF001 - the last answers may not be noted yet
    assert [row["src_name"] for row in looked.beside(ROWS)] == ["web.example", "late.example"]


def test_so_many_addresses_are_asked_for(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing of everything does not flood the resolver."""
    asked = resolver(lambda address: f"{address}.example")
    monkeypatch.setattr(names, "MOST", 5)
    monkeypatch.setattr(names, "CHUNK", 3)
    looked = Names(patience=0.5)
    found = list(looked.beside({"src_addr": f"192.0.2.{number}"} for number in range(8)))
    assert [row["src_name"] is None for row in found] == [False] * 5 + [True] * 3
    assert len(asked) == 5
    assert looked.late == {"192.0.2.5", "192.0.2.6", "192.0.2.7"}


@pytest.mark.parametrize("name", ["\x1b[2J\x1b]0;owned\x07", "a\r\nb", "\u202eevil", "x" * 5000, "\udc80"])
def test_a_hostile_name_is_text(resolver: Resolver, name: str) -> None:
    """Who has an address chooses its name: nothing in it controls a terminal, and it has an end."""
    resolver(lambda _: name)
    (row,) = Names().beside([{"src_addr": "192.0.2.1"}])
    shown = str(row["src_name"])
    assert shown.isprintable()
    assert 0 < len(shown) <= LONGEST


def test_a_name_in_no_encoding_is_none(resolver: Resolver) -> None:
    """Bytes that are no text are no name, and end nothing."""

    def broken(_: str) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    resolver(broken)
    assert list(Names().beside([{"src_addr": "192.0.2.1"}])) == [{"src_addr": "192.0.2.1", "src_name": None}]


def test_lines(resolver: Resolver) -> None:
    """JSON lines and CSV have names as further fields, and all else as it was."""
    resolver(known)
    lines = [json.dumps(row).encode() + b"\n" for row in ROWS]
    assert [json.loads(line) for line in in_jsonl(Names(), lines)] == list(Names().beside(ROWS))
    table = [b"src_addr,src_port,interface\n", b'192.0.2.1,53,"a,b\xff"\n', b"192.0.2.9,,eth0\n"]
    assert list(in_csv(Names(), table)) == [
        b"src_addr,src_port,interface,src_name\n",
        b'192.0.2.1,53,"a,b\xff",web.example\n',
        b"192.0.2.9,,eth0,\n",
    ]
    assert list(in_csv(Names(), table[:1])) == [b"src_addr,src_port,interface,src_name\n"]
