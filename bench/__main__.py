"""Measure everything and print it, section by section."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from bench import daemon, datapath, drain, limiter, rule_sets, scrape, sources, table, veth, wire
from bench.report import Section
from cnf import log
from cnf.config import Flows
from cnf.kernel.program import Datapath

STARTS: Final = 5


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench/run.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a minute and a half")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    arguments = parser.parse_args()
    log.configure("error", "console", sys.stderr)
    wire.make()
    programs = datapath.build(Flows().max_entries)
    machine = _machine(programs.bcc_version)
    print(machine)
    sections = []
    for section in _sections(programs, 5 if arguments.quick else 11):
        print("", *section.lines(), sep="\n", flush=True)
        sections.append(section.document())
    if arguments.json:
        document = {"machine": machine, "sections": sections}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _sections(programs: Datapath, rounds: int) -> Iterator[Section]:
    cpus = sorted(os.sched_getaffinity(0))
    try:
        for together in range(1, min(len(cpus), 2) + 1):
            yield datapath.measure(programs, cpus[:together], 2 * rounds)  # the shortest runs, disturbed the most
        yield from veth.measure(programs, rounds)
        yield from limiter.measure(programs, cpus[:2], 2 * rounds)
        yield from sources.measure(programs, cpus, rounds)
    finally:
        programs.close()
    yield rule_sets.measure(rounds)
    with table.filled() as flows:
        yield drain.measure_walk(flows, rounds)
        yield drain.measure_cycle(flows, rounds)
        yield from scrape.measure(flows, rounds)
    yield daemon.measure(STARTS)


def _machine(bcc_version: str) -> str:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "CPU")
    software = f"Linux {platform.release()}, BCC {bcc_version}, Python {platform.python_version()}"
    return f"{os.cpu_count()} x {model}, {software}, numpy {np.__version__}"


if __name__ == "__main__":
    main()
