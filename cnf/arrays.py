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


def together(parts: list[Records]) -> Records:
    """Return ``parts``, of one dtype and shape (N,), as one array: copied as in ``chosen()``, if there are several."""
    parts = [part for part in parts if len(part)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part.view(np.dtype((np.void, part.itemsize))) for part in parts]).view(parts[0].dtype)


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
