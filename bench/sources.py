"""A flood of more sources than the limiter's table holds, and reading the table."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

from bench import limited
from bench.limited import Limited
from bench.report import Section
from bench.rule_sets import many_rules
from bench.subjects import TABLES, build, whole
from bench.turns import Run, Workers
from bench.workloads import IN_TURN, NEVER_TWICE, NEW, course
from cnf.clock import Reading, WallClock, tick_ns
from cnf.limiter.source_expiry import BucketRule
from cnf.limiter.sources import SourceReader
from cnf.limits.token_bucket import words

ENTRIES: Final = 1 << 18
FLOOD: Final = 1_000_000
PACKETS: Final = 200_000
FRAME: Final = course("ipv4", NEVER_TWICE, NEW, IN_TURN)
TEXTS: Final = {
    "one rule": limited.ONE_RULE,
    "10,000 rules": many_rules(),
    "one bucket for all, dropped": limited.ONE_RULE.replace("1_000_000_000", '1\nbucket = "prefix"'),
}


def measure(workers: Workers, rounds: int) -> Section:
    """Send a packet each from ever new sources, then drain what remains of them."""
    section = Section("limiter, every packet a new source, full tables")
    sets = {name: limited.read(text) for name, text in TEXTS.items()}
    table = TABLES[0]
    blueprints = [whole(table, limited.size(limits), ENTRIES) for limits in sets.values()]
    with ExitStack() as stack:
        without, *datapaths = build([whole(table, max_entries=ENTRIES), *blueprints], stack)
        enforced = {
            name: limited.enforce(datapath, limits)
            for (name, limits), datapath in zip(sets.items(), datapaths, strict=True)
        }
        runs = {
            "without the limiter": Run(without.programs["whole"], [FRAME]),
            **{name: one.run(FRAME) for name, one in enforced.items()},
        }
        for run in runs.values():
            workers.run(run, FLOOD)
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                taken[name].append(workers.run(run, PACKETS))
        drains = _drains(enforced["one rule"], rounds)
    figure = section.add("without the limiter", "ns", taken.pop("without the limiter"))
    for name, values in taken.items():
        section.add(name, "ns", values, {"without": figure})
    section.add(f"drain of {ENTRIES:,} sources, CPU", "s", drains)
    return section


def _drains(one: Limited, rounds: int) -> list[float]:
    reader = SourceReader(one.datapath.maps, one.datapath.blueprint.table, one.limits.max_sources)
    tick = tick_ns()
    rules = {
        number: BucketRule(bucket.name, words(bucket.packets, bucket.octets, tick), "enforce")
        for bucket, number in one.numbering.rules.numbers.items()
    }
    taken = []
    for _ in range(rounds):
        jiffies, monotonic = one.datapath.read_clock()
        started = time.thread_time()
        reader.drain(WallClock(Reading(jiffies, monotonic, 0, 0), tick), rules.get, one.limits.ipv6_source_prefix)
        taken.append(time.thread_time() - started)
    return taken
