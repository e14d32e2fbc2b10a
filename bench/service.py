"""What the daemon costs a machine: how long it takes to start, and the memory that it holds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench import wire
from bench.daemon import running
from bench.report import Bar, Section
from bench.subjects import MAX_ENTRIES
from bench.table import FLOWS, FRAME
from cnf.datapath.blueprint import Table

DRAINS: Final = 3
ALMOST_ALL: Final = 98 * FLOWS // 100
"""A cache's sets do not fill alike: some let a flow go before the table is full."""
LIMITS: Final = """
    [[limits.rules]]
    name = "default"
    prefixes = ["0.0.0.0/0", "::/0"]
    packets_per_second = 100000
"""


class Case(NamedTuple):
    """A configuration, with what a start may take whose program was built before."""

    title: str
    table: Table
    rest: str
    limit: float
    hoped: float


def measure(sender: int, tables: Sequence[Table], rounds: int) -> tuple[Section, Section]:
    """Start it with its defaults but for the table, by turns; then once with FLOWS flows, sent by ``sender``."""
    start, memory = Section("start of the daemon, from exec to ready"), Section("resident memory of the daemon")
    cases = [Case(table, table, "", 0.45, 0.3) for table in tables]
    cases.append(Case(f"{tables[0]} with limits", tables[0], LIMITS, 0.6, 0.45))
    first: dict[Case, list[float]] = {case: [] for case in cases}
    again: dict[Case, list[float]] = {case: [] for case in cases}
    empty: dict[Case, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="cnf-bench-") as programs:
                with running(case.table, rest=case.rest, programs=Path(programs)) as daemon:
                    first[case].append(daemon.wait("READY=1"))
                with running(case.table, rest=case.rest, programs=Path(programs)) as daemon:
                    again[case].append(daemon.wait("READY=1"))
                    daemon.wait("WATCHDOG=1")
                    empty[case].append(daemon.memory()["VmRSS"])
    for case in cases:
        once = start.add(f"{case.title}, for the first time", "s", first[case])
        bar = Bar(f"start, built before, {case.title}", case.limit, case.hoped)
        start.add(f"{case.title}, built before", "s", again[case], {"first": once}, bar)
    nothing = {
        case.title: memory.add(f"{case.title}, empty", "MB", empty[case], None, *_empty_bars(case)) for case in cases
    }
    for table in tables:
        steady, peak = _full(table, sender)
        over = {"empty": nothing[table]}
        memory.add(f"{table}, {FLOWS:,} flows", "MB", steady, over, Bar("memory, 1 M flows", 200, 130))
        memory.add(f"{table}, {FLOWS:,} flows, peak", "MB", [peak], over)
    return start, memory


def _empty_bars(case: Case) -> Sequence[Bar]:
    return () if case.rest else (Bar("memory, empty", 52, 46),)


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
