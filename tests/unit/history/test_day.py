"""The rates of a day: each block in the slices that it lies in, and nothing where nothing is known."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from cnf.history import day
from cnf.history.block import pack
from cnf.history.day import SLICE, SLICES, Day, Rates
from cnf.history.files import Files, Place, content_of
from tests.unit.history.samples import HOUR, MINUTE, SECOND, START, block, dropped

NOW: Final = START + 12 * HOUR + 5 * MINUTE
FIRST: Final = NOW // SLICE * SLICE - (SLICES - 1) * SLICE


def rates(tmp_path: Path, *spans: tuple[int, int], of: Day | None = None) -> Rates:
    """Return the rates up to NOW of blocks from and to these times; each has received 5 packets of 100 bytes."""
    files = Files(tmp_path)
    begun = files.latest.header.number if files.latest else 0
    for number, (begin, end) in enumerate(spans, begun + 1):
        files.append(pack(number, block(begin, end)), 1 << 30)
    return (of or Day()).rates(str(tmp_path), NOW, threading.Lock())


def known(found: Rates) -> dict[int, float]:
    """Return the packets a second that were received, by slice."""
    line = found.by_name["received_packets"]
    return {int(number): float(line[number]) for number in np.flatnonzero(~np.isnan(line))}


def test_a_minute_is_in_its_slice(tmp_path: Path) -> None:
    """Two minutes of 5 packets in the latest slice have 5 packets a minute; no other slice is known."""
    latest = FIRST + (SLICES - 1) * SLICE
    found = rates(tmp_path, (latest, latest + MINUTE), (latest + MINUTE, latest + 2 * MINUTE))
    assert known(found) == {SLICES - 1: pytest.approx(5 / 60)}
    assert found.by_name["received_bytes"][-1] == pytest.approx(500 / 60)
    assert found.begin.tolist() == [FIRST + number * SLICE for number in range(SLICES)]


def test_a_long_block_is_in_all_its_slices(tmp_path: Path) -> None:
    """A block of 25 minutes has one rate in each of the three slices that it lies in; the day before is left out."""
    begin = FIRST + 10 * SLICE + SLICE // 4
    found = rates(tmp_path, (begin, begin + 25 * MINUTE), (FIRST - 3 * MINUTE, FIRST - MINUTE))
    assert known(found) == dict.fromkeys((10, 11, 12), pytest.approx(5 / (25 * 60)))


def test_what_begins_before_the_day_counts_for_its_part(tmp_path: Path) -> None:
    """Of a block that began before the day, the first slice has the part that is in it."""
    assert known(rates(tmp_path, (FIRST - MINUTE, FIRST + MINUTE))) == {0: pytest.approx(5 / 120)}


def test_drops(tmp_path: Path) -> None:
    """What was dropped stands beside what was received."""
    files = Files(tmp_path)
    files.append(pack(1, block(NOW - 10 * SECOND, NOW, interfaces={"eth0": dropped(30)})), 1 << 30)
    found = Day().rates(str(tmp_path), NOW, threading.Lock())
    assert found.by_name["dropped_packets"][-1] == 3
    assert found.by_name["dropped_bytes"][-1] == 300


def test_blocks_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later answer reads what has come since; a file that has gone is forgotten."""
    read: list[int] = []

    def noted(place: Place) -> bytes:
        read.append(place.header.number)
        return content_of(place)

    monkeypatch.setattr(day, "content_of", noted)
    of = Day()
    latest = FIRST + (SLICES - 1) * SLICE
    rates(tmp_path, (latest, latest + MINUTE), of=of)
    rates(tmp_path, (latest + MINUTE, latest + 2 * MINUTE), of=of)
    assert read == [1, 2]
    for path in tmp_path.iterdir():
        path.unlink()
    assert known(rates(tmp_path, of=of)) == {}


def test_a_damaged_block_is_left_out(tmp_path: Path) -> None:
    """A block whose content has changed is not in the sums, and others are."""
    latest = FIRST + (SLICES - 1) * SLICE
    rates(tmp_path, (latest, latest + MINUTE), (latest + MINUTE, latest + 2 * MINUTE))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)
    assert known(rates(tmp_path)) == {SLICES - 1: pytest.approx(5 / 60)}
