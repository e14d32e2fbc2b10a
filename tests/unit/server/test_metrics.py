"""A scrape is whole and valid whatever one part of it does, and never larger than it may be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from cnf import config
from cnf.arrays import Records
from cnf.counts import Count
from cnf.export.counters import ExportCounters
from cnf.flows.snapshot import TableState
from cnf.flows.stream import Stream
from cnf.flows.top import FlowLabels
from cnf.interfaces.modes import Attachment
from cnf.interfaces.reconcile import InterfaceState
from cnf.limiter.in_force import SetCounts
from cnf.limiter.source_expiry import SourceTable
from cnf.server import metrics
from cnf.server.live import Live
from cnf.server.metrics import COLLECTORS, Guard, Instruments
from cnf.server.state import State
from tests.unit.samples import Flow, interface_counters, snapshot

Collect = Callable[[State, Live], Iterator[Metric]]

UNLIMITED = 1_000_000
AWKWARD = ['q"x\\y', "back\\slash", "new\nline", "é\u2192\U0001f980", "", " ", "{}=,#", "\\n"]
PLENTY = interface_counters({"tcp": 7, "udp": 2, "malformed": 3}, {"tcp": 700, "udp": 200, "malformed": 90})
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


ACCESS = SimpleNamespace(refused={"handshake": 2, "plain": 0, "password": 5, "busy": 0}, errors=1)
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


def test_every_metric_of_the_contract_is_there() -> None:
    """Names and labels are those that dashboards rely on."""
    samples = scraped(daemon())
    labels = {name: {label for key in found for label, _ in key} for name, found in samples.items()}

    assert labels == {
        "cnf_dropped_packets_total": {"interface", "reason"},
        "cnf_dropped_bytes_total": {"interface", "reason"},
        "cnf_limit_packets_total": {"rule", "verdict"},
        "cnf_limit_bytes_total": {"rule", "verdict"},
        "cnf_limiter_sources": {"family"},
        "cnf_limiter_capacity": {"family"},
        "cnf_limiter_evictions_total": set(),
        "cnf_limiter_insert_errors_total": set(),
        "cnf_limiter_generation": set(),
        "cnf_limit_set_packets_total": {"set", "action", "mode"},
        "cnf_limit_set_bytes_total": {"set", "action", "mode"},
        "cnf_limit_set_prefixes": {"set"},
        "cnf_limit_set_loaded_timestamp_seconds": {"set"},
        "cnf_limit_set_errors_total": {"set"},
        "cnf_limit_set_failing": {"set"},
        "cnf_limiter_protected": set(),
        "cnf_limiter_denied_prefixes": set(),
        "cnf_capture_packets_total": {"result"},
        "cnf_events_lost_total": {"kind"},
        "cnf_web_refused_total": {"reason"},
        "cnf_web_config_errors_total": set(),
        "cnf_history_bytes": set(),
        "cnf_history_oldest_timestamp_seconds": set(),
        "cnf_history_write_errors_total": set(),
        "cnf_flow_records_total": set(),
        "cnf_unrecorded_packets_total": {"direction"},
        "cnf_unrecorded_bytes_total": {"direction"},
        "cnf_export_records_total": {"exporter"},
        "cnf_export_bytes_total": {"exporter"},
        "cnf_export_errors_total": {"exporter", "reason"},
        "cnf_export_lost_total": {"exporter"},
        "cnf_received_packets_total": {"interface", "protocol"},
        "cnf_received_bytes_total": {"interface", "protocol"},
        "cnf_unparsed_packets_total": {"interface", "reason"},
        "cnf_sent_packets_total": {"interface", "protocol"},
        "cnf_sent_bytes_total": {"interface", "protocol"},
        "cnf_sent_unparsed_packets_total": {"interface", "reason"},
        "cnf_flow_table_entries": {"family"},
        "cnf_flow_table_capacity": {"family"},
        "cnf_flow_table_fill_ratio": {"family"},
        "cnf_flows_created_total": set(),
        "cnf_flows_expired_total": set(),
        "cnf_flows_evicted_total": set(),
        "cnf_flow_insert_errors_total": {"reason"},
        "cnf_ledger_packets": {"state", "direction"},
        "cnf_ledger_bytes": {"state", "direction"},
        "cnf_flow_packets_total": {"interface", "protocol", "src", "dst", "src_port", "dst_port", "direction"},
        "cnf_flow_bytes_total": {"interface", "protocol", "src", "dst", "src_port", "dst_port", "direction"},
        "cnf_interface_attached": {"interface", "direction", "mode"},
        "cnf_interface_coverage_ratio": {"interface", "direction"},
        "cnf_interface_state": {"interface", "state"},
        "cnf_link_notifications_lost_total": set(),
        "cnf_drain_age_seconds": set(),
        "cnf_build_info": {"version", "kernel"},
        "cnf_log_lines_lost_total": set(),
        "cnf_log_lines_suppressed_total": set(),
        "cnf_collector_success": {"collector"},
        "cnf_series_suppressed_total": {"collector"},
        "process_cpu_seconds_total": set(),
        "process_resident_memory_bytes": set(),
        "process_virtual_memory_bytes": set(),
        "process_open_fds": set(),
        "process_max_fds": set(),
        "process_start_time_seconds": set(),
    }


def test_received_packets_and_bytes_stand_by_interface_and_protocol() -> None:
    """Each label has its own count, those of 0 too, and malformed packets have their reasons."""
    samples = scraped(daemon())

    assert values(samples, "cnf_received_packets_total") == {
        ("eth0", "tcp"): 7,
        ("eth0", "udp"): 2,
        ("eth0", "malformed"): 3,
    } | {("eth0", label): 0 for label in ("icmp", "icmpv6", "sctp", "gre", "esp", "other", "non_ip")}
    assert values(samples, "cnf_received_bytes_total")["eth0", "tcp"] == 700
    assert values(samples, "cnf_unparsed_packets_total") == {
        ("eth0", "truncated"): 2,
        ("eth0", "bad_header"): 1,
        ("eth0", "vlan_depth"): 0,
        ("eth0", "ext_header_depth"): 0,
    }


def test_what_was_sent_stands_beside_what_was_received() -> None:
    """Each label has its own count, and malformed packets their reasons; where nothing is counted, there is none."""
    counters = interface_counters({"tcp": 1}, {"tcp": 60})
    counters["sent_packets"][:2], counters["sent_bytes"][:2] = (5, 6), (500, 600)
    counters["sent_packets"][-1], counters["sent_unparsed"] = 3, (0, 2, 0, 1)
    samples = scraped(daemon({"eth0": counters}))

    assert values(samples, "cnf_sent_packets_total") == {
        ("eth0", "tcp"): 5,
        ("eth0", "udp"): 6,
        ("eth0", "malformed"): 3,
    } | {("eth0", label): 0 for label in ("icmp", "icmpv6", "sctp", "gre", "esp", "other", "non_ip")}
    assert values(samples, "cnf_sent_bytes_total")["eth0", "udp"] == 600
    assert values(samples, "cnf_sent_unparsed_packets_total") == {
        ("eth0", "truncated"): 0,
        ("eth0", "bad_header"): 2,
        ("eth0", "vlan_depth"): 0,
        ("eth0", "ext_header_depth"): 1,
    }
    assert values(samples, "cnf_received_packets_total")["eth0", "tcp"] == 1
    assert not values(scraped(daemon({"eth0": counters}, egress=False)), "cnf_sent_packets_total")


def test_flow_tables_are_told_by_family() -> None:
    """Entries, places and fill are each family's; comings and goings are of all flows."""
    drained = replace(
        snapshot(),
        tables={
            "ipv4": TableState(50, 100, 50, 70, 15, 5, {"no_memory": 1, "busy": 2, "raced": 0, "other": 0}),
            "ipv6": TableState(10, 100, 50, 10, 0, 0, {"no_memory": 0, "busy": 3, "raced": 0, "other": 0}),
        },
    )
    samples = scraped(daemon(snapshot=drained))
    names = ("flows_created_total", "flows_expired_total", "flows_evicted_total")

    assert values(samples, "cnf_flow_table_entries") == {("ipv4",): 50, ("ipv6",): 10}
    assert values(samples, "cnf_flow_table_capacity") == {("ipv4",): 100, ("ipv6",): 100}
    assert [values(samples, f"cnf_{name}")[()] for name in names] == [80, 15, 5]
    assert values(samples, "cnf_flow_table_fill_ratio") == {("ipv4",): 0.5, ("ipv6",): 0.1}
    assert values(samples, "cnf_flow_insert_errors_total") == {
        ("no_memory",): 1,
        ("busy",): 5,
        ("raced",): 0,
        ("other",): 0,
    }


def test_the_ledger_adds_up_to_what_was_received() -> None:
    """The sum over the states of a direction is that over its counters."""
    live = Flow(packets=9, bytes=900), Flow(packets=5, bytes=400, sent=True)
    counters = PLENTY.copy()
    counters["sent_packets"][:], counters["sent_bytes"][:] = [5, *[0] * 9], [400, *[0] * 9]
    samples = scraped(daemon({"eth0": counters}, snapshot=snapshot(*live, received={"eth0": counters})))

    for unit in ("packets", "bytes"):
        for direction, name in (("ingress", "received"), ("egress", "sent")):
            ledger = values(samples, f"cnf_ledger_{unit}")
            assert sum(count for (way, _), count in ledger.items() if way == direction) == sum(
                values(samples, f"cnf_{name}_{unit}_total").values()
            )


def test_an_interface_is_attached_or_not() -> None:
    """The mode is the one in use, or the one that was asked for where it is not attached; the state says why not."""
    states = (
        InterfaceState("eth0", "auto", "attached", mode="native", directions=(INGRESS, NO_EGRESS)),
        InterfaceState("eth1", "native", "refused"),
        InterfaceState("ens*", "auto", "missing"),
    )

    samples = scraped(daemon(interfaces=states))

    assert values(samples, "cnf_interface_attached") == {
        ("ingress", "eth0", "generic"): 1,
        ("egress", "eth0", "auto"): 0,
        ("ingress", "eth1", "native"): 0,
        ("ingress", "ens*", "auto"): 0,
    }
    assert values(samples, "cnf_interface_state") == {
        ("eth0", "attached"): 1,
        ("eth1", "refused"): 1,
        ("ens*", "missing"): 1,
    }


def test_coverage_stands_where_it_is_known() -> None:
    """A direction whose share nobody knows has no sample, so that no alarm goes off."""
    assert values(scraped(daemon()), "cnf_interface_coverage_ratio") == {("ingress", "eth0"): 0.75}


def test_rules_and_sources_are_counted() -> None:
    """Each rule has its verdicts, and the tables of both families are summed."""
    samples = scraped(daemon())

    assert values(samples, "cnf_limit_packets_total") == {
        ("default", "passed"): 3,
        ("default", "limited"): 2,
        ("default", "would_limit"): 0,
        ("dns", "passed"): 0,
        ("dns", "limited"): 0,
        ("dns", "would_limit"): 9,
    }
    assert values(samples, "cnf_limit_bytes_total")["dns", "would_limit"] == 90
    assert values(samples, "cnf_limiter_sources") == {("ipv4",): 5, ("ipv6",): 7}
    assert values(samples, "cnf_limiter_capacity") == {("ipv4",): 100, ("ipv6",): 100}
    assert values(samples, "cnf_limiter_evictions_total") == {(): 3}
    assert values(samples, "cnf_limiter_insert_errors_total") == {(): 1}
    assert values(samples, "cnf_limiter_protected") == {(): 1}
    assert values(samples, "cnf_limiter_denied_prefixes") == {(): 3}


def test_sets_are_counted() -> None:
    """By what they do, and apart what came while they only counted; their files are what was read of them."""
    samples = scraped(daemon())
    assert values(samples, "cnf_limit_set_packets_total") == {
        ("deny", "enforce", "drop"): 4,
        ("deny", "shadow", "drop"): 6,
    }
    assert values(samples, "cnf_limit_set_bytes_total") == {
        ("deny", "enforce", "drop"): 400,
        ("deny", "shadow", "drop"): 600,
    }
    files = [
        values(samples, f"cnf_limit_set_{name}")
        for name in ("prefixes", "loaded_timestamp_seconds", "errors_total", "failing")
    ]
    assert files == [{("drop",): number} for number in (4, 17e8, 2, 1)]


def test_what_describes_the_daemon_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The age of the drain, what was lost and left out, and the rule sets, are each the figure of just that."""
    monkeypatch.setattr(metrics, "lost_lines", lambda: 11)
    monkeypatch.setattr(metrics, "suppressed_lines", lambda: 13)
    samples = scraped(daemon(drained_at=time.monotonic() - 1000, lost_notifications=7))

    names = ("link_notifications_lost_total", "log_lines_lost_total", "log_lines_suppressed_total")
    assert [values(samples, f"cnf_{name}") for name in (*names, "limiter_generation")] == [
        {(): number} for number in (7, 11, 13, 4)
    ]
    assert values(samples, "cnf_drain_age_seconds")[()] >= 1000
    assert values(samples, "cnf_events_lost_total") == {
        ("first_drop",): 5,
        ("rule_generation",): 0,
        ("flow_evicted",): 123,
    }


def test_the_history_is_shown_as_it_is() -> None:
    """Bytes, where it begins, and errors; without a block it begins nowhere, and without records there is none."""
    samples = scraped(daemon())
    assert values(samples, "cnf_history_bytes") == {(): 13_000_000}
    assert values(samples, "cnf_history_oldest_timestamp_seconds") == {(): 1_700_000_000.5}
    assert values(samples, "cnf_history_write_errors_total") == {(): 3}
    empty = scraped(daemon(history=SimpleNamespace(bytes=0, oldest=None, write_errors=0)))
    assert values(empty, "cnf_history_oldest_timestamp_seconds") == {}
    assert values(scraped(daemon(history=None)), "cnf_history_bytes") == {}


def test_what_exporters_have_sent_is_shown_by_exporter() -> None:
    """Records, bytes, losses and errors, also the reasons for which nothing has failed."""
    samples = scraped(daemon())

    assert values(samples, "cnf_export_records_total") == {("192.0.2.9:4739",): 3}
    assert values(samples, "cnf_export_bytes_total") == {("192.0.2.9:4739",): 400}
    assert values(samples, "cnf_export_lost_total") == {("192.0.2.9:4739",): 2}
    assert values(samples, "cnf_export_errors_total") == {
        ("192.0.2.9:4739", "refused"): 1,
        ("192.0.2.9:4739", "name"): 0,
    }


def test_drops_are_counted_by_their_reason() -> None:
    """What a bucket dropped, what the list deny, and what could not be read, are told apart."""
    counters = interface_counters({"udp": 9}, {"udp": 900})
    counters["dropped_packets"], counters["dropped_bytes"] = (3, 1, 2), (300, 100, 200)
    samples = scraped(daemon({"eth0": counters}))

    reasons = {"limited": 3, "denied": 1, "unreadable": 2}
    assert values(samples, "cnf_dropped_packets_total") == {("eth0", name): count for name, count in reasons.items()}
    assert values(samples, "cnf_dropped_bytes_total") == {("eth0", name): 100 * n for name, n in reasons.items()}


def test_without_limits_there_are_no_metrics_of_them() -> None:
    """A daemon that was started without limits says nothing of rules."""
    assert not any(name.startswith("cnf_limit") for name in scraped(daemon(limiter=None)))


def test_a_scrape_before_the_first_drain_is_valid() -> None:
    """What is not known yet is left out or 0; every collector succeeds."""
    samples = scraped(daemon(snapshot=None, series={}, interfaces=()))

    assert set(values(samples, "cnf_collector_success").values()) == {1}
    assert values(samples, "cnf_flow_table_entries") == {}


@pytest.mark.parametrize("broken", COLLECTORS, ids=lambda collector: collector.__name__)
def test_a_collector_that_fails_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch, broken: Collect) -> None:
    """The others' families are all there; the failure is a metric and a log line."""

    def failing(state: State, live: Live) -> Iterator[Metric]:
        yield next(iter(broken(state, live)))
        message = "no such luck"
        raise RuntimeError(message)

    failing.__name__ = broken.__name__
    whole = scraped(daemon())
    monkeypatch.setattr(metrics, "COLLECTORS", tuple(failing if each is broken else each for each in COLLECTORS))
    with capture_logs() as logs:
        samples = scraped(daemon())

    families = {f"{family.name}{'_total' * (family.type == 'counter')}" for family in broken(*daemon())}
    assert samples.keys() == whole.keys() - families
    assert values(samples, "cnf_collector_success") == {
        (collector.__name__,): float(collector is not broken) for collector in COLLECTORS
    }
    assert [(line["event"], line["collector"]) for line in logs] == [("collector failed", broken.__name__)]
    assert "no such luck" in logs[0]["error"]


def test_counters_that_cannot_be_read_fail_alone() -> None:
    """When the kernel refuses the live counters, all that comes from the snapshot is still served."""

    def refused() -> Mapping[str, Records]:
        message = "map interface_counters"
        raise PermissionError(message)

    samples = scraped(daemon(totals=refused))

    assert values(samples, "cnf_collector_success")[("received",)] == 0
    assert values(samples, "cnf_ledger_packets")["ingress", "live"] == 8


@given(left=st.integers(1, 160))
def test_a_scrape_has_no_more_series_than_it_may(left: int) -> None:
    """What is left out is the end of the list, and is counted under its collector."""
    whole, cut = scraped(daemon()), scraped(daemon(), left)
    guards_own = {"cnf_collector_success", "cnf_series_suppressed_total"}
    suppressed = values(cut, "cnf_series_suppressed_total")
    kept = sum(len(found) for name, found in cut.items() if name not in guards_own)
    total = sum(len(found) for name, found in whole.items() if name not in guards_own)

    assert kept == min(left, total)
    assert sum(suppressed.values()) == total - kept
    assert all(found.keys() <= whole[name].keys() for name, found in cut.items())
    assert suppressed.keys() == {(collector.__name__,) for collector in COLLECTORS}
    assert values(cut, "cnf_build_info") or left < 2


def test_suppressed_series_are_a_counter() -> None:
    """Each scrape adds what it left out; a limit that is raised takes effect at the next."""
    shown = daemon()
    guard = bounded(shown, 10)
    once = sum(values(scrape(guard), "cnf_series_suppressed_total").values())
    twice = sum(values(scrape(guard), "cnf_series_suppressed_total").values())
    shown[0].settings = attrs.evolve(shown[0].settings, metrics=config.Metrics(max_series=UNLIMITED))
    thrice = sum(values(scrape(guard), "cnf_series_suppressed_total").values())

    assert once > 0
    assert (twice, thrice) == (2 * once, 2 * once)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_label_may_hold_any_character(name: str) -> None:
    """Quotes, backslashes, line breaks and what is not ASCII come out of Prometheus's parser as they went in."""
    series = {FlowLabels(name, "tcp", name, name, "1", "2", "egress"): Count(1, 2)}
    states = (InterfaceState(name, "auto", "attached", mode="native", directions=(INGRESS,)),)
    samples = scraped(daemon({name: PLENTY}, series=series, interfaces=states, build_info={"kernel": name}))

    assert values(samples, "cnf_received_packets_total")[name, "tcp"] == 7
    assert values(samples, "cnf_flow_bytes_total") == {("egress", name, "2", name, "tcp", name, "1"): 2}
    assert values(samples, "cnf_interface_attached") == {("ingress", name, "generic"): 1}
    assert values(samples, "cnf_build_info") == {(name,): 1}


def test_the_largest_counts_are_shown_as_near_as_prometheus_can() -> None:
    """Samples are 64-bit floating point; a counter of 2^63 does not break the scrape."""
    counters = interface_counters({"tcp": 2**63}, {"tcp": 2**64 - 1})

    assert values(scraped(daemon({"eth0": counters})), "cnf_received_packets_total")["eth0", "tcp"] == 2**63


def test_drains_are_counted_and_timed_as_they_happen() -> None:
    """The instruments stand beside the collectors in one registry."""
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    instruments.drain_duration.observe(0.02)
    instruments.drain_errors.inc()

    assert registry.get_sample_value("cnf_drain_duration_seconds_count") == 1
    assert registry.get_sample_value("cnf_drain_duration_seconds_bucket", {"le": "0.025"}) == 1
    assert registry.get_sample_value("cnf_drain_duration_seconds_bucket", {"le": "0.01"}) == 0
    assert registry.get_sample_value("cnf_drain_errors_total") == 1
