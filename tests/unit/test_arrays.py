"""Columns have the shapes that were asked for, and lie in pages of their own: malloc has no part in them."""

from __future__ import annotations

import errno
import mmap
import tracemalloc
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from cnf.arrays import HUGE, LINE, Gathered, allot, chosen
from cnf.flows.columns import FlowColumns
from cnf.flows.finished import FinishedFlows
from cnf.flows.matching import ByIdentity
from tests.unit.events.test_log import evicted
from tests.unit.samples import CLOCK, Flow

MANY = 1 << 16
LITTLE = 1 << 14
"""Bytes of malloc's for what is not columns: less than a column of MANY rows, were it one byte wide."""


def ended_flows() -> object:
    """Return many flows that have ended."""
    ended = FinishedFlows(MANY)
    ended.add(np.repeat(evicted([Flow()]), MANY))
    return ended.shown(CLOCK, 60.0)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_arrays_are_as_asked_for(count: int) -> None:
    """Each is zero, of its dtype and shape, starts a line, and shares no byte with another."""
    arrays = allot(count, np.uint8, np.uint64, (np.uint64, 2), np.uint16)

    assert [array.shape for array in arrays] == [(count,), (count,), (count, 2), (count,)]
    assert [array.dtype for array in arrays] == [np.uint8, np.uint64, np.uint64, np.uint16]
    assert not any(array.any() for array in arrays)
    assert not any(array.ctypes.data % LINE for array in arrays)
    for value, array in enumerate(arrays, start=1):
        array[...] = value
    assert [set(array.ravel().tolist()) for array in arrays] == [{value} if count else set() for value in range(1, 5)]


@pytest.mark.parametrize(("expected", "huge"), [(0, 0), (HUGE - 1, 0), (HUGE, 1), (3 * HUGE - 1, 2), (99 * HUGE, 16)])
def test_rows_that_are_expected_have_huge_pages(monkeypatch: pytest.MonkeyPatch, expected: int, huge: int) -> None:
    """As many as they fill, so that no more memory is taken than without."""
    advised: list[tuple[int, int, int]] = []

    class Memory(mmap.mmap):
        def madvise(self, *advice: int) -> None:
            advised.append(cast("tuple[int, int, int]", advice))

    monkeypatch.setattr(mmap, "mmap", Memory)
    (array,) = allot(16 * HUGE, np.uint8, expected=expected)

    assert len(array) == 16 * HUGE
    assert advised == [(mmap.MADV_HUGEPAGE, 0, huge * HUGE)] * bool(huge)


def test_a_kernel_without_huge_pages_gives_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then everything is as with them, but slower."""

    class Memory(mmap.mmap):
        def madvise(self, *_advice: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Memory)
    (array,) = allot(2 * HUGE, np.uint8, expected=2 * HUGE)
    array[:] = 1

    assert array.all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: FlowColumns.empty("ipv4", MANY),
        lambda: FlowColumns.empty("ipv6", MANY),
        lambda: ByIdentity(np.arange(MANY, dtype=np.uint64)),
        ended_flows,
    ],
    ids=["ipv4", "ipv6", "index", "ended"],
)
def test_columns_take_nothing_of_mallocs(make: Callable[[], object]) -> None:
    """What stays from drain to drain, tracemalloc, which sees every array that numpy has of malloc, does not see."""
    make()  # what is made once and kept
    tracemalloc.start()
    try:
        kept = make()
        held, _most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept is not None
    assert held < LITTLE


def test_structs_are_gathered_piece_by_piece() -> None:
    """They come back in order, however many are expected; then others are gathered, and the first ones stay."""
    pair = np.dtype([("number", "<u8"), ("letter", "u1")])
    values = np.array([(number, number % 7) for number in range(1000)], pair)
    gathered = Gathered(pair)
    gathered.add(values[:10], 0.5)
    gathered.add(values[10:15])
    gathered.add(values[15:])
    first = gathered.take()
    gathered.add(values[:3])

    assert first.tolist() == values.tolist()
    assert gathered.take().tolist() == values[:3].tolist()
    assert len(gathered.take()) == 0


def test_chosen_structs_are_as_numpy_chooses_them() -> None:
    """All of them are no copy."""
    values = np.array([(number, -number) for number in range(5)], [("one", "<i8"), ("other", "<i2")])

    assert chosen(values, np.array([1, 4])).tolist() == values[[1, 4]].tolist()
    assert chosen(values, np.arange(5)) is values
