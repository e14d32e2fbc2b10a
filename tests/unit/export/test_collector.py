"""A socket to a collector: found by name, and told of what hosts refuse."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from cnf.export.collector import Collector, SendError

Answer = list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Return a socket that takes what is sent to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(5)
        yield listening


def port_of(listener: socket.socket) -> int:
    """Return the port that it listens on."""
    port: int = listener.getsockname()[1]
    return port


def test_a_message_arrives_and_its_path_is_known(listener: socket.socket) -> None:
    """From the address that the route gives, to the configured port."""
    collector = Collector(f"127.0.0.1:{port_of(listener)}")
    collector.connect()
    collector.send(b"message")

    assert listener.recv(100) == b"message"
    assert collector.path == (ip_address("127.0.0.1"), ip_address("127.0.0.1"), port_of(listener))
    assert collector.room(1400) == 1400 - 28
    collector.close()


def test_a_closed_port_is_known_before_the_next_message() -> None:
    """The ICMP error is an answer; the remedy names both sides of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = port_of(closed)
    collector = Collector(f"127.0.0.1:{port}")
    collector.connect()
    collector.send(b"message")
    with pytest.raises(SendError, match=r"Connection refused \(start the collector, or correct the port\)") as raised:
        collector.check()
    assert raised.value.reason == "refused"
    collector.check()  # it is told once
    collector.close()


def test_a_name_that_nobody_knows_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a name server that the unit's firewall does not let the daemon ask."""

    def fail(*_arguments: object, **_options: object) -> Answer:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(SendError, match=r"collector.test:4739: Name or service not known .*IPAddressAllow=") as raised:
        Collector("collector.test:4739").connect()
    assert raised.value.reason == "name"


def test_a_name_that_moves_takes_the_socket_with_it(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket stays as long as the name has its address."""
    addresses = ["127.0.0.1"]

    def found(_host: str, port: int, **_options: object) -> Answer:
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    collector = Collector(f"collector.test:{port_of(listener)}")
    collector.connect()
    collector.send(b"first")
    addresses.insert(0, "127.0.0.2")
    collector.connect()
    collector.send(b"second")
    (_, source), (_, same) = listener.recvfrom(100), listener.recvfrom(100)
    assert source == same
    addresses.remove("127.0.0.1")
    collector.connect()
    assert collector.path
    assert collector.path.destination == ip_address("127.0.0.2")
    collector.close()


def test_a_message_that_is_too_large_is_an_error_with_the_size_that_fits(listener: socket.socket) -> None:
    """No router is left to cut it up, or to drop it."""
    collector = Collector(f"127.0.0.1:{port_of(listener)}")
    collector.connect()
    with pytest.raises(SendError, match=r"Message too long \(mtu = \d+\)") as raised:
        collector.send(bytes(65_600))
    assert raised.value.reason == "too_large"
    collector.close()
