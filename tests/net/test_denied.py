"""What is denied stays in sight: who it is, since when, how much, and whether it goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from signal import SIGKILL, SIGTERM, Signals
from typing import Any, Final

import pytest

from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.rations import QUICK, SIZE, enforce, packet, ration
from tests.net.wait import wait_for

FILE: Final = enforce(ration("default", 10), deny=["198.51.100.0/24"])


def entries(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """Return what ``cnfctl limits deny`` has, by prefix."""
    return {entry["prefix"]: entry for entry in json.loads(daemon.ctl("limits", "deny", "-o", "json").stdout)}


def counts(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """Return packets and bytes by prefix."""
    return {prefix: (entry["packets"], entry["bytes"]) for prefix, entry in entries(daemon).items()}


def test_a_denied_prefix_keeps_its_counts(node: Node) -> None:
    """Over other changes, and while no daemon runs; the next one goes on with them, and with the first time."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    daemon.limits("deny", "add", "10.0.0.0/8")
    wire.send([packet("198.51.100.1")] * 3 + [packet("10.0.0.1")] * 2)
    daemon.limits("deny", "add", "2001:db8::/32")
    wire.send([packet("198.51.100.2")] * 4 + [packet("2001:db8::1")])
    daemon.drain()
    first = entries(daemon)["198.51.100.0/24"]["first_seen"]
    daemon.signal(SIGKILL)
    daemon.ended()
    wire.send([packet("10.0.0.2")] * 5)

    daemon.start()

    wire.send([packet("10.0.0.1")])
    daemon.drain()
    assert counts(daemon) == {
        "198.51.100.0/24": (7, 7 * SIZE),
        "10.0.0.0/8": (8, 8 * SIZE),
        "2001:db8::/32": (1, SIZE),
    }
    assert entries(daemon)["198.51.100.0/24"]["first_seen"][:19] == first[:19]
    daemon.limits("deny", "remove", "10.0.0.0/8")
    daemon.limits("deny", "add", "10.0.0.0/8")
    assert counts(daemon)["10.0.0.0/8"] == (0, 0)


def test_the_first_drop_of_a_denied_prefix_is_told(node: Node) -> None:
    """As an event and in the log, once, with the address that it came from, and so is a source's first drop."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FILE, flows=QUICK).start()
    wire.send([packet("198.51.100.7")] * 3 + [packet("192.0.2.1")] * 12 + [packet("198.51.100.8")])

    daemon.wait_for_event("first drop", 2)
    lines = daemon.events("first drop")

    drops = [("198.51.100.0/24", "198.51.100.7", None, True), ("192.0.2.1", "192.0.2.1", "default", False)]
    fields = ("source", "address", "rule", "denied")
    assert [tuple(line[field] for field in fields) for line in lines] == drops
    events = [each for each in json.loads(daemon.control("/v1/events").body)["events"] if each["event"] == "first_drop"]
    assert [tuple(each[field] for field in fields) for each in events] == drops


@pytest.mark.parametrize("end", [SIGKILL, SIGTERM], ids=["killed", "stopped, with on_exit keep"])
def test_a_block_ends_on_time_whoever_lives(node: Node, end: Signals) -> None:
    """Without a daemon the kernel ends it; the next daemon keeps what is left, and removes what has ended."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=enforce(ration("default", 10)), flows=QUICK)
    configuration = daemon.config.read_text(encoding="utf-8")
    daemon.config.write_text(f'on_exit = "keep"\n{configuration}', encoding="utf-8")
    daemon.start()
    daemon.limits("deny", "add", "10.0.0.1", "10.0.0.2", "--for", "1h", "--reason", "scans")
    daemon.limits("deny", "add", "192.0.2.1", "--for", "4s")
    ends = datetime.now(UTC) + timedelta(seconds=5)
    assert {prefix: entry["reason"] for prefix, entry in entries(daemon).items()} == {
        "10.0.0.1/32": "scans",
        "10.0.0.2/32": "scans",
        "192.0.2.1/32": None,
    }
    assert all(entry["who"].startswith("uid 0, pid ") for entry in entries(daemon).values())
    daemon.signal(end)
    daemon.ended()
    with arrivals(node.inside, "n0") as through:
        wire.send([packet("192.0.2.1"), packet("10.0.0.1"), packet("198.51.100.1")])
        assert through.by_source(1) == {"198.51.100.1": 1}
        wait_for(lambda: datetime.now(UTC) > ends, "the end of a block")
        wire.send([packet("192.0.2.1"), packet("10.0.0.1")])
        assert through.by_source(2) == {"198.51.100.1": 1, "192.0.2.1": 1}

    daemon.config.write_text(configuration, encoding="utf-8")
    daemon.start()

    assert set(entries(daemon)) == {"10.0.0.1/32", "10.0.0.2/32"}
    daemon.limits("deny", "add", "10.0.0.1", "--for", "3s")
    daemon.wait_for_event("entry of a list ended")
    assert set(entries(daemon)) == {"10.0.0.2/32"}
    assert "10.0.0.1" not in daemon.state_file.read_text(encoding="utf-8")
