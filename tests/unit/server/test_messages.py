"""What is known of who asks."""

from __future__ import annotations

import pytest

from cnf.server.messages import Request


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1:9995", "127.0.0.1", "localhost:9995", "LOCALHOST", "[::1]:9995", "[::1]", "127.8.0.1:80", None]
)
def test_on_this_node(client: str, host: str | None) -> None:
    """Whoever comes over loopback, and calls the node so, is on it; HTTP/1.0 needs no host."""
    headers = {} if host is None else {"host": host}
    assert Request("GET", "/", client=client, headers=headers).from_this_node


@pytest.mark.parametrize("client", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0", ""])
def test_from_elsewhere(client: str) -> None:
    """Whoever comes from another address, or by a Unix socket, is not, whatever the request says."""
    assert not Request("GET", "/", client=client, headers={"host": "127.0.0.1:9995"}).from_this_node


@pytest.mark.parametrize("name", ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via"])
def test_through_a_proxy(name: str) -> None:
    """A proxy on the node asks for somebody else."""
    assert not Request("GET", "/", client="127.0.0.1", headers={"host": "localhost", name: ""}).from_this_node


@pytest.mark.parametrize("host", ["evil.example:9995", "localhost.evil.example", "192.0.2.1", "127.0.0.1.example", "["])
def test_by_a_name_that_is_bound_anew(host: str) -> None:
    """A page elsewhere whose name comes to mean 127.0.0.1 has the browser ask for that name: it gets no address."""
    assert not Request("GET", "/", client="127.0.0.1", headers={"host": host}).from_this_node
