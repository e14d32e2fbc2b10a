"""The program under BPF_PROG_TEST_RUN: a bare pass, parts, and the whole, in nanoseconds that the kernel counts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Final, NamedTuple

from bench.report import Bar, Section
from cnf.kernel import libbpf
from cnf.kernel.counters import InterfaceCounters
from cnf.kernel.program import Blueprint, Datapath, load
from tests.bpf.packets import TCP, IPv4, IPv6, frame

SOURCE: Final = Path(__file__).parent / "bench.c"
LOOPBACK: Final = 1  # where test runs come in
FRAME4: Final = frame(IPv4(), TCP(), bytes(10))
FRAME6: Final = frame(IPv6(), TCP(), bytes(10))
RUNS: Final = 100_000


class Variant(NamedTuple):
    """A program of bench.c and the frame that it runs on."""

    name: str
    program: str
    frame: bytes
    bar: Bar | None = None


VARIANTS: Final = (
    Variant("bare pass", "bare_pass", FRAME4),
    Variant("IPv4: parse only", "parse_only", FRAME4),
    Variant("IPv4: interface counters only", "counters_only", FRAME4),
    Variant("IPv4: flow table only", "table_only", FRAME4),
    Variant("IPv4: whole program, one flow", "whole", FRAME4, Bar(3.3, "ratio")),
    Variant("IPv6: parse only", "parse_only", FRAME6),
    Variant("IPv6: whole program, one flow", "whole", FRAME6),
    Variant("changing the source address only", "change_only", FRAME4),
    Variant("IPv4: whole program, 16 k flows", "whole_many4", FRAME4),
    Variant("IPv6: whole program, 16 k flows", "whole_many6", FRAME6),
    Variant("IPv4: whole program, every packet a new flow", "whole_new4", FRAME4),
    Variant("IPv6: whole program, every packet a new flow", "whole_new6", FRAME6),
)
PROGRAMS: Final = (*dict.fromkeys(variant.program for variant in VARIANTS), "send_one", "send_many")


def build(max_entries: int) -> Datapath:
    """Load bench.c, with a counter slot for test runs."""
    datapath = load(Blueprint(max_entries, source=SOURCE, programs=PROGRAMS))
    InterfaceCounters(datapath.maps).assign(LOOPBACK)
    return datapath


def measure(datapath: Datapath, cpus: Sequence[int], rounds: int) -> Section:
    """Run every variant in turn, on all ``cpus`` at once, ``rounds`` times."""
    where = "one CPU" if len(cpus) == 1 else f"{len(cpus)} CPUs at once (the slower)"
    section = Section(f"datapath, {where}", reference="bare pass")
    taken: dict[str, list[int]] = {variant.name: [] for variant in VARIANTS}
    with ThreadPoolExecutor(len(cpus)) as pool:
        barrier = Barrier(len(cpus))
        for turn in range(rounds + 1):
            for variant in VARIANTS:
                runs = [pool.submit(_run, datapath.programs, variant, cpu, barrier) for cpu in cpus]
                slowest = max(run.result() for run in runs)
                if turn:  # the first one makes the flows
                    taken[variant.name].append(slowest)
    for variant in VARIANTS:
        section.add(variant.name, taken[variant.name], "ns", variant.bar if len(cpus) == 1 else None)
    bare = taken[section.reference]
    section.notes.append(f"noise: bare passes took {min(bare)} to {max(bare)} ns; the kernel gives whole nanoseconds")
    return section


def _run(programs: Mapping[str, int], variant: Variant, cpu: int, barrier: Barrier) -> int:
    os.sched_setaffinity(0, {cpu})  # of this thread
    barrier.wait()
    _verdict, _frame, nanoseconds = libbpf.run(programs[variant.program], variant.frame, RUNS)
    return nanoseconds
