"""The handover, in a map of the kernel: what was put there whole is there for whoever opens the map next."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Final

import numpy as np
import pytest

from cnf.abi import HANDOVER_PAGE
from cnf.arrays import Records
from cnf.datapath import handover_map
from cnf.datapath.handover_map import PAGE, HandoverMap, PartError
from cnf.errors import MapError
from cnf.kernel.maps import Array
from cnf.kernel.pins import UnreadableError
from tests.bpf.conftest import Datapath

PAGES: Final = 513  # CNF_HANDOVER_PAGES of abi.h: without limits
BANK: Final = (PAGES - 1) // 2
"""Pages that one document can have."""


@pytest.fixture
def pages(loaded: Datapath) -> Iterator[Array]:
    """Give each test a blank map."""
    pages = Array("handover", _fd(loaded), HANDOVER_PAGE)
    _wipe(pages)
    yield pages
    _wipe(pages)


@pytest.fixture
def fd(loaded: Datapath, pages: Array) -> int:
    """Return the map's descriptor."""
    assert not pages.read(0)["bytes"].any()
    return _fd(loaded)


def test_a_blank_map_holds_nothing(fd: int) -> None:
    """Where nobody has written, no part is there, and that is no error."""
    assert HandoverMap(fd).part("tracker") is None


def test_parts_are_there_for_the_next(fd: int) -> None:
    """Parts are put one by one or together, and the latest of each is found by whoever opens the map."""
    one = HandoverMap(fd)
    one.put(tracker={"a": 1}, series={"long": _noise(3 * PAGE)})
    one.put(tracker={"a": 2})
    other = HandoverMap(fd)
    assert other.part("tracker") == {"a": 2}
    assert other.part("series") == one.part("series") == {"long": _noise(3 * PAGE)}

    other.put(limiter={})
    last = HandoverMap(fd)
    assert (last.part("tracker"), last.part("limiter"), last.part("sources")) == ({"a": 2}, {}, None)


def test_it_can_be_full_to_the_last_page(fd: int) -> None:
    """What just fits is kept, in both banks; what does not is refused with its size, and what was there stays."""
    full, too_much = {"noise": _noise(BANK * PAGE * 5 // 4)}, {"noise": _noise(2 * BANK * PAGE)}
    for _bank in (0, 1):
        HandoverMap(fd).put(series=full)
        assert HandoverMap(fd).part("series") == full

    kept = HandoverMap(fd)
    with pytest.raises(MapError, match=f"there are {BANK}"):
        kept.put(series=too_much)
    assert kept.part("series") == HandoverMap(fd).part("series") == full
    kept.put(series={})
    assert HandoverMap(fd).part("series") == {}


@pytest.mark.parametrize("writes", range(4))
def test_a_writing_that_is_cut_off_leaves_the_whole_before(
    fd: int, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Wherever a writing ends early, what was there before it is found, until the header has been written."""
    before, after = {"noise": _noise(3 * PAGE)}, {"noise": _noise(3 * PAGE, seed=2)}
    HandoverMap(fd).put(tracker=before)
    cut = _CutOff(writes)
    monkeypatch.setattr(handover_map, "Array", cut.array)
    with pytest.raises(InterruptedError):
        HandoverMap(fd).put(tracker=after)
    monkeypatch.undo()

    assert HandoverMap(fd).part("tracker") == before


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(0, id="number"),
        pytest.param(8, id="length"),
        pytest.param(11, id="length too long"),
        pytest.param(12, id="count"),
        pytest.param(16, id="checksum"),
    ],
)
def test_a_header_that_nobody_wrote_is_seen(fd: int, pages: Array, place: int) -> None:
    """A flipped bit anywhere in the header makes the handover unreadable; it is not taken for a blank one."""
    HandoverMap(fd).put(tracker={"noise": _noise(PAGE)})
    _flip(pages, 0, place)

    with pytest.raises(UnreadableError, match="handover"):
        HandoverMap(fd)


def test_a_part_that_nobody_wrote_is_seen(fd: int, pages: Array) -> None:
    """A flipped bit in a part makes that part unreadable, and no other; the bank that is not in use does not matter."""
    HandoverMap(fd).put(tracker={"a": 1}, series={"noise": _noise(2 * PAGE)})
    _flip(pages, 1, 200)
    assert HandoverMap(fd).part("series") == {"noise": _noise(2 * PAGE)}
    _flip(pages, 2 + BANK, 99)

    damaged = HandoverMap(fd)
    assert damaged.part("tracker") == {"a": 1}
    with pytest.raises(PartError, match="checksum"):
        damaged.part("series")
    damaged.put(series={})
    assert HandoverMap(fd).part("series") == {}


def test_a_part_of_another_version_is_not_misread(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a daemon of another version has written is refused with both versions; its other parts are read."""
    ours = handover_map.VERSIONS["series"]
    with monkeypatch.context() as newer:
        newer.setattr(handover_map, "VERSIONS", handover_map.VERSIONS | {"series": ours + 1, "later": 1})
        HandoverMap(fd).put(tracker={"a": 1}, series={"b": 2}, later={"c": 3})

    there = HandoverMap(fd)
    assert there.part("tracker") == {"a": 1}
    with pytest.raises(PartError, match=f"version {ours + 1}, and this cnfd reads {ours}"):
        there.part("series")
    there.put(series={"b": 1})
    assert HandoverMap(fd).part("series") == {"b": 1}


class _CutOff:
    """An array in which one can write so many pages, and then no more."""

    def __init__(self, writes: int) -> None:
        self._left = writes

    def array(self, name: str, fd: int, value: np.dtype[np.void]) -> Array:
        array = Array(name, fd, value)
        write_many = array.write_many

        def some(places: list[int], values: Records) -> None:
            count = min(self._left, len(places))
            write_many(places[:count], values[:count])
            if count < len(places) or count == self._left:
                raise InterruptedError

        array.write_many = some  # type: ignore[method-assign, assignment] # the kernel cannot be made to stop there
        return array


def _fd(loaded: Datapath) -> int:
    return loaded.loaded.maps["handover"]


def _wipe(pages: Array) -> None:
    pages.write_many(np.arange(PAGES), np.zeros(PAGES, HANDOVER_PAGE))


def _flip(pages: Array, page: int, place: int) -> None:
    value = pages.read(page)[0]
    value["bytes"][place] ^= 1
    pages.write(page, value)


def _noise(length: int, seed: int = 1) -> str:
    """Return text that can be compressed to three quarters at best: six bits a character."""
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits + "+-", k=length))  # noqa: S311 - not a secret
