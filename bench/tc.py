"""TC's programs beside a bare pass of TC."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from bench.report import Bar, Section
from bench.subjects import BARE, TABLES, build
from bench.turns import Run, Workers
from bench.workloads import one_flow
from cnf.abi import FAMILIES
from cnf.datapath.blueprint import Blueprint
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS

ENTRIES: Final = 1 << 16
PACKETS: Final = 50_000
HOOKS: Final = (TC_INGRESS, TC_EGRESS)


def measure(workers: Workers, rounds: int) -> Section:
    """Run one flow of either family through the program of either direction."""
    section = Section("TC, flows only, one flow, one CPU")
    with ExitStack() as stack:
        bare, counting = build([BARE, Blueprint(ENTRIES, TABLES[0], hooks=HOOKS)], stack)
        runs = {"bare": Run(bare.programs["bare_skb"], [one_flow("ipv4")])} | {
            f"{hook.direction}, {family.replace('ip', 'IP')}": Run(counting.programs[hook.entry], [one_flow(family)])
            for hook in HOOKS
            for family in FAMILIES
        }
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(rounds + 1):
            for name, run in runs.items():
                value = workers.run(run, PACKETS)
                if turn:  # the first one makes the flow
                    taken[name].append(value)
    figure = section.add("bare", "ns", taken.pop("bare"))
    for name, values in taken.items():
        section.add(name, "ns", values, {"bare": figure}, Bar("TC, one flow", 1.6, 1.4, "bare"))
    return section
