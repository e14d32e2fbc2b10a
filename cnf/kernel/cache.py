"""The program's own caches, read through their memory: no system call an entry, and nothing is ever written.

A cache is two arrays of BPF_F_MMAPABLE: heads (CACHE_HEAD, one a bucket) and slots (WAYS a bucket), see
``cnf/bpf/cache.h``. They are mapped and copied piece by piece, so that a reader's memory does not grow with the table.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.maps import Array, Records
from cnf.records import FLOW_SETTINGS, WAYS

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.intp]

WINDOW: Final = 1 << 16
"""Slots that are mapped at a time: a whole number of pages of every array."""
BLOCK: Final = 1 << 12
"""Slots that are copied at a time: they stay in the processor's cache until they have been worked on."""
TRIES: Final = 4
"""Times that a bucket is copied again which changes meanwhile; then its slots are left for the next drain."""

_SEQUENCE: Final = 1
"""Index of the sequence among the words of a head."""


class Memory:
    """An array map of BPF_F_MMAPABLE, as 64-bit words."""

    def __init__(self, name: str, fd: int, value: np.dtype[Any]) -> None:
        """Take the map behind ``fd``, of values of the dtype ``value``."""
        self.name = name
        self.value = value
        self.size = libbpf.map_info(fd).max_entries
        self._fd = fd

    def window(self, first: int, count: int) -> Words:
        """Map ``count`` elements from ``first`` on, a multiple of WINDOW / WAYS; shape (count, words of a value).

        They are mapped for as long as the array, or a view of it, is there.

        Raises:
            MapError: the kernel refused.

        """
        size = self.value.itemsize
        length = -(-count * size // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            memory = mmap.mmap(self._fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=first * size)
        except OSError as error:
            message = f"mapping map {self.name}: {error.strerror}"
            raise MapError(message, errno=error.errno or 0) from error
        return np.frombuffer(memory, np.uint64, count * size // 8).reshape(count, size // 8)

    def at(self, places: Places) -> Records:
        """Return the elements at ``places``, ascending and not further apart than a window: shape (N,)."""
        first = int(places[0]) // WINDOW * WINDOW
        window = self.window(first, min(WINDOW, self.size - first))
        return window[places - first].view(self.value).reshape(len(places))


class Block(NamedTuple):
    """Slots in use, copied."""

    places: Places
    """Which they are, in ascending order; shape (N,)."""
    words: Words
    """Shape (N, words of a slot); overwritten by the next block."""

    def where(self, mask: npt.NDArray[np.bool_]) -> Block:
        """Return those where ``mask`` is set."""
        return self if mask.all() else Block(self.places[mask], self.words[mask])


class Cache:
    """A cache's slots; the first word of an empty one is 0."""

    def __init__(self, heads: Memory, slots: Memory) -> None:
        """Take both arrays."""
        self.slots = slots
        self._heads = heads
        self._staging = np.empty((BLOCK, slots.value.itemsize // 8), np.uint64)

    def blocks(self) -> Iterator[Block]:
        """Yield the whole table, piece by piece.

        A slot is never seen half-way from one key to another. One that is given away all along may be missed.

        Raises:
            MapError: the kernel refused to map it.

        """
        for first in range(0, self.slots.size, WINDOW):
            count = min(WINDOW, self.slots.size - first)
            sequences = self._heads.window(first // WAYS, count // WAYS)[:, _SEQUENCE]
            slots = self.slots.window(first, count)
            for start in range(0, count, BLOCK):
                stop = min(start + BLOCK, count)
                staging = self._staging[: stop - start]
                steady = _copy(staging, slots[start:stop], sequences[start // WAYS : stop // WAYS])
                used = (staging[:, 0] != 0) & steady
                if used.any():
                    yield Block(np.arange(first + start, first + stop), staging).where(used)

    def records(self, words: Words) -> Records:
        """Return a block's words as what they are: shape (N,) of the slots' dtype."""
        return words.view(self.slots.value).reshape(len(words))


class FlowSettings:
    """When the program takes a flow for over."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._array = Array("flow_settings", maps["flow_settings"], FLOW_SETTINGS)

    def write(self, idle: int, ended: int) -> None:
        """Set both times, in ticks; see ``struct flow_settings``."""
        self._array.write(0, np.array((idle, ended), FLOW_SETTINGS))


def _copy(copy: Words, slots: Words, sequences: Words) -> npt.NDArray[np.bool_]:
    """Copy the slots, again where their bucket changes meanwhile; return which have been got whole."""
    before = sequences.copy()
    np.copyto(copy, slots)
    moved = np.flatnonzero(_changed(before, sequences))
    for _ in range(TRIES):
        if not len(moved):
            break
        before = sequences[moved]
        rows = (moved[:, np.newaxis] * WAYS + np.arange(WAYS)).ravel()
        copy[rows] = slots[rows]
        moved = moved[_changed(before, sequences[moved])]
    steady = np.ones((len(sequences), WAYS), np.bool_)
    steady[moved] = False
    return steady.ravel()


def _changed(before: Words, after: Words) -> npt.NDArray[np.bool_]:
    changed: npt.NDArray[np.bool_] = (before != after) | (before & np.uint64(1) != 0)
    return changed
