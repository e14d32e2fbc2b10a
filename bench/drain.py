"""Reading a table of a million flows."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.report import Bar, Section
from bench.table import FLOWS, Filled
from cnf.abi import FLOW4_KEY, FLOW4_SET, FLOW_VALUE
from cnf.clock import Reading, WallClock, tick_ns
from cnf.datapath.blueprint import Table
from cnf.datapath.cache import Cache, MappedArray
from cnf.datapath.counters import TableCounters
from cnf.flows.drain import TABLES
from cnf.kernel.maps import BATCH, FlowMap

SOURCE: Final = Path(__file__).parent / "walk.c"
READING: Final = Bar("reading, over the C loop", 0.30, 0.10, "C loop")


def measure(tables: Mapping[Table, Filled], kinds: Sequence[Table], rounds: int) -> Section:
    """Compare with a loop in C over the LRU hash: for ``kinds``, the reading, and what a drain makes of it."""
    walks = dict([_loop(tables["lru_hash"])])
    for kind in kinds:
        table = tables[kind]
        if kind == "cache":
            walks["cache, read"] = _read_cache(table)
        walks[f"{kind}, drain"] = _drain(kind, table)
    taken: dict[str, list[float]] = {name: [] for name in walks}
    found: dict[str, int] = {}
    for _ in range(rounds):
        for name, walk in walks.items():
            started = time.thread_time()
            found[name] = walk()
            taken[name].append(time.thread_time() - started)
    loop, *others = walks
    section = Section(f"drain of {FLOWS:,} flows, CPU")
    reference = section.add(loop, "s", taken[loop])
    for name in others:
        section.add(name, "s", taken[name], {"C loop": reference}, *([READING] if name == "cache, read" else ()))
    section.notes += [f"{name}: {flows:,} flows" for name, flows in found.items() if flows != FLOWS]
    return section


def _loop(table: Filled) -> tuple[str, Callable[[], int]]:
    """Return the loop to compare with: in C where there is a compiler."""
    fd = table.datapath.maps["flows4"]
    keys, values = np.empty(BATCH, FLOW4_KEY), np.empty(BATCH, FLOW_VALUE)
    with tempfile.TemporaryDirectory(prefix="cnf-bench-") as folder:
        library = Path(folder, "walk.so")
        try:
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, SOURCE], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            batches = FlowMap("flows4", fd, FLOW4_KEY, FLOW_VALUE).batches
            return "loop by ctypes over lru_hash, for want of a C compiler", lambda: sum(
                len(keys) for keys, _ in batches()
            )
        walk = ctypes.CDLL(str(library)).walk
    walk.restype = ctypes.c_long
    walk.argtypes = [ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p]
    return "C loop over lru_hash", lambda: int(walk(fd, BATCH, keys.ctypes.data, values.ctypes.data))


def _read_cache(table: Filled) -> Callable[[], int]:
    """Return what reads the cache as the daemon does, and does nothing with it."""
    cache = Cache(MappedArray("flows4", table.datapath.maps["flows4"], FLOW4_SET))
    return lambda: sum(len(block.places) for block in cache.blocks())


def _drain(kind: Table, table: Filled) -> Callable[[], int]:
    datapath = table.datapath
    counters, capacity = TableCounters(datapath.maps), datapath.blueprint.max_entries
    flows = TABLES[kind]("ipv4", datapath.maps, counters, capacity, table.settings.flows)

    def drain() -> int:
        jiffies, monotonic = datapath.read_clock()
        clock = WallClock(Reading(jiffies, monotonic, 0, 0), tick_ns())
        return flows.drain(clock).state.entries

    return drain
