"""Typed access to the datapath's maps: batch reads of flow tables and sums of per-CPU counters, in numpy arrays."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import COUNTER
from cnf.arrays import Records, Rows
from cnf.counts import Count
from cnf.errors import MapError
from cnf.kernel import libbpf

BATCH: Final = 8192
"""Entries a batch call reads: the staging arrays stay in the processor's cache, and the call's own cost vanishes."""

INTERRUPTED_TRIES: Final = 8


class Taken(NamedTuple):
    """Values that were deleted, and what stopped it before the end, if anything did."""

    values: Records
    found: Rows
    """Which of the keys they were under."""
    error: MapError | None


class FlowMap:
    """A flow table: read in batches, and entries taken out one by one.

    ``lookup_batch`` is libbpf's call; another one may stand in for it to try the kernel's refusals.
    """

    def __init__(
        self,
        name: str,
        fd: int,
        key: np.dtype[Any],
        value: np.dtype[Any],
        lookup_batch: Callable[..., int] | None = None,
    ) -> None:
        """Prepare staging arrays for ``BATCH`` entries of the structured dtypes ``key`` and ``value``."""
        self.name = name
        self.key, self.value = key, value
        self._fd = fd
        self._lookup_batch = lookup_batch or libbpf.library().bpf_map_lookup_batch
        self._take = libbpf.library().bpf_map_lookup_and_delete_elem
        self._keys = np.empty(BATCH, key)
        self._values = np.empty(BATCH, value)

    def batches(self) -> Iterator[tuple[Records, Records]]:
        """Yield (keys, values) until the table has been walked; each pair is overwritten by the next.

        A flow that stays in the table all along is met exactly once; one that comes or goes meanwhile may be missed.

        Raises:
            MapError: the kernel refused, other than by EINTR (tried again) or ENOSPC (tried with larger batches).

        """
        cursor = ctypes.c_uint64()  # opaque; a hash's is the 32-bit number of a chain
        count = ctypes.c_uint32()
        opts = libbpf.BatchOpts(sz=ctypes.sizeof(libbpf.BatchOpts))
        started = False
        interrupted = 0
        while True:
            count.value = len(self._keys)
            status = self._lookup_batch(
                self._fd,
                ctypes.byref(cursor) if started else None,
                ctypes.byref(cursor),
                self._keys.ctypes.data,
                self._values.ctypes.data,
                ctypes.byref(count),
                ctypes.byref(opts),
            )
            if status == -errno.ENOSPC:  # one chain of the hash holds more than the arrays do
                self._keys = np.empty(2 * len(self._keys), self._keys.dtype)
                self._values = np.empty(2 * len(self._values), self._values.dtype)
                continue
            if status == -errno.EINTR and interrupted < INTERRUPTED_TRIES:
                interrupted += 1
                continue
            if status not in (0, -errno.ENOENT):
                raise self._error("reading", -status)
            started = True
            if count.value:
                yield self._keys[: count.value], self._values[: count.value]
            if status == -errno.ENOENT:
                return

    def get(self, key: Records) -> Records | None:
        """Return the value under ``key``, both of shape (); None if there is none."""
        value = np.empty((), self._values.dtype)
        status = libbpf.library().bpf_map_lookup_elem(self._fd, key.tobytes(), value.ctypes.data)
        if status == -errno.ENOENT:
            return None
        if status < 0:
            raise self._error("reading", -status)
        return value

    def put(self, key: Records, value: Records) -> None:
        """Write ``value`` under ``key``, both of shape ()."""
        status = libbpf.library().bpf_map_update_elem(self._fd, key.tobytes(), value.tobytes(), 0)
        if status < 0:
            raise self._error("writing", -status)

    def take(self, keys: Records) -> Taken:
        """Delete ``keys``, shape (N,), and return the final values of those that were still there.

        Value and deletion are one step for the kernel, so that no packet counted before it is lost.
        """
        keys = np.ascontiguousarray(keys)
        values = np.empty(len(keys), self._values.dtype)
        key, value = keys.ctypes.data, values.ctypes.data
        found: list[int] = []
        error = None
        for index in range(len(keys)):
            status = self._take(self._fd, key + index * keys.itemsize, value + len(found) * values.itemsize)
            if status == 0:
                found.append(index)
            elif status != -errno.ENOENT:  # which is: evicted since it was read
                error = self._error("deleting from", -status)
                break
        return Taken(values[: len(found)], np.array(found, np.intp), error)

    def _error(self, doing: str, number: int) -> MapError:
        return MapError(f"{doing} map {self.name}: {os.strerror(number)}", errno=number)


def write_batch(name: str, fd: int, keys: Records, values: Records) -> None:
    """Write ``values`` under ``keys``, both of shape (N,), in the map behind ``fd``."""
    if not len(keys):
        return
    count, opts = ctypes.c_uint32(len(keys)), libbpf.BatchOpts(sz=ctypes.sizeof(libbpf.BatchOpts))
    keys, values = np.ascontiguousarray(keys), np.ascontiguousarray(values)
    status = libbpf.library().bpf_map_update_batch(
        fd, keys.ctypes.data, values.ctypes.data, ctypes.byref(count), ctypes.byref(opts)
    )
    if status < 0:
        raise MapError(
            f"writing map {name}, entry {count.value + 1} of {len(keys)}: {os.strerror(-status)}", errno=-status
        )


class Array:
    """An array map: an element, and one a CPU where the map is per-CPU, is ``copies`` values of ``value``."""

    def __init__(self, name: str, fd: int, value: np.dtype[Any], copies: int = 1) -> None:
        """Prepare for values of the dtype ``value``."""
        self.name = name
        self._fd = fd
        self._value = value
        self._copies = copies

    def read(self, place: int) -> Records:
        """Return the values of one element, shape (copies,)."""
        values = np.empty(self._copies, self._value)
        index = ctypes.c_uint32(place)
        status = libbpf.library().bpf_map_lookup_elem(self._fd, ctypes.byref(index), values.ctypes.data)
        if status < 0:
            raise MapError(f"reading map {self.name}[{place}]: {os.strerror(-status)}", errno=-status)
        return values

    def write(self, place: int, value: Records) -> None:
        """Set every value of one element to ``value``, shape ()."""
        values = np.repeat(value, self._copies)
        index = ctypes.c_uint32(place)
        status = libbpf.library().bpf_map_update_elem(self._fd, ctypes.byref(index), values.ctypes.data, 0)
        if status < 0:
            raise MapError(f"writing map {self.name}[{place}]: {os.strerror(-status)}", errno=-status)

    def write_many(self, places: npt.ArrayLike, values: Records) -> None:
        """Set the elements at ``places``, shape (N,), to ``values``, shape (N,); not of a per-CPU array."""
        write_batch(self.name, self._fd, np.asarray(places, np.uint32), values)


class DirectArray:
    """DIRECT_ARRAY() of direct.h, of elements of whole words of 64 bits. Writes are stores to its memory."""

    def __init__(self, name: str, fd: int, value: np.dtype[Any]) -> None:
        """Prepare for elements of the dtype ``value``. Raises MapError."""
        self.name = name
        self._fd = fd
        self._value = value
        info = libbpf.map_info(fd)
        self._bytes = info.max_entries * info.value_size

    def __len__(self) -> int:
        """Return the number of elements."""
        return int(self._bytes // self._value.itemsize)

    def read(self, place: int) -> Records:
        """Return a copy of one element, shape (). Raises MapError."""
        element: Records = self._words()[place].copy().view(self._value)[0]
        return element

    def read_range(self, first: int, count: int) -> Records:
        """Return a copy of ``count`` elements from ``first`` on, shape (count,). Raises MapError."""
        return self._words()[first : first + count].copy().view(self._value).reshape(-1)

    def write(self, place: int, value: Records) -> None:
        """Set one element to ``value``, shape (). Raises MapError."""
        self.write_many([place], value.reshape(1))

    def write_many(self, places: npt.ArrayLike, values: Records) -> None:
        """Set the elements at ``places``, shape (N,), to ``values``, shape (N,). No word is seen half written.

        Raises:
            MapError: the kernel refused to map the array.

        """
        words = self._words()
        records = np.ascontiguousarray(values, self._value)
        words[np.asarray(places, np.intp)] = records.view(np.uint64).reshape(-1, words.shape[1])

    def _words(self) -> npt.NDArray[np.uint64]:
        """Map the array, for as long as what is returned is there: shape (elements, words of one)."""
        try:
            memory = mmap.mmap(self._fd, -(-self._bytes // mmap.PAGESIZE) * mmap.PAGESIZE)
        except OSError as error:
            raise MapError(f"mapping map {self.name}: {error.strerror}", errno=error.errno or 0) from error
        return np.frombuffer(memory, np.uint64, self._bytes // 8).reshape(-1, self._value.itemsize // 8)


class CounterArray(Array):
    """A per-CPU array of counters; user space writes an element only while nothing counts in it."""

    def __init__(self, name: str, fd: int) -> None:
        """Prepare for values of COUNTER, one a possible CPU."""
        super().__init__(name, fd, COUNTER, libbpf.possible_cpus())

    def sum(self, place: int) -> Count:
        """Return one element's sum over all CPUs."""
        values = self.read(place)
        return Count(int(values["packets"].sum(dtype=np.uint64)), int(values["bytes"].sum(dtype=np.uint64)))

    def sums(self, first: int, count: int) -> Records:
        """Return the sums over all CPUs of ``count`` elements from ``first`` on: COUNTER, shape (count,)."""
        before, cursor = ctypes.c_uint32(first - 1), ctypes.c_uint32()  # the kernel begins behind the one it is told
        keys, values = np.empty(count, np.uint32), np.empty((count, self._copies), COUNTER)
        read, opts = ctypes.c_uint32(count), libbpf.BatchOpts(sz=ctypes.sizeof(libbpf.BatchOpts))
        status = libbpf.library().bpf_map_lookup_batch(
            self._fd,
            ctypes.byref(before) if first else None,
            ctypes.byref(cursor),
            keys.ctypes.data,
            values.ctypes.data,
            ctypes.byref(read),
            ctypes.byref(opts),
        )
        if status not in (0, -errno.ENOENT) or read.value != count:  # ENOENT: they were the last
            raise MapError(f"reading map {self.name}[{first}]: {os.strerror(-status)}", errno=-status)
        total = np.empty(count, COUNTER)
        for field in ("packets", "bytes"):
            total[field] = values[field].sum(axis=1, dtype=np.uint64)
        return total

    def zero(self, place: int) -> None:
        """Set one element to zero."""
        self.write(place, np.zeros((), COUNTER))

    def zero_range(self, first: int, count: int) -> None:
        """Set ``count`` elements from ``first`` on to zero."""
        self.zero_many(first + np.arange(count, dtype=np.uint32))

    def zero_many(self, places: npt.ArrayLike) -> None:
        """Set the elements at ``places``, shape (N,), to zero."""
        places = np.asarray(places, np.uint32)
        write_batch(self.name, self._fd, places, np.zeros((len(places), self._copies), COUNTER))
