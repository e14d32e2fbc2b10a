"""A blueprint has what the configuration asks for, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cnf import abi
from cnf.datapath import blueprint
from cnf.datapath.blueprint import (
    CAPTURE_MAPS,
    CLOCK,
    DIRECT_ENTRIES,
    EVICTED_RING_BYTES,
    LAYOUT_SOURCES,
    LIMIT_GROUPS,
    LIMITER_MAPS,
    RING_BYTES,
    SOURCE,
    TABLES,
    Blueprint,
    LimiterSize,
)
from cnf.kernel.hooks import HOOKS, TC_EGRESS, TC_INGRESS, XDP


def test_a_blueprint_names_only_what_is_compiled_in() -> None:
    """Without IPv6 there is no table for it, and the source is told so."""
    assert Blueprint(10, "lru_hash", ipv6=False, vlan=False).maps == (
        "flows4",
        *CAPTURE_MAPS,
        "capture_xdp",
        "table_counters",
        "interfaces",
        "interfaces_direct",
        "interface_counters",
        "handover",
    )
    assert Blueprint(10, "lru_hash", ipv6=False, vlan=False).defines == {
        "CNF_CACHE": 0,
        "CNF_MAX_ENTRIES": 10,
        "CNF_MAX_INTERFACES": 1024,
        "CNF_COUNT_capture_until": 1,
        "CNF_DIRECT_capture_until": 0,
        "CNF_COUNT_interfaces_direct": 16384,
        "CNF_DIRECT_interfaces_direct": 0,
        "CNF_IPV6": 0,
        "CNF_VLAN": 0,
        "CNF_EGRESS": 0,
        "CNF_FLOW_RECORDS": 0,
        "CNF_FINISHED_EVENTS": 0,
        "CNF_RING_BYTES": 0,
        "CNF_FLOW_DROPS": 0,
        "CNF_LIMITER": 0,
    }
    assert Blueprint(10, "cache").maps == (
        "flows4",
        "flows6",
        "cache_secrets",
        "cache_crowded",
        "flow_settings",
        *CAPTURE_MAPS,
        "capture_xdp",
        "table_counters",
        "interfaces",
        "interfaces_direct",
        "interface_counters",
        "handover",
    )
    assert Blueprint(10, "cache").defines == {
        "CNF_CACHE": 1,
        "CNF_MAX_ENTRIES": 10,
        "CNF_MAX_INTERFACES": 1024,
        "CNF_COUNT_flows4": 3,
        "CNF_COUNT_flows6": 3,
        "CNF_COUNT_cache_secrets": 1,
        "CNF_COUNT_cache_crowded": 4,
        "CNF_COUNT_flow_settings": 1,
        "CNF_COUNT_capture_until": 1,
        "CNF_DIRECT_capture_until": 1,
        "CNF_COUNT_interfaces_direct": 16384,
        "CNF_DIRECT_flows4": 1,
        "CNF_DIRECT_flows6": 1,
        "CNF_DIRECT_cache_secrets": 1,
        "CNF_DIRECT_cache_crowded": 1,
        "CNF_DIRECT_flow_settings": 1,
        "CNF_DIRECT_interfaces_direct": 1,
        "CNF_IPV6": 1,
        "CNF_VLAN": 1,
        "CNF_EGRESS": 0,
        "CNF_FLOW_RECORDS": 0,
        "CNF_FINISHED_EVENTS": 0,
        "CNF_RING_BYTES": 0,
        "CNF_FLOW_DROPS": 0,
        "CNF_LIMITER": 0,
    }


def test_tables_that_no_program_can_address_are_looked_up_by_number() -> None:
    """The verifier adds no more than 2^29 to an address, and IPv6 has the largest entries."""
    largest, larger = Blueprint(DIRECT_ENTRIES), Blueprint(DIRECT_ENTRIES + 1)

    assert largest.direct["flows6"] * abi.FLOW6_SET.itemsize < 1 << 29
    assert {"flows4", "flows6"} & {*larger.direct} == set()
    assert {"flows4", "flows6"} <= {*larger.counts}
    limited = Blueprint(64, limiter=LimiterSize(DIRECT_ENTRIES + 1, 32, 32), flow_records=True)
    assert {*limited.counts} - {*limited.direct} == TABLES


def test_numbers_are_those_of_abi() -> None:
    """They are here once more, as that module loads numpy."""
    assert (abi.WAYS, abi.LIMIT_GROUPS, len(abi.TRAFFIC)) == (blueprint.WAYS, LIMIT_GROUPS, blueprint.TRAFFIC_CLASSES)


def test_only_the_entry_points_of_the_hooks_are_built() -> None:
    """Each direction has its own; what is sent has counters only where it is counted, and the clock is always there."""
    received, sent = Blueprint(10, hooks=(TC_INGRESS,)), Blueprint(10, hooks=(XDP, TC_EGRESS))

    assert received.programs == {"cnf_skb_ingress": 3, "cnf_capture_in": 3, CLOCK: 6}
    assert sent.programs == {
        "cnf_ingress": 6,
        "cnf_skb_egress": 3,
        "cnf_capture_xdp": 6,
        "cnf_capture_out": 3,
        CLOCK: 6,
    }
    assert [variant.defines for each in (received, sent) for variant in each.variants] == [
        {"CNF_LIMITER": 0, "CNF_CAPTURES": 1, "CNF_XDP": 0, "CNF_SKB_INGRESS": 1, "CNF_SKB_EGRESS": 0},
        {"CNF_LIMITER": 0, "CNF_CAPTURES": 1, "CNF_XDP": 1, "CNF_SKB_INGRESS": 0, "CNF_SKB_EGRESS": 1},
    ]
    assert (received.defines["CNF_EGRESS"], sent.defines["CNF_EGRESS"]) == (0, 1)
    assert {*sent.maps} - {*received.maps} == {"interface_sent", "capture_xdp"}


def test_what_receives_is_there_with_limits_and_without() -> None:
    """One program has all entry points, and no limits; the other has limits, where they hold, and what captures."""
    both = Blueprint(10, limiter=LimiterSize(100, 32, 50), plain=True, hooks=HOOKS)
    one = replace(both, plain=False)

    assert [variant.limiter for variant in both.variants] == [0, 1]
    captures = {"cnf_capture_xdp", "cnf_capture_in", "cnf_capture_out"}
    assert [{*variant.functions} for variant in both.variants] == [
        {*one.programs} - captures,
        {"cnf_ingress", "cnf_skb_ingress"} | captures,
    ]
    assert (both.maps, both.layout) == (one.maps, one.layout)


def test_the_maps_are_the_same_for_either_hook_of_what_is_received() -> None:
    """An interface may change its mode with the maps kept."""
    assert Blueprint(10, hooks=(TC_INGRESS,)).layout == Blueprint(10).layout
    assert Blueprint(10, hooks=(XDP, TC_EGRESS)).layout != Blueprint(10).layout


def test_there_is_a_ring_where_there_is_something_to_tell() -> None:
    """Drops and rule sets make a small ring of events, evicted flows a large one; nothing else makes any."""
    limiter = LimiterSize(sources=100, rules=32, prefixes=50)

    for each, size in (
        (Blueprint(10, "cache"), 0),
        (Blueprint(10, "cache", limiter=limiter), RING_BYTES),
        (Blueprint(10, "cache", finished_events=True), EVICTED_RING_BYTES),
        (Blueprint(10, "cache", limiter=limiter, finished_events=True), EVICTED_RING_BYTES),
    ):
        assert each.defines["CNF_RING_BYTES"] == size
        assert ({"events", "events_lost"} <= {*each.maps}) == bool(size)


def test_a_limiter_has_maps_of_the_sizes_asked_for() -> None:
    """Its tables are made for so many sources, rules and prefixes, also for IPv6 that makes no flows."""
    limited = Blueprint(10, "lru_hash", ipv6=False, limiter=LimiterSize(sources=100, rules=32, prefixes=50))

    assert set(limited.maps) - set(Blueprint(10, "lru_hash", ipv6=False).maps) == {
        "limit_prefixes4",
        "limit_prefixes6",
        "limit_sets4",
        "limit_sets6",
        "limit_sources4",
        "limit_sources6",
        *LIMITER_MAPS,
        "events",
        "events_lost",
        "event_draft",
    }
    assert (
        limited.defines.items()
        >= {
            "CNF_LIMITER": 1,
            "CNF_MAX_SOURCES": 100,
            "CNF_COUNT_limit_rules": 32,
            "CNF_COUNT_limit_policies": 2 * 32 * LIMIT_GROUPS,
            "CNF_MAX_RULES": 32,
            "CNF_MAX_POLICIES": 32,
            "CNF_MAX_PREFIXES": 50,
        }.items()
    )


@pytest.mark.parametrize("name", LAYOUT_SOURCES)
def test_the_layout_changes_with_what_says_where_a_key_is_found(name: str, tmp_path: Path) -> None:
    """Maps of another hash, or another struct, are not kept; comments and spaces make no difference."""
    for each in LAYOUT_SOURCES:
        shutil.copy(SOURCE.with_name(each), tmp_path)
    blueprint = replace(Blueprint(10), source=tmp_path / "flow.c")
    assert blueprint.layout == Blueprint(10).layout

    source = (tmp_path / name).read_text()
    (tmp_path / name).write_text(f"/* another\n * comment */\n\n{source}")
    assert blueprint.layout == Blueprint(10).layout
    (tmp_path / name).write_text(f"{source}\n#define ANOTHER 1\n")
    assert blueprint.layout != Blueprint(10).layout
