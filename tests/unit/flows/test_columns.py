"""Columns keep the kernel's records as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnf.abi import FAMILIES, FLOW4_SLOT, FLOW6_SLOT, SLOT_DROPS, UDP, Family
from cnf.flows.columns import BLOCK, RECORDS, FlowColumns
from tests.unit.samples import Flow, columns, records

each_family = pytest.mark.parametrize("family", FAMILIES)

SLOTS = {"ipv4": FLOW4_SLOT, "ipv6": FLOW6_SLOT}
ADDRESSES = {"ipv4": ["192.0.2.1", "192.0.2.2", "10.0.0.0"], "ipv6": ["2001:db8::1", "::", "1::2:0:0:0"]}


@each_family
def test_records_come_back_as_they_were(family: Family) -> None:
    """What fill() took from the kernel's keys, keys() gives back, byte by byte, and values stand in their columns."""
    src = ADDRESSES[family][0]
    flow = Flow(src, 1, ADDRESSES[family][1], 65535, UDP, 7, 0, fragment=True, packets=3, bytes=2**40, tcp_flags=0x5A)
    flow = replace(flow, dropped_packets=2, dropped_bytes=90)
    keys, values = records([Flow(src, dst=src), flow], family)
    table = FlowColumns.empty(family, 5)
    table.fill(3, keys, values)

    assert table.keys(np.array([3, 4])).tobytes() == keys.tobytes()
    assert (int(table.src_port[4]), int(table.dst_port[4]), int(table.bytes[4])) == (1, 65535, 2**40)
    assert (table.dropped_packets.tolist(), table.dropped_bytes.tolist()) == ([0, 0, 0, 0, 2], [0, 0, 0, 0, 90])
    assert (int(table.packets[4]), int(table.tcp_flags[4]), float(table.byte_rate[4])) == (3, 0x5A, 0.0)


@each_family
def test_a_slot_is_a_record_as_it_is(family: Family) -> None:
    """Every field of a slot stands where the record has it, and the rates where a slot has zeros."""
    slot, record = SLOTS[family], offsets(RECORDS[family])
    start, key = offsets(slot)["key"], offsets(slot["key"])
    expected = offsets(slot) | {name: start + at for name, at in key.items()}
    expected |= {"packet_rate": expected["tcp_flags"] + 4, "byte_rate": start + key["zero"]}
    del expected["key"], expected["zero"]

    assert RECORDS[family].itemsize == slot.itemsize
    assert expected == {name: record[name] for name in expected}
    assert SLOT_DROPS < 1 << 32  # of the word of tcp_flags, its upper half is a rate


def offsets(dtype: np.dtype[Any]) -> dict[str, int]:
    """Return where each field stands."""
    return {name: at for name, (_, at, *_) in (dtype.fields or {}).items()}


@each_family
def test_blocks_are_all_rows(family: Family) -> None:
    """Each row is in one block, in its order, and a block is a view."""
    table = FlowColumns.empty(family, 2 * BLOCK + 3)
    table.packets[:] = np.arange(len(table))
    blocks = list(table.blocks())

    assert [(start, len(block)) for start, block in blocks] == [(0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, 3)]
    assert np.concatenate([block.packets for _, block in blocks]).tolist() == table.packets.tolist()
    assert all(np.shares_memory(block.records, table.records) for _, block in blocks)


@each_family
def test_head_shows_the_first_rows_without_copying(family: Family) -> None:
    """head() is shorter, of the same memory."""
    table = columns([Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][0], packets=n) for n in range(5)], family)
    head = table.head(2)

    assert (len(head), head.packets.tolist()) == (2, [0, 1])
    assert np.shares_memory(head.records, table.records)
    assert np.shares_memory(head.dropped, table.dropped)


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


def test_compress_moves_whole_blocks() -> None:
    """Rows of many blocks find their places in front of these."""
    table = FlowColumns.empty("ipv4", 3 * BLOCK)
    table.packets[:] = table.dropped_packets[:] = table.dropped_bytes[:] = np.arange(len(table))
    keep = np.random.default_rng(1).random(len(table)) < 0.5
    kept = table.compress(keep)

    assert kept.packets.tolist() == kept.dropped_bytes.tolist() == np.flatnonzero(keep).tolist()


@each_family
def test_extended_columns_start_with_a_copy(family: Family) -> None:
    """A larger table begins with the rows that were there, in memory of its own."""
    table = columns([Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][1], packets=n) for n in range(3)], family)
    larger = table.extended(8)

    assert len(larger) == 8
    assert _rows(larger.head(3)) == _rows(table)
    assert not np.shares_memory(larger.packets, table.packets)


def _rows(table: FlowColumns) -> tuple[bytes, bytes]:
    return table.records.tobytes(), table.dropped.tobytes()


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_no_flows_have_words_too(family: Family) -> None:
    """The words of no flows are none, as wide as those of others."""
    (width,) = {FlowColumns.empty(family, count).words.shape[1] for count in (0, 3)}
    assert width == RECORDS[family].itemsize // 8
