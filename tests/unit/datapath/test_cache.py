"""A cache is read whole, wherever its slots in use stand: few or many, in one window or several."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import pytest

from cnf.abi import FLOW4_SET, FLOW6_SET, LIMIT4_SET, LIMIT6_SET, WAYS
from cnf.datapath.cache import BLOCK, WINDOW, Cache, MappedArray, Words


class Memory(MappedArray):
    """A table in this process's memory."""

    def __init__(self, value: np.dtype[Any], used: np.ndarray[Any, np.dtype[np.bool_]]) -> None:
        """Fill the slots that are ``used``, shape (sets, WAYS), with numbers that no two words share."""
        self.name, self.value, self.size = "memory", value, len(used)
        self.sets = np.zeros((self.size, value.itemsize // 8), np.uint64)
        self.slots = self.sets.view(value).reshape(self.size)["slots"]
        words = np.arange(1, used.size * value["slots"].base.itemsize // 8 + 1, dtype=np.uint64)
        self.slots[used] = words.view(value["slots"].base).reshape(used.shape)[used]
        self.sets[used.any(axis=1), 1] = 2  # the sequence

    def window(self, first: int, count: int, _access: int = mmap.PROT_READ) -> Words:
        """Return elements; the kernel maps from a multiple of WINDOW on."""
        assert first % WINDOW == 0
        return self.sets[first : first + count]


@pytest.mark.parametrize("share", [0, 0.001, 0.05, 0.5, 1])
@pytest.mark.parametrize("value", [FLOW4_SET, FLOW6_SET, LIMIT4_SET, LIMIT6_SET], ids=["4", "6", "source4", "source6"])
def test_each_slot_in_use_is_read_once(value: np.dtype[Any], share: float) -> None:
    """With its number, in their order, into memory of the reader or where the caller wants it."""
    used = np.random.default_rng(1).random((2 * WINDOW + BLOCK + 3, WAYS)) < share
    memory = Memory(value, used)
    cache = Cache(memory)
    expected = memory.slots[used].tobytes()
    room = np.zeros((used.size, value["slots"].base.itemsize // 8), np.uint64)
    count = 0

    def behind(slots: int) -> Words:
        return room[count : count + slots]

    places, records = [np.empty(0, np.intp)], b""
    for block in cache.blocks():
        places.append(block.places)
        records += block.words.tobytes()
    assert np.concatenate(places).tolist() == np.flatnonzero(used).tolist()
    assert records == expected
    for block in cache.blocks(behind):
        count += len(block.places)
    assert room[:count].tobytes() == expected
