"""A cache that changes while it is read is read whole: no flow is torn, and none that stays is missed."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import FAMILIES, WAYS, Family
from cnf.arrays import Records
from cnf.datapath.cache import TRIES, Block, Cache, MappedArray, Secrets, Words
from cnf.flows.recorder import SETS
from tests.bpf.conftest import only
from tests.bpf.limited import Clocked
from tests.bpf.tables import CacheFlows
from tests.bpf.test_cache_slots import Slots

pytestmark = [only("cache"), pytest.mark.parametrize("family", FAMILIES)]

Happens = Callable[[int], object]
EVERY_TIME: Final = TRIES + 1
"""Copies of a set until its reader gives up."""


class Watched(np.ndarray):
    """Mapped memory in whose every copy the odd words are read later than the even ones, and in between it changes."""

    happens: Happens
    copies: list[int]

    def __array_finalize__(self, source: object) -> None:
        """Be the same to every view."""
        self.happens = getattr(source, "happens", lambda _number: None)
        self.copies = getattr(source, "copies", [])

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - whatever numpy takes and returns
        """Read; what has two dimensions is a copy of slots."""
        read = np.asarray(super().__getitem__(index))
        if read.ndim != 2:
            return read
        torn = read.copy()
        self.copies.append(len(torn))
        self.happens(len(self.copies))
        torn[:, 1::2] = np.asarray(super().__getitem__(index))[:, 1::2]
        return torn


class WatchedArray(MappedArray):
    """A map of which every window is watched."""

    happens: Happens
    copies: list[int]

    def window(self, first: int, count: int, access: int = mmap.PROT_READ) -> Words:
        """Map it."""
        window = super().window(first, count, access).view(Watched)
        window.happens, window.copies = self.happens, self.copies
        return window


class Reading:
    """A cache with flows of one set, and of others, and what happens while it is copied."""

    def __init__(self, clocked: Clocked, family: Family) -> None:
        """Put eight flows into one set, and one each into some others."""
        self.slots = Slots(clocked, family)
        *self.eight, self.ninth, self.tenth = self.slots.neighbours(WAYS + 2)
        for number in self.eight:
            self.slots.send(number, 2)
            self.slots.tick(1)
        self.others = self.slots.others(9)
        for number in self.others:
            self.slots.send(number, 2)
        name = f"flows{family[-1]}"
        self.memory = WatchedArray(name, clocked.loaded.maps[name], SETS[family])
        self.memory.happens, self.memory.copies = (lambda _number: None), []
        self.cache = Cache(self.memory)
        self.secrets = Secrets(clocked.loaded.maps).words()
        self.family = family
        self._fd = clocked.loaded.maps[name]

    def numbers(self, block: Block) -> dict[int, int]:
        """Return packets by flow."""
        return {
            int.from_bytes(slot["key"]["src_addr"].tobytes()[-4:], "big"): int(slot["packets"])
            for slot in self.cache.records(block.words)
        }

    def key(self, number: int) -> Records:
        """Return the key of a flow that is there."""
        key: Records
        (key,) = (
            slot["key"].copy()
            for block in Cache(MappedArray(self.memory.name, self._fd, self.memory.value)).blocks()
            for slot in self.cache.records(block.words)
            if slot["key"]["src_addr"].tobytes()[-4:] == number.to_bytes(4, "big")
        )
        return key

    def read(self) -> dict[int, int]:
        """Return what the whole table has, packets by flow."""
        return {number: packets for block in self.cache.blocks() for number, packets in self.numbers(block).items()}


@pytest.fixture
def reading(clocked: Clocked, family: Family) -> Iterator[Reading]:
    """Give each test the same flows."""
    reading = Reading(clocked, family)
    yield reading
    del reading.memory.happens  # which may refer to what the memory is part of


@pytest.mark.parametrize("changes", range(EVERY_TIME))
def test_a_bucket_that_changes_while_it_is_copied_is_copied_again(reading: Reading, changes: int) -> None:
    """As often as it takes, up to four times more: then every flow is there, as it is in the end."""
    newcomers = [reading.ninth, reading.tenth, *reading.eight][:changes]
    reading.memory.happens = lambda number: [reading.slots.send(each, 3) for each in newcomers[number - 1 : number]]

    found = reading.read()

    assert found == dict.fromkeys((*reading.others, *reading.eight[changes:]), 2) | dict.fromkeys(newcomers, 3)
    assert reading.memory.copies == [1 + len(reading.others), *[1] * changes]


def test_a_bucket_that_never_stands_still_is_left_out(reading: Reading) -> None:
    """Rather than a flow that never was, none is read; the next reading has them all."""
    newcomers = [reading.ninth, reading.tenth, *reading.eight]
    reading.memory.happens = lambda number: reading.slots.send(newcomers[number - 1], 3)
    assert reading.read() == dict.fromkeys(reading.others, 2)
    assert len(reading.memory.copies) == EVERY_TIME

    reading.memory.happens = lambda _number: None
    left = [*reading.eight[EVERY_TIME:], *newcomers[:EVERY_TIME]]
    assert reading.read().keys() == {*left, *reading.others}


def test_a_bucket_that_is_claimed_is_copied_once_it_is_released(reading: Reading, clocked: Clocked) -> None:
    """While another CPU writes to a set, nothing in it is believed."""
    table = clocked.tables[reading.family]
    assert isinstance(table, CacheFlows)
    sequence = table.writable()["head"]["sequence"]
    sequence[sequence != 0] += 1
    everyone = dict.fromkeys((*reading.others, *reading.eight), 2)

    def released(number: int) -> None:
        if number == 2:
            sequence[sequence != 0] += 1

    reading.memory.happens = released
    assert reading.read() == everyone
    assert reading.memory.copies == [1 + len(reading.others)] * 3
    sequence[sequence != 0] += 1
    assert reading.read() == {}


def test_one_flow_is_found_whole(reading: Reading) -> None:
    """So is one whose sets alone are looked at; one that goes meanwhile, or was never there, is not found."""
    oldest, *_others, youngest = reading.eight
    key = reading.key(oldest)
    found = reading.cache.find(key, reading.secrets)
    assert found is not None
    assert reading.numbers(found) == {oldest: 2}

    reading.memory.copies.clear()
    reading.memory.happens = lambda number: reading.slots.send(reading.ninth, 3) if number == 1 else None
    assert reading.cache.find(key, reading.secrets) is None
    assert len(reading.memory.copies) == 3  # that of the second set is the last
    found = reading.cache.find(reading.key(youngest), reading.secrets)
    assert found is not None
    assert reading.numbers(found) == {youngest: 2}


def test_a_flow_in_a_bucket_that_never_stands_still_is_not_found(reading: Reading) -> None:
    """Rather than what never was, nothing is said of it."""
    newcomers = [reading.ninth, reading.tenth, *reading.eight]
    key = reading.key(newcomers[-1])
    reading.memory.happens = lambda number: reading.slots.send(newcomers[number - 1], 3)
    assert reading.cache.find(key, reading.secrets) is None
    key["src_port"] += 1
    assert reading.cache.find(key, reading.secrets) is None
