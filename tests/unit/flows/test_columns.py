"""Columns keep the kernel's records as they are, and the largest rows are the largest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FAMILIES, UDP, Family
from cnf.arrays import Mask
from cnf.flows.columns import FlowColumns, largest
from tests.unit.samples import Flow, columns, records

each_family = pytest.mark.parametrize("family", FAMILIES)

ADDRESSES = {"ipv4": ["192.0.2.1", "192.0.2.2", "10.0.0.0"], "ipv6": ["2001:db8::1", "::", "1::2:0:0:0"]}


@each_family
def test_records_come_back_as_they_were(family: Family) -> None:
    """What fill() took from the kernel's keys, keys() gives back, byte by byte, and values stand in their columns."""
    src = ADDRESSES[family][0]
    flow = Flow(src, 1, ADDRESSES[family][1], 65535, UDP, 7, 0, fragment=True, packets=3, bytes=2**40, tcp_flags=0x5A)
    keys, values = records([Flow(src, dst=src), flow], family)
    table = FlowColumns.empty(family, 5)
    table.fill(3, keys, values)

    assert table.keys(np.array([3, 4])).tobytes() == keys.tobytes()
    assert (int(table.src_port[4]), int(table.dst_port[4]), int(table.bytes[4])) == (1, 65535, 2**40)
    assert (int(table.packets[4]), int(table.tcp_flags[4]), float(table.byte_rate[4])) == (3, 0x5A, 0.0)


@each_family
def test_head_shows_the_first_rows_without_copying(family: Family) -> None:
    """head() is shorter, of the same memory."""
    table = columns([Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][0], packets=n) for n in range(5)], family)
    head = table.head(2)

    assert (len(head), head.packets.tolist()) == (2, [0, 1])
    assert all(
        np.shares_memory(new, old) for new, old in zip(head.arrays().values(), table.arrays().values(), strict=True)
    )


@each_family
def test_compress_keeps_rows_and_their_order(family: Family) -> None:
    """The rows that are kept stand together, whole and in their order."""
    flows = [Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][1], src_port=n, packets=n) for n in range(6)]
    keep = np.array([False, True, True, False, False, True])
    kept = columns(flows, family).compress(keep)

    assert _rows(kept) == _rows(columns([flows[1], flows[2], flows[5]], family))


def test_compress_that_keeps_all_changes_nothing() -> None:
    """Nothing is moved when every row stays."""
    table = columns([Flow(), Flow(src_port=1)], "ipv4")

    assert table.compress(np.ones(2, bool)) is table


@each_family
def test_extended_columns_start_with_a_copy(family: Family) -> None:
    """A larger table begins with the rows that were there, in memory of its own."""
    table = columns([Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][1], packets=n) for n in range(3)], family)
    larger = table.extended(8)

    assert len(larger) == 8
    assert _rows(larger.head(3)) == _rows(table)
    assert not np.shares_memory(larger.packets, table.packets)


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
    count=st.one_of(st.none(), st.integers(0, 15)),
    masked=st.booleans(),
)
def test_the_largest_come_first(rows: list[tuple[int, bool]], count: int | None, *, masked: bool) -> None:
    """The count largest values among the chosen rows, largest first; ties in any order, but each row once."""
    column = np.array([value for value, _ in rows], np.uint64)
    among: Mask | None = np.array([chosen for _, chosen in rows], bool) if masked else None
    found = largest(column, count, among).tolist()
    candidates = [row for row, (_, chosen) in enumerate(rows) if chosen or not masked]

    assert [int(column[row]) for row in found] == sorted((int(column[row]) for row in candidates), reverse=True)[:count]
    assert len(set(found)) == len(found)
    assert set(found) <= set(candidates)


def _rows(table: FlowColumns) -> list[tuple[object, ...]]:
    return list(zip(*(column.tolist() for column in table.arrays().values()), strict=True))
