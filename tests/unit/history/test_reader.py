"""Promises of cnf.history.reader: what was written of a time is found, and what is not there is told."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from cnf.errors import UnavailableError
from cnf.history.block import pack
from cnf.history.files import Files
from cnf.history.reader import read
from tests.unit.history.samples import HOUR, MINUTE, SECOND, START, block

LATE = 3 * SECOND
"""A block begins and ends with a drain, so long after the minute."""

LATER = START + 24 * HOUR


def wrote(folder: Path, *spans: tuple[int, int]) -> None:
    """Write blocks."""
    for number, (begin, end) in enumerate(spans):
        files = Files(folder)
        files.append(pack(number, block(begin, end)), 1 << 20)


def found(folder: Path, begin: int, end: int, now: int = LATER) -> list[tuple[int, int]]:
    """Return the blocks of a time, as somebody gets them who asks at ``now``."""
    return [*read(str(folder), begin, end, now, threading.Lock()).joined.spans]


def minutes(*which: int) -> list[tuple[int, int]]:
    """Return spans as drains have them."""
    return [(START + minute * MINUTE + LATE, START + (minute + 1) * MINUTE + LATE) for minute in which]


def test_a_minute_is_its_block(tmp_path: Path) -> None:
    """Of blocks that overlap a minute, the one that it is about is shown."""
    wrote(tmp_path, *minutes(*range(10)))
    for minute in range(10):
        assert found(tmp_path, START + minute * MINUTE, START + (minute + 1) * MINUTE) == minutes(minute)


def test_a_second_is_the_block_that_holds_it(tmp_path: Path) -> None:
    """Asked to the second, the answer is the block of that second."""
    wrote(tmp_path, *minutes(0, 1))
    second = START + MINUTE + SECOND
    assert found(tmp_path, second, second + SECOND) == minutes(0)
    assert found(tmp_path, second + 3 * SECOND, second + 4 * SECOND) == minutes(1)


def test_a_span_is_all_its_blocks_also_around_a_gap(tmp_path: Path) -> None:
    """Twenty minutes are twenty blocks, less those that are not there."""
    wrote(tmp_path, *minutes(*range(10), *range(13, 30)))
    assert found(tmp_path, START + 5 * MINUTE, START + 25 * MINUTE) == minutes(*range(5, 10), *range(13, 25))


def test_parts_of_a_minute_and_long_blocks_are_found(tmp_path: Path) -> None:
    """A restart makes two blocks of a minute, and a time without a daemon one of hours."""
    parts = [(START, START + 20 * SECOND), (START + 20 * SECOND, START + MINUTE), (START + MINUTE, START + 3 * HOUR)]
    wrote(tmp_path, *parts)
    assert found(tmp_path, START, START + MINUTE) == parts[:2]
    assert found(tmp_path, START + HOUR, START + HOUR + MINUTE) == parts[2:]


def test_minutes_that_came_twice_are_both_found(tmp_path: Path) -> None:
    """Where the clock was set back, a time has all that was written of it, in the order of writing."""
    wrote(tmp_path, *minutes(5, 6), (START + 5 * MINUTE, START + 6 * MINUTE))
    assert found(tmp_path, START + 5 * MINUTE, START + 6 * MINUTE) == [
        *minutes(5),
        (START + 5 * MINUTE, START + 6 * MINUTE),
    ]


@pytest.mark.parametrize(
    ("begin", "why"),
    [
        (-60, "it goes from 2023-11-14T22:00:03Z to 2023-11-14T22:21:03Z"),
        (10, "cnfd did not run, or kept none, from 2023-11-14T22:02:03Z to 2023-11-14T22:20:03Z"),
        (60, "it goes from 2023-11-14T22:00:03Z to 2023-11-14T22:21:03Z"),
    ],
)
def test_a_time_without_history_is_told_with_what_there_is(tmp_path: Path, begin: int, why: str) -> None:
    """The answer says from when to when there is none, or how far it goes."""
    wrote(tmp_path, *minutes(0, 1, 20))
    with pytest.raises(UnavailableError, match=re.escape(why)):
        found(tmp_path, START + begin * MINUTE, START + (begin + 1) * MINUTE)


def test_what_is_to_come_is_told_from_what_is_not_written_yet(tmp_path: Path) -> None:
    """A minute that is just over has no block yet, and one of the future none at all."""
    begin = START + 2 * MINUTE
    for there in ((), minutes(0, 1)):
        wrote(tmp_path, *there)
        with pytest.raises(UnavailableError, match=" yet: the first drain after a minute writes it"):
            found(tmp_path, begin, begin + MINUTE, begin + MINUTE + SECOND)
        with pytest.raises(UnavailableError, match=": that is still to come"):
            found(tmp_path, begin, begin + MINUTE, begin - SECOND)
    with pytest.raises(UnavailableError, match=": it goes from "):
        found(tmp_path, begin, begin + MINUTE, begin + 2 * MINUTE)


def test_no_history_at_all_is_told(tmp_path: Path) -> None:
    """Where nothing was written, the answer says why that may be."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UnavailableError, match="or of any other time: cnfd has just started"):
            found(folder, START, START + MINUTE)


def test_what_is_damaged_is_counted_and_the_rest_shown(tmp_path: Path) -> None:
    """A block that cannot be read hides no other; where it is the only one, the answer says so."""
    wrote(tmp_path, *minutes(0, 1))
    first = min(tmp_path.iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"\x00")
    both = read(str(tmp_path), START, START + 2 * MINUTE, LATER, threading.Lock())
    assert (len(both.joined.spans), both.damaged) == (1, 1)
    with pytest.raises(UnavailableError, match="what is kept of it is damaged"):
        found(tmp_path, START, START + MINUTE)


def test_reading_waits_for_a_drain(tmp_path: Path) -> None:
    """While a drain is on, no block is read."""
    wrote(tmp_path, *minutes(0))
    draining, done = threading.Lock(), threading.Event()

    def ask() -> None:
        read(str(tmp_path), START, START + MINUTE, LATER, draining)
        done.set()

    with draining:
        reader = threading.Thread(target=ask)
        reader.start()
        assert not done.wait(0.2)
    reader.join(20)
    assert done.is_set()
