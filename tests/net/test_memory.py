"""What the daemon takes at most: with full tables, and all of them listed."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from cnf.cli.doctor.footprint import LISTINGS, PREFIX_BYTES, START_BYTES, daemon_bytes, set_prefixes, table_bytes
from cnf.config import Flows, FlowTable, load
from cnf.limits.table import Limits
from cnf.server.control import Control
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.net import cgroups
from tests.net.conftest import Node
from tests.net.daemon import CNFD, Daemon

ENTRIES: Final = 1 << 15
RULE: Final = {"name": "all", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1_000_000}

PREFIXES: Final = 100_000
SWAPS: Final = 5

QUICK_MINUTES: Final = (
    "import sys; from cnf.history import history; history.MINUTE = 1.0; from cnf.cnfd import main; sys.exit(main())"
)


@pytest.mark.parametrize("table", ["cache", "lru_hash"])
def test_the_doctors_figure_is_a_bound(node: Node, table: FlowTable) -> None:
    """With full tables, drains, scrapes and as many listings as there may be, none of the latest drain, it holds.

    The history's minutes are of a second, so that all flows are recorded at once while the test lasts.
    """
    assert Control.BOUNDS.large == LISTINGS
    wire = node.wire("n0")
    settings = {"table": table, "max_entries": ENTRIES, "idle_timeout": "1h", "drain_interval": "500ms"}
    sizes = {"max_sources": ENTRIES, "mode": "shadow", "rules": [RULE]}
    daemon = node.daemon("n0", flows=settings, limits=sizes)
    daemon.command = (sys.executable, "-P", "-c", QUICK_MINUTES)
    daemon.start()
    wire.send(_frames())
    assert daemon.settle(2 * ENTRIES)["ledger"]["packets"]["difference"] == 0
    at_most, listing = daemon_bytes(Flows(max_entries=ENTRIES), Limits(max_sources=ENTRIES))
    assert _peak(daemon) < at_most
    for path in ("/v1/limits/sources?all=1", "/v1/flows"):
        with ExitStack() as stack:
            clients = []
            for _ in range(LISTINGS):
                clients.append(stack.enter_context(daemon.connect_control()))
                clients[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                assert clients[-1].recv(1) == b"H"
                daemon.drain()  # so that it holds a snapshot of its own
            assert sum(map(_rest, clients)) > len(clients) * ENTRIES * 200
    assert _peak(daemon) < listing


def test_the_doctors_figure_is_a_bound_with_sets(node: Node, tmp_path: Path) -> None:
    """While a file of many prefixes is swapped for another one, too; reading again and again takes no more."""
    path = tmp_path / "feed"
    limits = {"mode": "enforce", "sets": [{"name": "feed", "file": str(path), "action": "deny"}]}
    daemon = node.daemon("n0", flows={"max_entries": 1024}, limits=limits)
    daemon.start()
    empty = _peak(daemon)
    for swap in range(SWAPS):
        fresh = tmp_path / "fresh"
        fresh.write_text(
            "".join(f"2001:db8:{number + swap:x}::/48\n" for number in range(PREFIXES // 2))
            + "".join(f"10.{number >> 8}.{number & 255}.{swap}\n" for number in range(PREFIXES // 2))
        )
        fresh.replace(path)
        daemon.wait_for_event("set read", swap + 1)
        if swap == 1:
            second = _peak(daemon)
    assert set_prefixes(load(daemon.config).limits) == PREFIXES
    at_most, _ = daemon_bytes(Flows(max_entries=1024), load(daemon.config).limits, PREFIXES)
    assert _peak(daemon) < at_most
    assert _peak(daemon) - empty < PREFIX_BYTES * PREFIXES
    assert _peak(daemon) - second < PREFIX_BYTES * PREFIXES // 4


@pytest.mark.needs("memory cgroup")
@pytest.mark.parametrize("options", [{}, {"limits": {"mode": "shadow", "rules": [RULE]}}], ids=["flows", "limits"])
def test_the_start_takes_what_the_doctor_says(node: Node, options: dict[str, Any]) -> None:
    """A cgroup with just as much memory as the doctor adds up for tables and start is enough."""
    node.wire("n0")
    daemon = node.daemon("n0", **options)
    with cgroups.bounded(table_bytes(load(daemon.config)) + START_BYTES) as inside:
        daemon.command = (*inside, *CNFD)
        daemon.start().stop()


def _frames() -> Iterator[bytes]:
    """Yield a packet of each flow, and so of each source: as many as the tables hold."""
    for number in range(ENTRIES):
        high, low = divmod(number, 250)
        third, second = divmod(high, 250)
        yield frame(IPv4(f"10.{third}.{second}.{low + 1}"), UDP())
        yield frame(IPv6(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"), UDP())


def _rest(client: socket.socket) -> int:
    """Return how many bytes come until the end."""
    count = 0
    while block := client.recv(1 << 20):
        count += len(block)
    return count


def _peak(daemon: Daemon) -> int:
    """Return the most memory that the daemon has had, in bytes."""
    status = Path(f"/proc/{daemon.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) << 10
