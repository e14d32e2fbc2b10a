"""The program under BPF_PROG_TEST_RUN: a bare pass, parts, and the whole, in nanoseconds a packet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.report import Bar, Section
from bench.turns import Run, take_turns
from cnf.kernel.counters import InterfaceCounters
from cnf.kernel.program import Blueprint, Datapath, LimiterSize, load
from tests.bpf.packets import TCP, IPv4, IPv6, frame

SOURCE: Final = Path(__file__).parent / "bench.c"
LOOPBACK: Final = 1  # where test runs come in
FRAME4: Final = frame(IPv4(), TCP(), bytes(10))
FRAME6: Final = frame(IPv6(), TCP(), bytes(10))


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
PROGRAMS: Final = (
    *dict.fromkeys(variant.program for variant in VARIANTS),
    "one_more_lookup4",
    "one_more_lookup6",
    "one_more_flow4",
    "one_more_flow6",
    "send_one",
    "send_many",
)


def build(max_entries: int, programs: Sequence[str] = PROGRAMS, limiter: LimiterSize | None = None) -> Datapath:
    """Load ``programs`` of bench.c, with a counter slot for test runs."""
    names = (*programs, "cnf_clock")
    datapath = load(Blueprint(max_entries, limiter=limiter, source=SOURCE, programs=names))
    InterfaceCounters(datapath.maps).assign(LOOPBACK)
    return datapath


def measure(datapath: Datapath, cpus: Sequence[int], rounds: int) -> Section:
    """Run every variant in turn, on all ``cpus`` at once, ``rounds`` times."""
    section = Section(f"datapath, {where(cpus)}", reference="bare pass")
    runs = {variant.name: Run(datapath.programs[variant.program], variant.frame) for variant in VARIANTS}
    taken = take_turns(runs, cpus, rounds)
    for variant in VARIANTS:
        section.add(variant.name, taken[variant.name], "ns", variant.bar if len(cpus) == 1 else None)
    bare = taken[section.reference]
    section.notes.append(f"noise: bare passes took {min(bare):.1f} to {max(bare):.1f} ns")
    return section


def where(cpus: Sequence[int]) -> str:
    """Return in words what runs on ``cpus``."""
    return "one CPU" if len(cpus) == 1 else f"{len(cpus)} CPUs at once (the slower)"
