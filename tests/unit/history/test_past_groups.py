"""Promises of cnf.history.past_groups: the sums of groups and the rest are all that was counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from cnf.history import minute
from cnf.history.block import Block
from cnf.history.joined import Joined
from cnf.history.past import as_snapshot
from cnf.history.past_groups import Wanted, group_past
from tests.unit.history.samples import MINUTE, START, block, dropped, sums
from tests.unit.history.test_past import made
from tests.unit.samples import Flow

BUSY = Flow(src="192.0.2.1", src_port=1, packets=60, bytes=6000, dst_port=443)
PING = Flow(src="192.0.2.2", dst="198.51.100.3", protocol=1, src_port=8, dst_port=0, packets=10, bytes=1000)
SIX = Flow(src="2001:db8::1", dst="2001:db8::2", packets=5, bytes=500, dst_port=443)
SCAN = [Flow(src="203.0.113.9", dst="198.51.100.9", src_port=port, packets=1, bytes=100) for port in range(1, 31)]


def grouped(blocks: Sequence[Block], by: str, sort: str = "bytes", top: int | None = None) -> list[dict[str, Any]]:
    """Return the groups without a filter, and what is in none."""
    joined = Joined(blocks)
    return [*group_past(joined, as_snapshot(joined), Wanted("", by, sort, top), {}).objects()]


def of(rows: Sequence[dict[str, Any]], field: str, unit: str = "packets") -> dict[object, int]:
    """Return a number of each group."""
    return {row[field]: row[unit] for row in rows}


@pytest.mark.parametrize("by", ["src", "dst", "port", "protocol", "pair", "src-net/24", "interface,direction", "vlan"])
@pytest.mark.parametrize("sort", ["bytes", "packets", "rate", "flows"])
def test_rows_add_up_to_all_that_was_counted(by: str, sort: str) -> None:
    """Whatever they are grouped by, the rows' packets and bytes are those that were counted, and so are their rates."""
    blocks = [made(0, 100, BUSY, PING, SIX), made(1, 80, BUSY)]
    rows = grouped(blocks, by, sort)
    assert sum(row["packets"] for row in rows) == 180
    assert sum(row["bytes"] for row in rows) == 18_000
    assert sum(row["packets_per_second"] for row in rows) == pytest.approx(180 / 120, abs=0.01)
    assert sum(row["bits_per_second"] for row in rows) == pytest.approx(8 * 18_000 / 120, abs=1)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-5)
    *_, rest = rows
    assert (rest["flows"], rest["packets"], rest["bytes"]) == (None, 45, 4500)
    assert {value for name, value in rest.items() if name.endswith(("addr", "net", "port", "vlan", "protocol"))} <= {
        None
    }


def test_what_was_dropped_is_in_no_row_but_in_its_column() -> None:
    """Dropped packets make no flow: the rows' dropped packets are all that were dropped."""
    counted = {**sums(100).interfaces, "eth1": dropped(7)}
    blocks = [block(**parts_of(made(0, 0, BUSY)), interfaces=counted)]
    rows = grouped(blocks, "port")
    assert of(rows, "dst_port") == {443: 60, None: 40}
    assert of(rows, "dst_port", "dropped_packets") == {443: 0, None: 7}


def test_all_that_was_counted_in_flows_leaves_no_rest() -> None:
    """Where flows have everything, there is no further row."""
    assert of(grouped([made(0, 60, BUSY)], "port"), "dst_port") == {443: 60}


def test_flows_that_are_ahead_leave_a_rest_below_0() -> None:
    """What came while a drain was reading is in its flows, and counted in the next minute: sums stay exact."""
    rows = grouped([made(0, 58, BUSY)], "port")
    assert of(rows, "dst_port") == {443: 60, None: -2}
    assert sum(row["bytes"] for row in rows) == 5800


def test_a_scan_is_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of many small flows is there with all of them, though few of its flows are kept."""
    monkeypatch.setattr(minute, "FLOWS", 3)
    blocks = [made(0, 90, *SCAN, BUSY)]
    assert of(grouped(blocks, "src"), "src_addr") == {"192.0.2.1": 60, "203.0.113.9": 30}
    assert of(grouped(blocks, "dst"), "dst_addr") == {"198.51.100.2": 60, "198.51.100.9": 30}
    assert of(grouped(blocks, "src-net/24,direction"), "src_net") == {"192.0.2.0/24": 60, "203.0.113.0/24": 30}
    assert {row["flows"] for row in grouped(blocks, "src")} == {None}
    assert of(grouped(blocks, "pair"), "src_addr") == {"192.0.2.1": 60, "203.0.113.9": 2, None: 28}
    assert [row["flows"] for row in grouped(blocks, "src", "flows")] == [2, 1, None]


def test_sources_of_many_small_ones_are_made_of_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the largest flows have more of the bytes than the largest sources, groups are made of the flows."""
    monkeypatch.setattr(minute, "ADDRESSES", 1)
    rows = grouped([made(0, 75, BUSY, PING, SIX)], "src")
    assert of(rows, "src_addr") == {"192.0.2.1": 60, "192.0.2.2": 10, "2001:db8::1": 5}
    assert [row["flows"] for row in rows] == [1, 1, 1]


def test_a_filter_has_no_rest() -> None:
    """Nobody knows what of the rest would match."""
    blocks = [made(0, 100, BUSY, PING)]
    rows = [
        *group_past(Joined(blocks), as_snapshot(Joined(blocks)), Wanted("icmp", "src", "bytes", None), {}).objects()
    ]
    assert of(rows, "src_addr") == {"192.0.2.2": 10}


def parts_of(made_block: Block) -> dict[str, Any]:
    """Return what a block has of its flows, and its time."""
    names = ("flows", "names", "flow_count", "sources", "destinations")
    return {"begin": START, "end": START + MINUTE, **{name: getattr(made_block, name) for name in names}}
