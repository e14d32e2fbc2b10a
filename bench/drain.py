"""Reading a table of a million flows, and the whole cycle around it."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bench.report import Bar, Section
from bench.table import FLOWS, LONG_AGO, MAX_ENTRIES, Table
from cnf.flows import FlowColumns
from cnf.hash_table import SLACK
from cnf.kernel.maps import BATCH, FlowMap
from cnf.records import FLOW4_KEY, FLOW_VALUE
from cnf.series import FlowSeries

SOURCE: Final = Path(__file__).parent / "walk.c"
CHANGED: Final = FLOWS // 10
EXPIRING: Final = FLOWS // 20


def measure_walk(table: Table, rounds: int) -> Section:
    """Compare the daemon's reading into columns with a loop that only reads."""
    name, floor = _floor(table)
    section = Section(f"drain of {FLOWS:,} flows", reference="the loop")
    walks: dict[str, Callable[[], int]] = {name: floor, "daemon: batches into columns": lambda: _walk(table)}
    taken: dict[str, list[float]] = {name: [] for name in walks}
    for turn in range(rounds + 1):
        for name, walk in walks.items():
            started = time.monotonic()
            entries = walk()
            if turn:
                taken[name].append(time.monotonic() - started)
            if entries != FLOWS:
                section.notes.append(f"{name} met {entries:,} flows")
    for name, bar in zip(walks, (None, Bar(1.4, "ratio")), strict=True):
        section.add(name, taken[name], "s", bar)
    return section


def measure_cycle(table: Table, rounds: int) -> Section:
    """Time whole drains as the daemon makes them, some of the flows changed in between."""
    section = Section(f"cycle over {FLOWS:,} flows")
    top = table.settings.metrics.top_flows
    section.notes.append(f"drain, differences, expiry, ledger and top {top}; CPU is that of the one thread")
    series = FlowSeries()
    cpu: list[float] = []
    wall: list[float] = []
    expiring: list[float] = []

    def cycle() -> None:
        series.update(table.tracker.drain(), top)

    cycle()
    for turn in range(rounds):
        table.change(slice(turn * CHANGED % FLOWS, turn * CHANGED % FLOWS + CHANGED))
        started_cpu, started = time.thread_time(), time.monotonic()
        cycle()
        cpu.append(time.thread_time() - started_cpu)
        wall.append(time.monotonic() - started)
    for turn in range(2):
        gone = slice(turn * EXPIRING, (turn + 1) * EXPIRING)
        table.change(gone, LONG_AGO)
        started_cpu = time.thread_time()
        cycle()
        expiring.append(time.thread_time() - started_cpu)
        table.change(gone)
    section.add("CPU, 10 % of the flows changed", cpu, "s", Bar(1.0))
    section.add("wall clock", wall, "s")
    section.add("CPU, 5 % of the flows expiring as well", expiring, "s", Bar(1.0))
    return section


def _walk(table: Table) -> int:
    columns = FlowColumns.empty("ipv4", MAX_ENTRIES + SLACK)
    count = 0
    for keys, values in FlowMap("flows4", table.fd, FLOW4_KEY, FLOW_VALUE).batches():
        columns.fill(count, keys, values)
        count += len(keys)
    return count


def _floor(table: Table) -> tuple[str, Callable[[], int]]:
    """Return the loop to compare with: in C where there is a compiler."""
    keys, values = np.empty(BATCH, FLOW4_KEY), np.empty(BATCH, FLOW_VALUE)
    with tempfile.TemporaryDirectory(prefix="cnf-bench-") as folder:
        library = Path(folder, "walk.so")
        try:
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            batches = FlowMap("flows4", table.fd, FLOW4_KEY, FLOW_VALUE).batches
            return "loop by ctypes, for want of a C compiler", lambda: sum(len(keys) for keys, _values in batches())
        walk = ctypes.CDLL(str(library)).walk
    walk.restype = ctypes.c_long
    walk.argtypes = [ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p]
    return "C loop over bpf_map_lookup_batch", lambda: int(walk(table.fd, BATCH, keys.ctypes.data, values.ctypes.data))
