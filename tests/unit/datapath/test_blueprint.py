"""A blueprint has what the configuration asks for, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cnf.datapath.blueprint import (
    EVICTED_RING_BYTES,
    LAYOUT_SOURCES,
    LIMITER_MAPS,
    RING_BYTES,
    SOURCE,
    Blueprint,
    LimiterSize,
)


def test_a_blueprint_names_only_what_is_compiled_in() -> None:
    """Without IPv6 there is no table for it, and the source is told so."""
    assert Blueprint(10, "lru_hash", ipv6=False, vlan=False).maps == (
        "flows4",
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
        "CNF_INTERFACE_PLACES": 16384,
        "CNF_IPV6": 0,
        "CNF_VLAN": 0,
        "CNF_EVICTED_RECORDS": 0,
        "CNF_RING_BYTES": 0,
        "CNF_LIMITER": 0,
    }
    assert Blueprint(10, "cache").maps == (
        "flows4",
        "flows6",
        "cache_secrets",
        "flow_settings",
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
        "CNF_INTERFACE_PLACES": 16384,
        "CNF_IPV6": 1,
        "CNF_VLAN": 1,
        "CNF_EVICTED_RECORDS": 0,
        "CNF_RING_BYTES": 0,
        "CNF_LIMITER": 0,
    }


def test_there_is_a_ring_where_there_is_something_to_tell() -> None:
    """Drops and rule sets make a small ring of events, evicted flows a large one; nothing else makes any."""
    limiter = LimiterSize(sources=100, rules=32, prefixes=50)

    for blueprint, size in (
        (Blueprint(10, "cache"), 0),
        (Blueprint(10, "cache", limiter=limiter), RING_BYTES),
        (Blueprint(10, "cache", evicted_records=True), EVICTED_RING_BYTES),
        (Blueprint(10, "cache", limiter=limiter, evicted_records=True), EVICTED_RING_BYTES),
    ):
        assert blueprint.defines["CNF_RING_BYTES"] == size
        assert ({"events", "events_lost"} <= {*blueprint.maps}) == bool(size)


def test_a_limiter_has_maps_of_the_sizes_asked_for() -> None:
    """Its tables are made for so many sources, rules and prefixes, also for IPv6 that makes no flows."""
    limited = Blueprint(10, "lru_hash", ipv6=False, limiter=LimiterSize(sources=100, rules=32, prefixes=50))

    assert set(limited.maps) - set(Blueprint(10, "lru_hash", ipv6=False).maps) == {
        "limit_prefixes4",
        "limit_prefixes6",
        "limit_sources4",
        "limit_sources6",
        *LIMITER_MAPS,
        "events",
        "events_lost",
    }
    assert (
        limited.defines.items()
        >= {
            "CNF_LIMITER": 1,
            "CNF_MAX_SOURCES": 100,
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
