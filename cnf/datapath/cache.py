"""The program's own caches, read through their memory: no system call an entry, and nothing is written but old stamps.

A cache is an array of BPF_F_MMAPABLE: sets of a head and WAYS slots, see ``cnf/bpf/cache.h``. It is mapped and
copied piece by piece, so that a reader's memory does not grow with the table.

A stamp is the lower half of jiffies, so that one of 2^31 ago would look like one of the future: ``Cache.age()``.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import CACHE_HEAD, CACHE_SECRETS, FLOW_SETTINGS, WAYS
from cnf.arrays import Records
from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.maps import DirectArray
from cnf.kernel.refusal import reported

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.intp]

WINDOW: Final = 1 << 12
"""Elements that are mapped at a time: a whole number of pages, whatever their size and the pages'."""
BLOCK: Final = 1 << 10
"""Sets that are copied at a time: they stay in the processor's cache until they have been worked on."""
TRIES: Final = 4
"""Times that a set is copied again which changes meanwhile; then its slots are left for the next drain."""

STALE: Final = 1 << 30
"""Ticks that a stamp may be old, or ahead: no token bucket takes longer to fill (MAX_BURST_NS of token_bucket.py)."""
AGE_EVERY: Final = 1 << 28
"""Ticks from one look for old stamps to the next: often enough that none is 2^31 old before it is found."""

CROWDED: Final = 0.95
"""Share of slots that are alive from which on most second sets are full, and a look at them is wasted."""

_STAMPS: Final = 4
"""Index of the first stamp among the 32-bit words of a set."""
_SEQUENCE: Final = 1
"""Index of the sequence among the words of a set."""
_HEAD: Final = CACHE_HEAD.itemsize // 8
"""Index of its first slot's."""
_OTHER_HASH: Final = 0x9E3779B97F4A7C15
"""CACHE_OTHER_HASH of cache.h."""
_HALF: Final = (1 << 32) - 1
_WHOLE: Final = (1 << 64) - 1


class MappedArray:
    """An array map of BPF_F_MMAPABLE, as 64-bit words. Its elements may be one large value of the kernel's map."""

    def __init__(self, name: str, fd: int, value: np.dtype[Any]) -> None:
        """Take the map behind ``fd``, of values of the dtype ``value``."""
        self.name = name
        self.value = value
        with reported(f"asking about map {name}"):
            info = libbpf.map_info(fd)
        self.size = info.max_entries * info.value_size // value.itemsize
        self._fd = fd

    def window(self, first: int, count: int, access: int = mmap.PROT_READ) -> Words:
        """Map ``count`` elements from ``first`` on, a multiple of WINDOW; shape (count, words of a value).

        They are mapped for as long as the array, or a view of it, is there.

        Raises:
            MapError: the kernel refused.

        """
        size = self.value.itemsize
        length = -(-count * size // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            memory = mmap.mmap(self._fd, length, mmap.MAP_SHARED, access, offset=first * size)
        except OSError as error:
            message = f"mapping map {self.name}: {error.strerror}"
            raise MapError(message, errno=error.errno or 0) from error
        return np.frombuffer(memory, np.uint64, count * size // 8).reshape(count, size // 8)

    def at(self, places: Places) -> Records:
        """Return the elements at ``places``, ascending: shape (N,)."""
        first = int(places[0]) // WINDOW * WINDOW
        end = min(-(-(int(places[-1]) + 1) // WINDOW) * WINDOW, self.size)
        return self.window(first, end - first)[places - first].view(self.value).reshape(len(places))


class Block(NamedTuple):
    """Slots in use, copied."""

    places: Places
    """Their numbers in the cache, ascending; shape (N,)."""
    words: Words
    """Shape (N, words of a slot)."""
    first: int
    """The number of a set."""
    sets: Words
    """The memory of the cache from that set on; shape (sets, words of a set)."""

    def where(self, mask: npt.NDArray[np.bool_]) -> Block:
        """Return those where ``mask`` is set."""
        return self if mask.all() else self._replace(places=self.places[mask], words=self.words[mask])


class Cache:
    """A cache's slots; the first word of an empty one is 0."""

    def __init__(self, sets: MappedArray, access: int = mmap.PROT_READ) -> None:
        """Take the array of sets, whose dtype has the fields ``head`` and ``slots``, and ``access`` of blocks to it."""
        self._sets = sets
        self._access = access
        self._slot = sets.value["slots"].base
        self.size = sets.size * WAYS
        self._aged = 0
        self._copies = np.empty((BLOCK, sets.value.itemsize // 8), np.uint64)
        self._slots = np.empty((BLOCK * WAYS, self._slot.itemsize // 8), np.uint64)
        # Head and slots are whole numbers of units, which numpy takes by number; _starts has each slot's first one.
        unit = math.gcd(CACHE_HEAD.itemsize, self._slot.itemsize) // 8
        self._units = self._copies.reshape(-1, unit)
        self._units_of_slot = np.arange(self._slots.shape[1] // unit)
        starts = np.arange(BLOCK)[:, np.newaxis] * self._copies.shape[1] + _HEAD
        self._starts = (starts + np.arange(WAYS) * self._slots.shape[1]).ravel()[:, np.newaxis] // unit

    def blocks(self, room: Callable[[int], Words] | None = None) -> Iterator[Block]:
        """Yield the whole table, piece by piece.

        A slot is never seen half-way from one key to another. One that is given away all along may be missed.
        ``room`` returns where to copy so many slots to, shape (N, words of a slot); without it each block overwrites
        the one before.

        Raises:
            MapError: the kernel refused to map it.

        """
        for first in range(0, self._sets.size, WINDOW):
            window = self._sets.window(first, min(WINDOW, self._sets.size - first), self._access)
            touched = np.flatnonzero(window[:, _SEQUENCE])  # in all others there has never been anything
            if 2 * len(touched) > len(window):
                touched = np.arange(len(window))  # neighbours are copied faster
            for start in range(0, len(touched), BLOCK):
                sets = touched[start : start + BLOCK]
                copies = self._copies[: len(sets)]
                _copy(copies, window, sets)
                used = np.flatnonzero(copies[:, _HEAD :: self._slots.shape[1]])
                if len(used):
                    words = room(len(used)) if room else self._slots[: len(used)]
                    self._take(used, words)
                    yield Block(_places(first, sets, used), words, first, window)

    def _take(self, used: Places, words: Words) -> None:
        """Copy slots of the copied sets to ``words``."""
        units = (self._starts[used] + self._units_of_slot).ravel()
        # Another mode would copy them twice.
        self._units.take(units, axis=0, out=words.reshape(len(units), -1), mode="clip")

    def age(self, now: int, last_used: Callable[[Block], npt.NDArray[np.uint64]]) -> None:
        """Set the stamps of long unused slots so that these are evicted first; at most once in AGE_EVERY ticks.

        ``now`` is in jiffies. ``last_used`` returns those of a block's slots, 0 where only the stamp knows. One that is
        given to another key just then goes first in its place, until that key's next packet.

        Raises:
            MapError: the kernel refused to map it.

        """
        if now - self._aged < AGE_EVERY:
            return
        for block in self.blocks():
            number, way = np.divmod(block.places, WAYS)
            first = int(number[0]) // WINDOW * WINDOW
            count = min(WINDOW, self._sets.size - first)
            window = self._sets.window(first, count, mmap.PROT_READ | mmap.PROT_WRITE).view(np.uint32)
            place = (number - first, _STAMPS + way)
            seen = last_used(block)
            age = np.where(seen, np.uint64(now) - np.minimum(seen, np.uint64(now)), _signed(now, window[place]))
            stale = age > STALE
            window[place[0][stale], place[1][stale]] = (now - STALE) & _HALF
        self._aged = now

    def find(self, key: Records, secrets: Words) -> Block | None:
        """Return the slot of ``key``, shape (); None if it has none. May be called from any thread.

        Raises:
            MapError: the kernel refused to map it.

        """
        for number in sets_of(key, secrets, self._sets.size):
            first = number // WINDOW * WINDOW
            window = self._sets.window(first, min(WINDOW, self._sets.size - first))
            copy = np.empty((1, window.shape[1]), np.uint64)
            _copy(copy, window, np.array([number - first]))
            slots = copy[:, _HEAD:].reshape(WAYS, -1)
            keys = self.records(slots)["key"]
            found = [way for way in range(WAYS) if slots[way, 0] and keys[way].tobytes() == key.tobytes()]
            if found:
                return Block(number * WAYS + np.array(found), slots[found], first, window)
        return None

    def records(self, words: Words) -> Records:
        """Return a block's words as what they are: shape (N,) of the slots' dtype."""
        return words.view(self._slot).reshape(len(words))


class Secrets:
    """The secret words that the program hashes keys with."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._array = DirectArray("cache_secrets", maps["cache_secrets"], CACHE_SECRETS)

    def words(self) -> Words:
        """Return the secret words, shape (SECRETS,)."""
        words: Words = self._array.read(0)["words"]
        return words


class Crowded:
    """Which tables are so full that a key whose home is full is not looked for a slot in its second set."""

    def __init__(self, maps: Mapping[str, int], table: int) -> None:
        """Take a datapath's maps, descriptors by name, and the number of a table."""
        self._array = DirectArray("cache_crowded", maps["cache_crowded"], np.dtype("<u8"))
        self._table = table

    def write(self, entries: int, slots: int) -> None:
        """Tell the program how many of the table's slots are alive."""
        self._array.write(self._table, np.array(entries > CROWDED * slots, "<u8"))


class FlowSettings:
    """The times after which the program takes a flow for expired, and which flows a drain has recorded as such."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        """Take a datapath's maps, descriptors by name."""
        self._array = DirectArray("flow_settings", maps["flow_settings"], FLOW_SETTINGS)

    def write(self, idle: int, ended: int) -> None:
        """Set both times, in ticks; see ``struct flow_settings``. By these, others had expired at the latest drain."""
        settings = self._array.read(0).copy()
        if settings["idle"] != idle or settings["ended"] != ended:
            settings["drained"] = 0
        settings["idle"], settings["ended"] = idle, ended
        self._array.write(0, settings)

    def note_drain(self, jiffies: int) -> None:
        """Say that the flows which had expired at ``jiffies`` are recorded."""
        settings = self._array.read(0).copy()
        settings["drained"] = jiffies
        self._array.write(0, settings)


def sets_of(key: Records, secrets: Words, sets: int) -> tuple[int, int]:
    """Return the home of ``key``, shape (), and its second set, as cache.h works them out."""
    numbers: list[int] = secrets.tolist()
    total = 0
    for index, word in enumerate(np.frombuffer(key.tobytes(), np.uint64).tolist()):
        total += (numbers[2 * index] + (word & _HALF)) * (numbers[2 * index + 1] + (word >> 32))
    total &= _WHOLE
    mixed = (total ^ total >> 32) * (numbers[-1] | 1) & _WHOLE
    home = (mixed >> 32) * sets >> 32
    return home, ((mixed * _OTHER_HASH & _WHOLE) >> 32) * sets >> 32


def _signed(now: int, stamps: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """Return the age of each stamp, 0 for one of the future: it is before or after ``now`` by less than 2^31 ticks."""
    age = (np.uint32(now & _HALF) - stamps).view(np.int32)
    return np.maximum(age, 0).astype(np.uint64)


def _copy(copies: Words, window: Words, sets: Places) -> None:
    """Copy ``sets``, again where one changes meanwhile; leave zeros of one that never stands still."""
    which = slice(int(sets[0]), int(sets[-1]) + 1) if _neighbours(sets) else sets  # a slice is copied faster
    before = window[which, _SEQUENCE].copy()
    copies[:] = window[which]
    moved = np.flatnonzero(_changed(before, window[which, _SEQUENCE]))
    for _ in range(TRIES):
        if not len(moved):
            return
        again = sets[moved]
        before = window[again, _SEQUENCE]
        copies[moved] = window[again]
        moved = moved[_changed(before, window[again, _SEQUENCE])]
    copies[moved] = 0


def _neighbours(sets: Places) -> bool:
    return int(sets[-1]) - int(sets[0]) == len(sets) - 1


def _places(first: int, sets: Places, used: Places) -> Places:
    """Return the numbers in the cache of ``used`` slots of ``sets``, both counted from the first one's on."""
    if _neighbours(sets):
        return used + (first + int(sets[0])) * WAYS
    number, way = np.divmod(used, WAYS)
    return (first + sets[number]) * WAYS + way


def _changed(before: Words, after: Words) -> npt.NDArray[np.bool_]:
    changed: npt.NDArray[np.bool_] = (before != after) | (before & np.uint64(1) != 0)
    return changed
