"""A metric has the name, the labels and the value that it promises, whatever it is about."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cnf.counts import Count
from cnf.flows.snapshot import TableState
from cnf.flows.top import FlowLabels
from cnf.interfaces.reconcile import InterfaceState
from cnf.server import metrics
from tests.unit.samples import Flow, interface_counters, snapshot
from tests.unit.scraped import INGRESS, NO_EGRESS, PLENTY, daemon, scraped, values

AWKWARD = ['q"x\\y', "back\\slash", "new\nline", "é\u2192\U0001f980", "", " ", "{}=,#", "\\n"]


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
        "cnf_web_config_failing": set(),
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
