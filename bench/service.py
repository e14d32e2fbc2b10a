"""What the daemon costs a machine: how long it takes to start, and the memory that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench import wire
from bench.daemon import running
from bench.report import Bar, Section
from bench.subjects import MAX_ENTRIES
from bench.table import FLOWS, FRAME
from cnf.datapath.blueprint import Table

DRAINS: Final = 3
ALMOST_ALL: Final = 98 * FLOWS // 100
"""A cache's sets do not fill alike: some let a flow go before the table is full."""


def measure(sender: int, tables: Sequence[Table], rounds: int) -> tuple[Section, Section]:
    """Start it with its defaults but for the table, by turns; then once with FLOWS flows, sent by ``sender``."""
    start, memory = Section("start of the daemon"), Section("resident memory of the daemon")
    ready: dict[Table, list[float]] = {table: [] for table in tables}
    empty: dict[Table, list[float]] = {table: [] for table in tables}
    for _ in range(rounds):
        for table in tables:
            with running(table) as daemon:
                ready[table].append(daemon.wait("READY=1"))
                daemon.wait("WATCHDOG=1")
                empty[table].append(daemon.memory()["VmRSS"])
    for table in tables:
        start.add(f"{table}, from exec to ready", "s", ready[table], None, Bar("start to ready", 0.7, 0.5))
        nothing = memory.add(f"{table}, empty", "MB", empty[table], None, Bar("memory, empty", 55, 45))
        steady, peak = _full(table, sender)
        over = {"empty": nothing}
        memory.add(f"{table}, {FLOWS:,} flows", "MB", steady, over, Bar("memory, 1 M flows", 200, 130))
        memory.add(f"{table}, {FLOWS:,} flows, peak", "MB", [peak], over)
    return start, memory


def _full(table: Table, sender: int) -> tuple[Sequence[float], float]:
    """Return what a daemon holds with FLOWS flows after each of DRAINS drains, and the most it ever held."""
    with running(
        table, f', max_entries = {MAX_ENTRIES}, drain_interval = "500ms", idle_timeout = "1h", ended_timeout = "1h"'
    ) as daemon:
        daemon.wait("READY=1")
        wire.send(sender, FRAME, FLOWS)
        steady = []
        for _ in range(DRAINS):
            daemon.wait_for_flows(ALMOST_ALL)
            steady.append(daemon.memory()["VmRSS"])
        return steady, daemon.memory()["VmHWM"]
