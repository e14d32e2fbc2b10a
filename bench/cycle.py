"""The whole cycle over a million flows, as the daemon's one thread runs it: drain, differences, expiry, ledger, top."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import attrs

from bench.report import Bar, Section
from bench.table import FLOWS, Filled
from cnf.datapath.blueprint import Table
from cnf.flows.top import FlowSeries

CHANGED: Final = FLOWS // 10
EXPIRING: Final = FLOWS // 20
EXPIRIES: Final = 2


def measure(tables: Mapping[Table, Filled], rounds: int, *, expiry: bool) -> Section:
    """Time drains with a tenth of the flows changed in between; then, with ``expiry``, some that let flows go."""
    section = Section(f"cycle over {FLOWS:,} flows")
    for name, table in tables.items():
        series, top = FlowSeries(), table.settings.metrics.top_flows
        cpu: list[float] = []
        wall: list[float] = []
        expiring: list[float] = []

        def cycle(table: Filled = table, series: FlowSeries = series, top: int = top) -> tuple[float, float]:
            started_cpu, started = time.thread_time(), time.monotonic()
            series.update(table.tracker.drain(), top)
            return time.thread_time() - started_cpu, time.monotonic() - started

        with table.on_the_wire():
            cycle()
            for _ in range(rounds):
                table.touch(CHANGED)
                for values, value in zip((cpu, wall), cycle(), strict=True):
                    values.append(value)
            for _ in range(EXPIRIES if expiry else 0):
                started = time.monotonic()
                table.touch(FLOWS - EXPIRING)
                lasting = table.settings.flows
                table.tracker.apply(attrs.evolve(lasting, idle_timeout=time.monotonic() - started))
                expiring.append(cycle()[0])
                table.tracker.apply(lasting)
                table.touch(EXPIRING)
        section.add(f"{name}, CPU, 10 % of the flows changed", "s", cpu, None, Bar("whole cycle", 0.12, 0.09))
        section.add(f"{name}, wall clock", "s", wall)
        if expiry:
            section.add(f"{name}, CPU, 5 % of the flows expiring", "s", expiring)
    return section
