"""The tables [export] and [history] are read, or refused with what was expected."""

from __future__ import annotations

import pytest

from cnf import config
from cnf.errors import ConfigError
from cnf.recording import Ipfix

INTERFACE = "[[interfaces]]\nname = 'eth0'\n"


def test_every_option_of_a_collector_is_read() -> None:
    """Several collectors, by name or address."""
    settings = config.parse(
        INTERFACE
        + """
        [[export.ipfix]]
        collector = "[2001:db8::9%ens1]:4739"
        domain = 7
        active_timeout = "30s"
        template_interval = "2m"
        mtu = 9000
        interfaces = ["ens*"]
        filter = "tcp port 443"
        biflow = true
        [[export.ipfix]]
        collector = "flows.example.net:2055"
        """,
        "test.toml",
    )
    assert settings.export.ipfix == (
        Ipfix("[2001:db8::9%ens1]:4739", 7, 30.0, 120.0, 9000, ("ens*",), "tcp port 443", biflow=True),
        Ipfix("flows.example.net:2055"),
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("collector = '192.0.2.9'", 'collector: expected "HOST:PORT"'),
        ("collector = '192.0.2.9:70000'", "a port from 1 to 65535"),
        ("collector = 'a:1'\nfilter = 'prot 6'", "did you mean"),
        ("collector = 'a:1'\n[[export.ipfix]]\ncollector = 'a:1'", 'expected each collector once, got "a:1" again'),
    ],
)
def test_what_is_no_collector_is_refused(lines: str, problem: str) -> None:
    """The message names the key and what belongs there; a collector stands once, for it is a label in /metrics."""
    with pytest.raises(ConfigError, match=problem):
        config.parse(f"{INTERFACE}[[export.ipfix]]\n{lines}", "test.toml")
