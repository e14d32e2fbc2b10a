"""Records are differences: together they are what a flow has counted, whichever flow the slot has had before."""

from __future__ import annotations

import numpy as np
import pytest

from cnf.abi import FLOW4_SLOT, FLOW6_SLOT, FLOW_DROPS, FLOW_RECORDED
from cnf.arrays import Records
from cnf.flows.records import REASONS, Before, note, part_of

ACTIVE, IDLE = (np.array([REASONS.index(reason)], np.uint8) for reason in ("active", "idle"))
NOTHING = Before(np.zeros(1, FLOW_RECORDED), np.zeros(1, np.uint64))


def flow(dtype: np.dtype[np.void], packets: int, first_seen: int, last_seen: int) -> Records:
    """Return a slot, shape (1,), of packets of 100 bytes."""
    slot = np.zeros(1, dtype)
    slot["packets"], slot["bytes"], slot["first_seen"], slot["last_seen"] = (
        packets,
        100 * packets,
        first_seen,
        last_seen,
    )
    slot["key"]["src_port"] = 53
    slot["tcp_flags"] = 14 << 32 | 0x12 << 24 | 0x31B
    return slot


def drops(packets: int) -> Records:
    """Return FLOW_DROPS, shape (1,), of packets of 100 bytes."""
    return np.array([(packets, 100 * packets)], FLOW_DROPS)


def recorded(flows: Records, dropped: Records, until: int) -> Before:
    """Return that these flows are recorded."""
    counts = np.zeros(1, FLOW_RECORDED)
    note(counts, np.arange(1), flows, dropped)
    return Before(counts, np.array([until], np.uint64))


@pytest.mark.parametrize("dtype", [FLOW4_SLOT, FLOW6_SLOT])
def test_parts_add_up_to_the_flow(dtype: np.dtype[np.void]) -> None:
    """The first counts from the flow's start, the second from where the first ended; without packets there is none."""
    young, old = flow(dtype, 10, 1000, 1500), flow(dtype, 12, 1000, 1900)
    first, _ = part_of(young, drops(1), NOTHING, ACTIVE)
    noted = recorded(young, drops(1), 1600)
    second, rows = part_of(old, drops(4), noted, IDLE)
    assert first[["packets", "bytes", "dropped_packets", "dropped_bytes", "start", "end"]].tolist() == [
        (10, 1000, 1, 100, 1000, 1500)
    ]
    assert second[["packets", "bytes", "dropped_packets", "dropped_bytes", "start", "end"]].tolist() == [
        (2, 200, 3, 300, 1600, 1900)
    ]
    assert (rows.tolist(), second["src_port"].tolist(), second["tcp_flags"].tolist()) == ([0], [53], [0x12])
    assert [REASONS[number] for number in (*first["reason"], *second["reason"])] == ["active", "idle"]
    assert len(part_of(old, drops(4), recorded(old, drops(4), 1900), IDLE)[0]) == 0


def test_another_flow_in_the_slot_counts_in_whole() -> None:
    """What is noted is about the flow that was there before."""
    noted = recorded(flow(FLOW4_SLOT, 500, 1000, 1500), drops(9), 1600)
    records, _ = part_of(flow(FLOW4_SLOT, 3, 1700, 1800), drops(0), noted, IDLE)
    assert records[["packets", "bytes", "dropped_packets", "start"]].tolist() == [(3, 300, 0, 1700)]
