"""Records, with what is lost, are what was counted: over eviction, reload, kill -9, restart and stop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from signal import SIGKILL, SIGTERM, SIGUSR2, Signals
from typing import Any, Final

import pytest

from tests.bpf.packets import TCP, UDP, IPv4, IPv6, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.wait import wait_for

SIZE: Final = 100
FLOWS: Final = 80
SMALL: Final[dict[str, Any]] = {"max_entries": 32, "drain_interval": "100ms", "idle_timeout": "1s"}
"""64 slots a family of a cache, so that of FLOWS flows a family some are evicted."""
NO_HISTORY: Final = {"keep": "0s"}

pytestmark = pytest.mark.usefixtures("folder")


def packets(start: int) -> list[bytes]:
    """Return a packet of each of FLOWS flows a family; every fourth one ends its connection."""
    return [
        frame(
            layer,
            TCP(src_port=1000 + start + number, flags="FA") if number % 4 == 0 else UDP(src_port=1000 + start + number),
            pad_to=SIZE,
        )
        for number in range(FLOWS)
        for layer in (IPv4("192.0.2.1"), IPv6("2001:db8::1"))
    ]


def records(file: Path) -> list[dict[str, Any]]:
    """Return the records of a file; their numbers must follow one another."""
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [each["seq"] for each in found] == [*range(1, len(found) + 1)]
    return found


def tables(table: str, file: Path) -> dict[str, Mapping[str, object]]:
    """Return the configuration."""
    return {
        "flows": SMALL | {"table": table},
        "export.json": {"file": str(file), "active_timeout": "300ms"},
        "history": NO_HISTORY,
    }


def unrecorded(daemon: Daemon) -> tuple[float, float]:
    """Return the packets and bytes that are in no record."""
    metrics = daemon.scrape()
    return metrics.total("cnf_unrecorded_packets_total"), metrics.total("cnf_unrecorded_bytes_total")


@pytest.mark.parametrize("end", [SIGKILL, SIGUSR2])
@pytest.mark.parametrize("table", ["cache", "lru_hash"])
def test_nothing_is_twice_or_missing(node: Node, tmp_path: Path, table: str, end: Signals) -> None:
    """Three daemons, of which two are killed, or restarted; over restarts a cache loses nothing."""
    wire, file = node.wire("n0"), tmp_path / "records"
    daemon = node.daemon("n0", **tables(table, file)).start()
    sent = 0

    def send(times: int) -> None:
        nonlocal sent
        burst = packets(FLOWS * (sent % 3)) * times
        wire.send(burst)
        sent += len(burst)

    for _daemon in range(2):
        send(2)
        daemon.settle(sent)
        send(1)
        daemon.reload([{"name": "n0"}], **tables(table, file))
        daemon.signal(end)
        daemon.ended()
        send(1)
        daemon.start()
        daemon.settle(sent)
    send(3)
    wait_for(lambda: not daemon.flows(), "the end of all flows")
    daemon.drain()

    lost = unrecorded(daemon)
    daemon.signal(SIGTERM)
    daemon.ended()
    counted = [(each["packets"], each["bytes"]) for each in records(file)]
    assert sum(each for each, _ in counted) + lost[0] == sent
    assert sum(each for _, each in counted) + lost[1] == sent * SIZE
    if table == "lru_hash":
        assert lost[0] > 0
    elif end == SIGUSR2:  # one that is killed takes along what it has read of the ring
        assert lost == (0, 0)


@pytest.mark.parametrize("table", ["cache", "lru_hash"])
def test_a_stop_records_what_lives(node: Node, tmp_path: Path, table: str) -> None:
    """The last record of a flow that lives says that the daemon has stopped."""
    wire, file = node.wire("n0"), tmp_path / "records"
    lasting = {**tables(table, file), "flows": {"table": table, "idle_timeout": "1h", "drain_interval": "100ms"}}
    daemon = node.daemon("n0", **lasting).start()
    burst = [frame(IPv4("192.0.2.1"), UDP(src_port=1000 + number), pad_to=SIZE) for number in range(FLOWS)]
    wire.send(burst)
    daemon.settle(len(burst))
    wire.send(burst)
    daemon.signal(SIGTERM)
    daemon.ended()

    found = records(file)
    assert sum(each["packets"] for each in found) == 2 * len(burst)
    assert {each["reason"] for each in found} >= {"stopped"}
