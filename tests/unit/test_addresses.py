"""An IPv4-mapped IPv6 address is the IPv4 address, in every place that reads one."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cnf.addresses import unmapped
from cnf.filter.values import prefix_of
from cnf.limits import prefix_file, state_file
from cnf.limits.changes import read_change
from cnf.limits.overrides import Effective
from cnf.limits.table import LIMITS, Limits
from cnf.process import ssh_clients
from cnf.readers import RefusedError


@pytest.mark.parametrize(
    ("text", "meant"),
    {
        "::ffff:192.0.2.1": "192.0.2.1",
        "::FFFF:c000:201": "192.0.2.1",
        "0:0:0:0:0:ffff:192.0.2.1": "192.0.2.1",
        "::ffff:192.0.2.0/120": "192.0.2.0/24",
        "::ffff:0:0/96": "0.0.0.0/0",
        "::ffff:192.0.2.1/128": "192.0.2.1/32",
        # what is none, or not of mapped addresses alone
        "::ffff:0:0/95": "::ffff:0:0/95",
        "::ffff:0:0/129": "::ffff:0:0/129",
        "::ffff:192.0.2.1/x": "::ffff:192.0.2.1/x",
        "::192.0.2.1": "::192.0.2.1",
        "64:ff9b::192.0.2.1": "64:ff9b::192.0.2.1",
        "::/0": "::/0",
        "192.0.2.1": "192.0.2.1",
        "eth0": "eth0",
        "": "",
    }.items(),
)
def test_a_mapped_address_is_the_ipv4_address(text: str, meant: str) -> None:
    """So is a prefix of such; any other text stays as it is."""
    assert unmapped(text) == meant


def _limits(text: str) -> Any:  # noqa: ANN401 - a network
    return LIMITS({"deny": [text]}, "limits").deny[0]


def _rule(text: str) -> Any:  # noqa: ANN401
    rule = {"name": "r", "packets_per_second": 1, "prefixes": [text]}
    return LIMITS({"rules": [rule]}, "limits").rules[0].prefixes[0]


def _filter(text: str) -> Any:  # noqa: ANN401
    prefix = prefix_of(text)
    return prefix and prefix.network


def _change(text: str) -> Any:  # noqa: ANN401
    return read_change({"op": "deny_add", "prefix": text}).after(Effective(Limits()), Limits())[0].limits.deny[0]


def _state(text: str) -> Any:  # noqa: ANN401
    return state_file.read(json.dumps({"deny_added": [text]}), Path("state")).deny_added[0]


def _set(line: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:  # noqa: ANN401
        prefixes = prefix_file.read(BytesIO(line.replace("PREFIX", text).encode()))
        return prefixes.find(ip_network("192.0.2.1"))

    return read


@pytest.mark.parametrize(
    "read",
    [
        _limits,
        _rule,
        _filter,
        _change,
        _state,
        *map(_set, ("PREFIX", '{"cidr": "PREFIX"}', "create s hash:net family inet6\nadd s PREFIX")),
    ],
)
def test_every_prefix_may_be_written_so(read: Callable[[str], Any]) -> None:
    """Of a list, of a rule, in a filter, in a change, in the state file, in every kind of a set's file."""
    assert read("::ffff:192.0.2.0/120") == ip_network("192.0.2.0/24")
    assert read("::ffff:192.0.2.1") == ip_network("192.0.2.1/32")


def test_all_mapped_addresses_are_no_prefix() -> None:
    """A list of bogus IPv6 sources has it: whoever writes it down means anything but all of IPv4."""
    with pytest.raises(RefusedError) as caught:
        LIMITS({"deny": ["::ffff:0:0/96"]}, "limits")
    (only,) = caught.value.problems
    assert str(only) == (
        'limits.deny[0]: expected no prefix of all IPv4-mapped addresses, got "::ffff:0:0/96" '
        '(write "0.0.0.0/0" if you mean all of IPv4; unreadable = "drop" drops such IPv6 sources)'
    )


def test_clients_over_ssh_are_known_by_their_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a process that was started over SSH, and of a command."""
    monkeypatch.setenv("SSH_CONNECTION", "::ffff:192.0.2.1 1 ::ffff:192.0.2.2 22")
    monkeypatch.setattr(ssh_clients, "LIBRARY", "no-such-library.so")
    assert ssh_clients.clients(None) == (ip_network("192.0.2.1/32"),)
    assert ip_address("192.0.2.1") in ssh_clients.clients(None)[0]
