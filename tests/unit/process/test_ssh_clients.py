"""From where people are logged in, so that no change of the limits locks them out."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from cnf.process import ssh_clients


@pytest.fixture(autouse=True)
def _no_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out who is really logged in on this machine."""
    monkeypatch.setattr(ssh_clients, "LIBRARY", "there-is-no-such-library.so")


@pytest.mark.parametrize(
    ("connection", "client"),
    [
        ("192.0.2.7 50000 192.0.2.1 22", "192.0.2.7/32"),
        ("2001:db8::7 50000 2001:db8::1 22", "2001:db8::7/128"),
        ("fe80::7%eth0 50000 fe80::1%eth0 22", "fe80::7/128"),
        ("::ffff:192.0.2.7 50000 ::ffff:192.0.2.1 22", "192.0.2.7/32"),
    ],
)
def test_the_client_of_the_connection_that_started_this(
    monkeypatch: pytest.MonkeyPatch, connection: str, client: str
) -> None:
    """It is the first word of SSH_CONNECTION, as a packet from there has it."""
    monkeypatch.setenv("SSH_CONNECTION", connection)

    assert ssh_clients.clients(None) == (ip_network(client),)


def test_who_is_logged_in_is_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are clients as well, each once."""
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22")
    here, there = ip_network("192.0.2.7/32"), ip_network("192.0.2.8/32")

    assert ssh_clients.clients((there, here)) == (here, there)


@pytest.mark.parametrize("connection", ["", "UNKNOWN 65535 UNKNOWN 65535", "rubbish", "192.0.2.300 1 2 3"])
def test_what_is_no_address_protects_nobody(monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    """Rubbish in the environment is no error: it is another program's."""
    monkeypatch.setenv("SSH_CONNECTION", connection)

    assert ssh_clients.clients(()) == ()


def test_without_logind_nobody_knows_who_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No answer is not the answer that nobody is."""
    monkeypatch.setattr(ssh_clients, "SESSIONS", tmp_path / "missing")
    assert ssh_clients.sessions() is None
    monkeypatch.setattr(ssh_clients, "SESSIONS", tmp_path)
    assert ssh_clients.sessions() == ()


def test_logind_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there are sessions or none, the library's answer is taken without harm."""
    monkeypatch.undo()

    assert isinstance(ssh_clients.sessions(), tuple | None)
