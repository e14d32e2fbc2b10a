"""What others wait for: a scrape while a drain runs, and ``cnfctl flows`` on a million flows."""

from __future__ import annotations

import threading
import time
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest

from bench.report import Section
from bench.table import FLOWS, Filled
from cnf.flows.query import select
from cnf.flows.snapshot import Snapshot
from cnf.flows.top import PROVEN, FlowSeries
from cnf.server.guard import Guard
from cnf.server.instruments import Instruments
from cnf.server.live import Live
from cnf.server.state import State

FILTER: Final = "src net 10.0.0.0/9 and dst port 443 and not udp"
TOP: Final = 20


def measure(table: Filled, rounds: int) -> Section:
    """Time scrapes, at rest and during drains, and queries of one snapshot."""
    section = Section(f"scrape with default settings, and the {TOP} largest of {FLOWS:,} flows")
    with table.on_the_wire():
        table.touch_at_random(FLOWS)
        series = FlowSeries()
        for _ in range(PROVEN):
            table.touch(FLOWS)  # so that the largest stay the largest
            snapshot = table.tracker.drain()
            series.update(snapshot, table.settings.metrics.top_flows)
        state = State(table.settings, "bench", {"bcc_version": table.datapath.bcc_version})
        state.interfaces, state.snapshot, state.series = table.interfaces.states, snapshot, series.values
        registry = CollectorRegistry()
        registry.register(Guard(state, Live(table.interfaces.tallies.totals), structlog.get_logger()))
        Instruments(registry)
        section.add("scrape at rest", "ms", _scrapes(registry, rounds))
        enough = threading.Event()
        drains = threading.Thread(target=_drain_until, args=(table, enough))
        drains.start()
        try:
            section.add("scrape while the table is drained", "ms", _scrapes(registry, 5 * rounds, pause=0.02))
        finally:
            enough.set()
            drains.join()
    for name, expression in (("query without a filter", ""), (f"query {FILTER}", FILTER)):
        section.add(name, "ms", _queries(snapshot, expression, rounds))
    return section


def _scrapes(registry: CollectorRegistry, count: int, pause: float = 0.0) -> list[float]:
    """Time ``count`` scrapes; a ``pause`` in between spreads them over a drain's parts."""
    taken = []
    for _ in range(count):
        time.sleep(pause)
        started = time.monotonic()
        generate_latest(registry)
        taken.append(1000 * (time.monotonic() - started))
    return taken


def _drain_until(table: Filled, enough: threading.Event) -> None:
    while not enough.is_set():
        table.tracker.drain()


def _queries(snapshot: Snapshot, expression: str, rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        started = time.monotonic()
        list(select(snapshot, expression, "bytes", TOP).flows())
        taken.append(1000 * (time.monotonic() - started))
    return taken
