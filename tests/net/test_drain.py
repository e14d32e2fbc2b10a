"""The drain under trouble: a kernel that refuses, and a table that is far too small."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import pytest

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon

BREAKS_A_DESCRIPTOR: Final = """
import os, sys
from cnf.cnfd import main
from cnf.flows.drain import Tracker

drain, drains, kept = Tracker.drain, 0, -1

def drain_or_fail(self, whole):
    global drains, kept
    drains += 1
    table = {**self._datapath.maps, **self._datapath.programs}[os.environ["BROKEN"]]
    if drains == 3:
        kept = os.dup(table)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, table)
        os.close(nothing)
    elif drains == 6:
        os.dup2(kept, table)
        os.close(kept)
    return drain(self, whole)

Tracker.drain = drain_or_fail
sys.exit(main())
"""
"""A cnfd whose drains number 3 to 5 find a descriptor that is no map, and no program."""

TABLE: Final = 1024
BOUND: Final = "0.25"
"""Seconds, a bucket of the histogram: some hundred times what it takes."""


@pytest.mark.parametrize(
    ("table", "broken", "error"),
    [
        ("cache", "flows4", "mapping map flows4: No such device"),
        ("lru_hash", "flows4", "reading map flows4: Invalid argument"),
        ("cache", "table_counters", "reading map table_counters[0]: Invalid argument"),
        ("cache", "cnf_clock", "reading the clock by a test run of cnf_clock failed: Invalid argument"),
    ],
)
def test_drains_that_fail_are_counted_and_made_up_for(node: Node, table: str, broken: str, error: str) -> None:
    """What the kernel refuses is counted and logged in its words; the loop goes on, and the next drain has it all."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows={"table": table})
    daemon.command = (sys.executable, "-P", "-c", BREAKS_A_DESCRIPTOR)
    daemon.environment["BROKEN"] = broken
    daemon.start()
    wire.send([frame(IPv4(), UDP())] * 5)

    ledger = daemon.settle(5)["ledger"]["packets"]

    daemon.wait_for_event("drained", 4)
    assert [event["error"] for event in daemon.events("drain failed")] == [error] * 3
    assert daemon.scrape().total("cnf_drain_errors_total") == 3
    assert (ledger["live"], ledger["difference"]) == (5, 0)
    assert daemon.http("/readyz").status == 200


@pytest.mark.parametrize(("table", "slots"), [("cache", 2 * TABLE), ("lru_hash", TABLE)])
def test_a_flood_of_flows_does_not_draw_out_the_drain(node: Node, table: str, slots: int) -> None:
    """With ten times the flows that the table holds, every packet counts, evicted ones too, and no drain is long."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows={"table": table, "max_entries": TABLE, "drain_interval": "100ms"}).start()
    count = 10 * TABLE
    wire.send(frame(IPv4(f"10.0.{number >> 8}.{number & 255}"), UDP()) for number in range(count))

    ledger = daemon.settle(count)["ledger"]["packets"]

    assert (ledger["received"], ledger["difference"]) == (count, 0)
    assert ledger["evicted"] >= count - slots
    metrics = daemon.scrape()
    assert metrics.total("cnf_flows_evicted_total") == ledger["evicted"]
    drains = metrics.total("cnf_drain_duration_seconds_count")
    long = drains - metrics.total("cnf_drain_duration_seconds_bucket", le=BOUND)
    assert long * float(BOUND) <= _waited(daemon), f"{long} of {drains} drains are long"


def _waited(daemon: Daemon) -> float:
    """Return the seconds for which its threads would have run, and others had the CPU."""
    waits = (
        path.read_text(encoding="ascii").split()[1] for path in Path(f"/proc/{daemon.pid}/task").glob("*/schedstat")
    )
    return sum(map(int, waits)) / 1e9
