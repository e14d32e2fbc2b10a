"""A flood of more sources than the table holds, and reading the table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import limited
from bench.datapath import FRAME4
from bench.limited import Limited
from bench.report import Section
from bench.rule_sets import many_rules
from bench.turns import Run, take_turns
from cnf.bucket import words
from cnf.clock import Reading, WallClock
from cnf.kernel.counters import TableCounters
from cnf.kernel.program import Datapath, tick_ns
from cnf.sources import IDLE, BucketRule, SourceReader, Sources

FLOOD: Final = 1_000_000
SHARED: Final = limited.ONE_RULE.replace("1_000_000_000", '1\nbucket = "prefix"')
FORGETTING: Final = 3


def measure(plain: Datapath, cpus: Sequence[int], rounds: int) -> Iterator[Section]:
    """Send from FLOOD sources, then read what has remained of them."""
    with ExitStack() as stack:
        one, many, shared = (
            stack.enter_context(limited.in_force(text)) for text in (limited.ONE_RULE, many_rules(), SHARED)
        )
        notes = _flood(one, cpus[:1])
        runs = {
            "without the limiter": Run(plain.programs["whole_new4"], FRAME4),
            "one rule": one.run(FRAME4, "whole_new4"),
            "10,000 rules": many.run(FRAME4, "whole_new4"),
            "one bucket for all, dropped": shared.run(FRAME4, "whole_new4"),
        }
        section = Section(
            "limiter, every packet a new source, full tables", reference="without the limiter", notes=notes
        )
        for name, values in take_turns(runs, cpus[:1], rounds, FLOOD // 4).items():
            section.add(name, values, "ns")
        yield section
        yield _reading(one, cpus[:1], rounds)


def _flood(one: Limited, cpus: Sequence[int]) -> list[str]:
    """Fill an empty table, and say what became of the sources."""
    reader, before = _reader(one), _memory(one.datapath)
    take_turns({"flood": one.run(FRAME4, "whole_new4")}, cpus, 0, FLOOD)
    present = sum(len(keys) for keys, _values in one.maps.sources["ipv4"].batches())
    inserted = TableCounters(one.datapath.maps).read_sources("ipv4").inserted
    evicted = _drain(reader, one).tables["ipv4"].evicted
    return [
        f"{FLOOD:,} sources: {inserted:,} inserted, {present:,} present, {evicted:,} counted as evicted"
        + ("" if FLOOD == inserted == present + evicted else ": which does not add up"),
        f"memory of the limiter's maps: {before / 1e6:.1f} MB before, {_memory(one.datapath) / 1e6:.1f} MB after",
    ]


def _reading(one: Limited, cpus: Sequence[int], rounds: int) -> Section:
    table, reader = one.maps.sources["ipv4"], _reader(one)
    loop, drain, forget = [], [], []
    for turn in range(rounds + 1):
        started = time.thread_time()
        entries = sum(len(keys) for keys, _values in table.batches())
        read = time.thread_time()
        _drain(reader, one)
        if turn:
            loop.append(read - started)
            drain.append(time.thread_time() - read)
    for _ in range(FORGETTING):
        started = time.thread_time()
        _drain(reader, one, later=2 * IDLE)
        forget.append(time.thread_time() - started)
        take_turns({"flood": one.run(FRAME4, "whole_new4")}, cpus, 0, entries)
    section = Section(f"drain of {entries:,} sources, CPU", reference="the loop")
    section.add("batches, nothing done with them", loop, "s")
    section.add("the daemon's drain", drain, "s")
    section.add("the same, all of them idle and forgotten", forget, "s")
    return section


def _reader(one: Limited) -> SourceReader:
    return SourceReader(one.maps.sources, TableCounters(one.datapath.maps), one.limits.max_sources)


def _drain(reader: SourceReader, one: Limited, later: float = 0.0) -> Sources:
    """Drain as the daemon does, ``later`` seconds from now."""
    tick = tick_ns()
    rules = {
        number: BucketRule(bucket.name, words(bucket.packets, bucket.octets, tick))
        for bucket, number in one.numbering.rules.numbers.items()
    }
    jiffies, monotonic = one.datapath.read_clock()
    clock = WallClock(Reading(jiffies + round(later * 1e9 / tick), monotonic, 0, 0), tick)
    return reader.drain(clock, rules.get, one.limits.ipv6_source_prefix)


def _memory(loaded: Datapath) -> int:
    """Return the bytes that the kernel holds for the limiter's maps, as fdinfo of proc(5) has it."""
    infos = [
        Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii")
        for name, fd in loaded.maps.items()
        if name.startswith("limit_")
    ]
    return sum(int(dict(line.split(":", 1) for line in info.splitlines())["memlock"]) for info in infos)
