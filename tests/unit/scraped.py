"""A scrape of all that a daemon shows, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final

import attrs
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cnf import config
from cnf.arrays import Records
from cnf.counts import Count
from cnf.export.counters import ExportCounters
from cnf.flows.stream import Stream
from cnf.flows.top import FlowLabels
from cnf.interfaces.modes import Attachment
from cnf.interfaces.reconcile import InterfaceState
from cnf.limiter.in_force import SetCounts
from cnf.limiter.source_expiry import SourceTable
from cnf.server.guard import Guard
from cnf.server.live import Live
from cnf.server.state import State
from tests.unit.samples import Flow, interface_counters, snapshot

UNLIMITED: Final = 1_000_000
PLENTY: Final = interface_counters({"tcp": 7, "udp": 2, "malformed": 3}, {"tcp": 700, "udp": 200, "malformed": 90})
PLENTY["unparsed"] = (2, 1, 0, 0)


class Limits:
    """What the collector asks of a limiter."""

    in_force = SimpleNamespace(
        generation=4,
        protected=("192.0.2.7/32",),
        effective=SimpleNamespace(limits=SimpleNamespace(deny=("10.0.0.0/8", "192.0.2.0/24", "::1/128"))),
    )
    sources = SimpleNamespace(tables={"ipv4": SourceTable(5, 100, 50, 2, 1), "ipv6": SourceTable(7, 100, 50, 1, 0)})

    sets = SimpleNamespace(
        counts=lambda: {("drop", "deny"): SetCounts(Count(4, 400), Count(6, 600))},
        files=[SimpleNamespace(set=SimpleNamespace(name="drop"), prefixes="four", loaded=17e8, errors=2, error="x")],
    )

    def counts(self) -> dict[str, list[Count]]:
        """Return what two rules have counted."""
        return {"default": [Count(3, 300), Count(2, 200), Count()], "dns": [Count(), Count(), Count(9, 90)]}


class Events:
    """What the collector asks of a reader of events."""

    def lost(self) -> dict[str, int]:
        """Return what found the ring full."""
        return {"first_drop": 5, "rule_generation": 0, "flow_evicted": 123}


def sending() -> ExportCounters:
    """Return the counters of an exporter that has sent three records of five, and failed once."""
    counters = ExportCounters("192.0.2.9:4739", ("refused", "name"))
    counters.sent(3, 400)
    counters.lose(2)
    counters.fail("refused", "Connection refused")
    return counters


ACCESS = SimpleNamespace(refused={"handshake": 2, "plain": 0, "password": 5, "busy": 0}, errors=1, is_failing=True)
CAPTURE = SimpleNamespace(counts=lambda: {"captured": 3, "over_budget": 2, "ring_full": 0})
HISTORY = SimpleNamespace(bytes=13_000_000, oldest=1_700_000_000.5, write_errors=3)
Shown = tuple[State, Live]
INGRESS = Attachment("ingress", "generic", "xdp", 9, "as configured", coverage=0.75)
NO_EGRESS = Attachment("egress", None, None, None, "the kernel refused")


def daemon(counters: Mapping[str, Records] | None = None, **attributes: object) -> Shown:
    """Return what a daemon shows that has counted ``counters`` and drained once; or with other ``attributes``."""
    counted = {"eth0": PLENTY} if counters is None else counters
    live: dict[str, Any] = {"totals": lambda: counted, "limiter": Limits(), "events": Events(), "egress": True}
    live["stream"], live["capture"] = Stream(), CAPTURE
    live["exports"] = lambda: (sending(),)
    live["history"] = HISTORY
    live["access"] = ACCESS
    live |= {name: attributes.pop(name) for name in (*live,) if name in attributes}
    state = State(
        settings=config.for_interfaces(["eth0"]),
        config_source="command line",
        build_info={"version": "1.2.3", "kernel": "6.1.0"},
        interfaces=(InterfaceState("eth0", "auto", "attached", 1, "generic", 9, directions=(INGRESS, NO_EGRESS)),),
        snapshot=snapshot(Flow(packets=7, bytes=700), Flow(src="2001:db8::1", dst="2001:db8::2"), received=counted),
        series={FlowLabels("eth0", "tcp", "192.0.2.1", "198.51.100.2", "40000", "443", "ingress"): Count(7, 700)},
    )
    for name, value in attributes.items():
        setattr(state, name, value)
    return state, Live(**live)


def bounded(shown: Shown, max_series: int) -> Guard:
    """Return what bounds a scrape to so many series."""
    state, live = shown
    state.settings = attrs.evolve(state.settings, metrics=config.Metrics(max_series=max_series))
    return Guard(state, live, structlog.get_logger())


Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def scrape(guard: Guard) -> Samples:
    """Return the samples that a Prometheus server would read, by name and labels."""
    registry = CollectorRegistry()
    registry.register(guard)
    samples: Samples = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found = samples.setdefault(sample.name, {})
            labels = tuple(sample.labels.items())
            assert labels not in found, f"{sample.name}{labels} stands twice"
            found[labels] = sample.value
    return samples


def scraped(shown: Shown, max_series: int = UNLIMITED) -> Samples:
    """Scrape once."""
    return scrape(bounded(shown, max_series))


def values(samples: Samples, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric by the values of its labels, in the order of the labels' names."""
    return {tuple(value for _, value in sorted(labels)): number for labels, number in samples.get(name, {}).items()}
