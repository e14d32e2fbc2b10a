"""The tries of the sets' prefixes: fill the bank that is not in use, and empty the one that was left."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from cnf.abi import FAMILIES, MAX_SET_PREFIXES, Family
from cnf.arrays import Records
from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.maps import BATCH, write_batch
from cnf.limiter.maps import PREFIX_KEYS

_BITS: Final = np.dtype("<u8")


class SetMaps:
    """The prefixes of the sets in the kernel; one thread at a time.

    Nothing of them is kept here: what a bank holds, the kernel is asked.
    """

    def __init__(self, maps: Mapping[str, int], bank: int) -> None:
        """Take a datapath's maps, descriptors by name, in which ``bank`` is in use; the other one is emptied."""
        self._tries = {family: _Trie(f"limit_sets{family[-1]}", maps, PREFIX_KEYS[family]) for family in FAMILIES}
        for other in {1, 2} - {bank}:
            self.clear(other)

    def held(self, bank: int) -> dict[Family, tuple[Records, Records]]:
        """Return the keys of a bank, LIMIT4_PREFIX or LIMIT6_PREFIX, and the bits of the sets that each is in."""
        return {family: trie.held(bank - 1) for family, trie in self._tries.items()}

    def write(self, bank: int, tables: Mapping[Family, tuple[Records, Records]]) -> None:
        """Have these prefixes, and no others, in a bank that no packet reads.

        Raises:
            MapError: the kernel refused, or there is no room; the bank may hold some of them.

        """
        self.clear(bank)
        for family, trie in self._tries.items():
            trie.write(bank - 1, *tables[family])

    def clear(self, bank: int) -> None:
        """Empty a bank that no packet reads. Raises MapError."""
        for trie in self._tries.values():
            trie.clear(bank - 1)


class _Trie:
    """One family's prefixes, of both banks."""

    def __init__(self, name: str, maps: Mapping[str, int], key: np.dtype[Any]) -> None:
        self._name, self._fd, self._key = name, maps[name], key

    def held(self, bank: int) -> tuple[Records, Records]:
        found = [(keys[own], bits[own]) for keys, bits in self._batches() for own in (keys["bank"] == bank,)]
        keys = np.concatenate([np.empty(0, self._key), *(keys for keys, _ in found)])
        return keys, np.concatenate([np.empty(0, _BITS), *(bits for _, bits in found)])

    def write(self, bank: int, keys: Records, bits: Records) -> None:
        if len(keys) > MAX_SET_PREFIXES:
            message = f"map {self._name} has room for {MAX_SET_PREFIXES:,} prefixes of all sets, got {len(keys):,}"
            raise MapError(message, errno=errno.ENOSPC)
        keys = keys.copy()
        keys["bank"] = bank
        write_batch(self._name, self._fd, keys, bits)  # the kernel takes turns with others at each, and Python with it

    def clear(self, bank: int) -> None:
        before = np.empty(0, self._key)
        for keys, _bits in self._batches():  # each goes on from the last key of the one before, which must be there
            self._delete(before)
            before = keys[keys["bank"] == bank]
        self._delete(before)

    def _delete(self, keys: Records) -> None:
        if len(keys):
            count, opts = ctypes.c_uint32(len(keys)), libbpf.BatchOpts(sz=ctypes.sizeof(libbpf.BatchOpts))
            status = libbpf.library().bpf_map_delete_batch(
                self._fd, keys.ctypes.data, ctypes.byref(count), ctypes.byref(opts)
            )
            if status < 0:
                raise MapError(f"deleting from map {self._name}: {os.strerror(-status)}", errno=-status)

    def _batches(self) -> Iterator[tuple[Records, Records]]:
        """Yield what the map holds; each pair is overwritten by the next."""
        keys, bits, cursor = np.empty(BATCH, self._key), np.empty(BATCH, _BITS), np.empty(1, self._key)
        count, opts = ctypes.c_uint32(), libbpf.BatchOpts(sz=ctypes.sizeof(libbpf.BatchOpts))
        status, started = 0, False
        while status == 0:
            count.value = BATCH
            status = libbpf.library().bpf_map_lookup_batch(
                self._fd,
                cursor.ctypes.data if started else None,
                cursor.ctypes.data,
                keys.ctypes.data,
                bits.ctypes.data,
                ctypes.byref(count),
                ctypes.byref(opts),
            )
            if status not in (0, -errno.ENOENT):
                raise MapError(f"reading map {self._name}: {os.strerror(-status)}", errno=-status)
            started = True
            yield keys[: count.value], bits[: count.value]
