"""How the process keeps its memory small: what it tells malloc and the garbage collector."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

M_MMAP_THRESHOLD: Final = -3  # malloc.h
M_TRIM_THRESHOLD: Final = -1
LARGE: Final = 1 << 20
"""Bytes of a block that is given back as soon as it is freed."""
KEPT: Final = 2 << 20
"""Bytes that are kept at the end of the heap: else the many small arrays of a drain are given back one by one."""


def return_large_blocks() -> None:
    """Have malloc give a drain's columns back to the system when they are freed; it would learn to keep them."""
    with contextlib.suppress(AttributeError):  # not glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def return_freed() -> None:
    """Have malloc give all that was freed back to the system."""
    with contextlib.suppress(AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def collect_early() -> None:
    """Freeze what start-up has allocated, so that the garbage collector looks more often, and only at newer objects.

    It looks for cycles among old objects only when these have become a quarter more. If all that was imported counted
    there, it would be an hour until those of netlink messages and reloads are found, strewn over memory that then can
    never be given back.
    """
    gc.collect()
    gc.freeze()
    collect()  # takes note of how few are left
    return_freed()


def collect() -> None:
    """Find cycles now, among what has come since ``collect_early()``: a few milliseconds."""
    gc.collect()
