"""Measure everything, print it as one table, and say which bars it meets."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from bench import (
    cycle,
    datapath,
    drain,
    limiter,
    machine,
    rule_sets,
    scrape,
    service,
    sources,
    subjects,
    table,
    tc,
    throughput,
    veth,
    wire,
)
from bench.comparison import Comparison
from bench.report import Section, verdicts
from bench.turns import Workers
from cnf.process import log

QUICK: Final = 5
FULL: Final = 11
"""Rounds."""
NICE: Final = -10
"""Others get the CPU less often while it measures."""


class Report:
    """What has been measured: printed at once, and kept for JSON."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.sections: list[Section] = []
        self.document: dict[str, Any] = {}

    def put(self, name: str, section: Section) -> None:
        """Add the section that JSON calls ``name``."""
        self.show(section)
        self.document[name] = section.document()

    def show(self, section: Section) -> None:
        """Add a section that JSON has elsewhere."""
        print("", *section.lines(), sep="\n", flush=True)
        self.sections.append(section)

    def conclude(self) -> None:
        """Say which bars are met."""
        bars = self.document["bars"] = list(verdicts(self.sections))
        missed = [f"{bar['bar']}, {bar['of']}" for bar in bars if not bar["met"]]
        print(f"\n{len(bars) - len(missed)} of {len(bars)} bars met; missed:", *missed, sep="\n  ")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and sections: less than a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    arguments = parser.parse_args()
    log.configure("error", "console", sys.stderr)
    os.setpriority(os.PRIO_PROCESS, 0, NICE)
    wire.make()
    report = Report()
    measure(report, quick=arguments.quick)
    report.conclude()
    if arguments.json:
        arguments.json.write_text(json.dumps(report.document, indent=2) + "\n", encoding="utf-8")


def measure(report: Report, *, quick: bool) -> None:
    """Measure section by section."""
    rounds = QUICK if quick else FULL
    tables = subjects.TABLES[:1] if quick else subjects.TABLES
    noise = machine.Noise()
    with subjects.loaded() as programs, Workers(sorted(os.sched_getaffinity(0))[:2]) as workers:
        report.document["machine"] = machine.describe(programs.bare.bcc_version)
        print(report.document["machine"])
        comparison = Comparison(datapath.measure(programs, workers, rounds))
        report.document["datapath"] = comparison.rows
        for section in comparison.sections:
            report.show(section)
        report.put("veth", veth.measure(programs, rounds))
        start, memory = service.measure(programs.bare.programs["send"], tables, QUICK)
        report.put("start", start)
        report.put("memory", memory)
    with table.filled() as filled:
        report.put("drain", drain.measure(filled, tables, rounds))
        report.put("cycle", cycle.measure({name: filled[name] for name in tables}, rounds, expiry=not quick))
        if not quick:
            report.put("scrape", scrape.measure(filled[subjects.TABLES[0]], rounds))
    if not quick:
        with Workers(workers.cpus[:1]) as worker:
            report.put("tc", tc.measure(worker, rounds))
            report.put("limiter", limiter.measure(worker, rounds))
            report.put("sources", sources.measure(worker, rounds))
        report.put("throughput", throughput.measure(rounds))
        report.put("rule_sets", rule_sets.measure(rounds))
    report.document["noise"] = noise.document(comparison.bare(), workers.together)
    report.show(machine.section(report.document["noise"]))


if __name__ == "__main__":
    main()
