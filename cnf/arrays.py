"""Memory for columns: pages of their own, never malloc's.

A drain's columns stay until the next has been published. In malloc's heap each would lie between smaller blocks that
stay for longer or shorter, and the holes that they leave never fit the next drain's: the heap grows for hours.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
"""Indexes of rows."""
Records = npt.NDArray[Any]
"""Structs that kernel and user space share: a dtype of ``abi``."""

HUGE: Final = 2 << 20
"""Bytes of a huge page."""
LINE: Final = 64
"""Bytes at a multiple of which each column starts: a line of the processor's cache."""


def chosen(values: Records, rows: Rows) -> Records:
    """Return ``values``, shape (N,), in ``rows``, ascending: numpy copies structs field by field, this as they are."""
    if len(rows) == len(values):
        return values
    return values.view(np.dtype((np.void, values.itemsize)))[rows].view(values.dtype)


def allot(count: int, *dtypes: npt.DTypeLike, expected: int = 0) -> list[npt.NDArray[Any]]:
    """Return an array of ``count`` rows of each of ``dtypes``, all zero; one with a shape gives each row that shape.

    Memory that is not written to is not taken, and the system has all of it back with the last array or view of it.
    Where one array is asked for, its first ``expected`` rows have huge pages, if the system gives any: without them the
    page faults of a million flows take longer than writing them. No page reaches beyond these rows.
    """
    kinds = [np.dtype(dtype) for dtype in dtypes]
    *starts, size = accumulate((-(-count * kind.itemsize // LINE) * LINE for kind in kinds), initial=0)
    memory = mmap.mmap(-1, max(size, 1), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    huge = min(expected, count) * kinds[0].itemsize // HUGE * HUGE
    if huge:
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE, 0, huge)
    return [
        np.ndarray((count, *kind.shape), kind.base, memory, start) for kind, start in zip(kinds, starts, strict=True)
    ]


class Gathered:
    """Structs of one dtype that come piece by piece, one behind the other."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        """Begin with none."""
        self._void = np.dtype((np.void, dtype.itemsize))
        self._dtype = dtype
        self._count = 0
        self._values: Records = np.empty(0, self._void)

    def add(self, values: Records, share: float = 1.0) -> None:
        """Take in ``values``, shape (N,), with which there will be this ``share`` of all that are to come."""
        end = self._count + len(values)
        if end > len(self._values):
            expected = int(end / share)
            (larger,) = allot(2 * expected, self._void, expected=expected)
            larger[: self._count] = self._values[: self._count]
            self._values = larger
        self._values[self._count : end] = values.view(self._void)
        self._count = end

    def take(self) -> Records:
        """Return all of them, shape (N,), and begin anew."""
        count, self._count = self._count, 0
        values, self._values = self._values, np.empty(0, self._void)
        return values[:count].view(self._dtype)
