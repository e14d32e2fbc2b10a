"""The largest flows are the largest of both families, and of those that match."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.counts import Count
from cnf.errors import UsageError
from cnf.flows.columns import FlowColumns
from cnf.flows.query import CHUNK, SORT_COLUMNS, select
from cnf.flows.snapshot import Part, Snapshot
from tests.unit.samples import Flow, columns, snapshot

SORTED_BY = {
    "bytes": "bytes",
    "packets": "packets",
    "bits_per_second": "byte_rate",
    "bps": "byte_rate",
    "rate": "byte_rate",
    "packets_per_second": "packet_rate",
    "pps": "packet_rate",
    "dropped_packets": "dropped_packets",
    "dropped_bytes": "dropped_bytes",
    "first_seen": "first_seen",
    "last_seen": "last_seen",
}
V4 = Flow()
V6 = Flow(src="2001:db8::1", dst="2001:db8::2")


def shown(
    snapshot: Snapshot, expression: str = "", sort: str = "bytes", count: int | None = None
) -> list[dict[str, Any]]:
    """Return the flows that are selected, as a client that reads JSON sees them."""
    flows: list[dict[str, Any]] = json.loads(json.dumps(list(select(snapshot, expression, sort, count).flows())))
    return flows


@pytest.mark.parametrize(("sort", "column"), SORTED_BY.items())
def test_flows_are_sorted_by_any_of_the_fields(sort: str, column: str) -> None:
    """The largest of that field comes first, whatever its family and its other fields."""
    drained = snapshot(*(replace(V6 if n % 2 else V4, src_port=n) for n in range(6)))
    for table in drained.flows.values():
        for name in set(SORT_COLUMNS.values()):
            getattr(table, name)[:] = table.src_port if name == column else 10 - table.src_port

    assert [flow["src_port"] for flow in shown(drained, sort=sort)] == [5, 4, 3, 2, 1, 0]


def test_fields_to_sort_by() -> None:
    """A listing can be sorted by these, and no other."""
    assert SORTED_BY == SORT_COLUMNS


def test_evicted_flows_say_so() -> None:
    """A flow that a table has let go is listed beside those that live, and its column is added up with theirs."""
    drained = replace(
        snapshot(replace(V4, bytes=10)), finished=(Part(columns([replace(V4, bytes=7)], "ipv4"), "evicted"),)
    )
    chosen = select(drained, "", "bytes", 2)

    assert [(flow["bytes"], flow["ended"]) for flow in chosen.flows()] == [(10, None), (7, "evicted")]
    assert (chosen.sum("bytes"), select(drained, "", "bytes", 1).sum("bytes")) == (17, 10)


def test_a_field_that_cannot_be_sorted_by_is_refused() -> None:
    """The answer names the fields that can."""
    with pytest.raises(UsageError, match=r"'colour'.*bytes, packets"):
        select(snapshot(V4), "", "colour", None)


def test_a_filter_that_is_not_understood_is_refused() -> None:
    """A wrong expression is the user's error, not an empty listing."""
    with pytest.raises(UsageError):
        select(snapshot(V4), "src nett 10.0.0.0/8", "bytes", None)


@given(
    flows=st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.sampled_from([22, 443])), max_size=12),
    count=st.one_of(st.none(), st.integers(0, 14)),
    expression=st.sampled_from(["", "  ", "dst port 443", "ip6", "dst port 443 and not ip6", "port 1"]),
)
def test_the_largest_of_both_families_come_first(
    flows: list[tuple[bool, int, int]], count: int | None, expression: str
) -> None:
    """The selection is what sorting all matching flows in Python gives; its totals are of all that match."""
    rows = [
        replace(V6 if ipv6 else V4, src_port=1000 + at, dst_port=port, bytes=octets, packets=octets + 1)
        for at, (ipv6, octets, port) in enumerate(flows)
    ]
    matching = [
        flow.bytes
        for flow in rows
        if ("443" not in expression or flow.dst_port == 443)
        and ("ip6" not in expression or (flow.family == "ipv6") != ("not" in expression))
        and expression != "port 1"
    ]
    selection = select(snapshot(*rows), expression, "bytes", count)
    listed = list(selection.flows())

    assert [flow["bytes"] for flow in listed] == sorted(matching, reverse=True)[:count]
    assert len({flow["src_port"] for flow in listed}) == len(listed)
    assert selection.matched == len(matching)
    assert selection.totals == Count(sum(matching) + len(matching), sum(matching))


def test_a_listing_longer_than_a_chunk_is_whole() -> None:
    """Flows are written in pieces, and none is lost between two."""
    flows = [replace(V4, src_port=n % 65536, dst_port=n // 65536, bytes=n) for n in range(2 * CHUNK + 1)]

    assert [flow["bytes"] for flow in shown(snapshot(*flows))] == list(range(2 * CHUNK, -1, -1))


def test_a_node_without_ipv6_lists_what_it_has() -> None:
    """A snapshot of one family is as good as one of two."""
    drained = replace(snapshot(V4), flows={"ipv4": FlowColumns.empty("ipv4", 0)})

    assert shown(drained) == []
