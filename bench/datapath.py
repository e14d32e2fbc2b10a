"""The programs under BPF_PROG_TEST_RUN, in nanoseconds a packet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from bench.subjects import MAX_ENTRIES, Subject, Subjects
from bench.turns import Run, Workers
from bench.workloads import (
    ESTABLISHED,
    ESTABLISHED_CASES,
    FLOWS_512K,
    IN_TURN,
    NEVER_TWICE,
    NEW,
    NEW_CASES,
    ONE_FLOW,
    Case,
    course,
    frames,
)
from cnf.abi import FAMILIES, Family
from cnf.datapath.blueprint import Table
from cnf.datapath.cache import Cache, Crowded, MappedArray
from cnf.flows.recorder import SETS as FLOW_SETS
from cnf.limiter.source_cache import SETS as SOURCE_SETS

UNTIL_FULL: Final[Mapping[Table | None, int]] = {
    None: MAX_ENTRIES // 2,
    "lru_hash": MAX_ENTRIES // 2,
    "cache": 2 * MAX_ENTRIES,  # it has twice the slots, and its sets do not fill alike
}
"""New flows that fill a table up which holds FLOWS_512K."""


class Cell(NamedTuple):
    """A subject in a case."""

    case: Case
    family: Family
    subject: Subject


Taken = Mapping[Cell, Sequence[float]]


def measure(programs: Subjects, workers: Workers, rounds: int) -> Taken:
    """Run every subject in every case, by turns; return the ns a packet, round by round."""
    subjects = list(programs)
    for subject in subjects:
        _send(subject, workers, FLOWS_512K.flows, ESTABLISHED, FLOWS_512K.flows)
    established = _take_turns(subjects, workers, ESTABLISHED_CASES, rounds)
    for subject in subjects:
        _send(subject, workers, NEVER_TWICE, NEW, UNTIL_FULL[subject.table])
    for datapath in (programs.plain["cache"], programs.limited["cache"].datapath):
        _tell_how_full(datapath.maps)
    return established | _take_turns(subjects, workers, NEW_CASES, rounds)


def _send(subject: Subject, workers: Workers, flows: int, first: int, packets: int) -> None:
    """Send packets of ``flows`` in turn, of both families, on all CPUs, if that makes flows in a table.

    Both naive programs have the same tables of flows: what the one with buckets makes is there for the other.
    """
    if subject.program in ("bare", "parse") or (subject.program == "naive" and not subject.limiter):
        return
    cpus = len(workers.cpus)
    share = flows // cpus
    for family in FAMILIES:
        parts = [course(family, share, first + index * share, IN_TURN) for index in range(cpus)]
        workers.run(Run(subject.fd, parts), packets // cpus)


def _tell_how_full(maps: Mapping[str, int]) -> None:
    """Tell a cache's program how many of its slots are alive, as each drain of the daemon does."""
    sets = {f"flows{family[-1]}": dtype for family, dtype in FLOW_SETS.items()}
    sets |= {f"limit_sources{family[-1]}": dtype for family, dtype in SOURCE_SETS.items()}
    for number, (name, dtype) in enumerate(sets.items()):
        if name in maps:
            cache = Cache(MappedArray(name, maps[name], dtype))
            Crowded(maps, number).write(sum(len(block.places) for block in cache.blocks()), cache.size)


def _take_turns(
    subjects: Iterable[Subject], workers: Workers, cases: Iterable[Case], rounds: int
) -> dict[Cell, list[float]]:
    taken: dict[Cell, list[float]] = {
        Cell(case, family, subject): []
        for case in cases
        if case.cpus <= len(workers.cpus)
        for family in FAMILIES
        for subject in subjects
    }
    for case, family, subject in taken:
        if case.workload is ONE_FLOW:  # the flow is made
            workers.run(Run(subject.fd, frames(case, family)), case.workload.packets)
    for _ in range(rounds):
        for (case, family, subject), values in taken.items():
            values.append(workers.run(Run(subject.fd, frames(case, family)), case.workload.packets))
    return taken
