"""Promises of cnf.history.writer: no packet is in no block, and none in two, whatever ends, fails or begins anew."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
import structlog

from cnf.history.block import Block, unpack
from cnf.history.files import Files, content_of, paths, places
from cnf.history.increase import sum_of
from cnf.history.writer import Writer
from cnf.recording import History as Settings
from tests.unit.history.samples import HOUR, MINUTE, SECOND, START, drained, packets_of
from tests.unit.samples import Flow

MAPS: Final = 7


def writer(folder: Path, *, began: int | None = START, maps: int = MAPS, most: int = 1 << 20) -> Writer:
    """Return a writer of a daemon whose maps have counted since ``began``; None for maps that were there before."""
    return Writer(Settings(folder=str(folder), max_bytes=most), maps, began)


def blocks(folder: Path) -> list[Block]:
    """Return what was written, in that order."""
    found = [place for path in paths(folder) for place in places(path)]
    found.sort(key=lambda place: place.header.number)
    return [unpack(place.header, content_of(place)) for place in found]


def written(folder: Path) -> int:
    """Return how many packets of eth0 all blocks have."""
    return packets_of(sum_of(block.interfaces for block in blocks(folder))).get("eth0", 0)


def test_blocks_follow_each_other_from_the_start_on(tmp_path: Path) -> None:
    """A block begins where the one before has ended, the first one where new maps have begun; all add up."""
    written_by = writer(tmp_path)
    for minute in range(1, 6):
        written_by.take(drained(START + minute * MINUTE - 30 * SECOND, None, Flow(bytes=minute)))
        written_by.take(drained(START + minute * MINUTE, 10 * minute, Flow(bytes=100)))
    found = blocks(tmp_path)
    assert [(block.begin, block.end) for block in found] == [
        (START + minute * MINUTE, START + (minute + 1) * MINUTE) for minute in range(5)
    ]
    assert [packets_of(block.interfaces)["eth0"] for block in found] == [10] * 5
    assert [block.flows["ipv4"]["bytes"].tolist() for block in found] == [[101], [102], [103], [104], [105]]
    assert found[0].before is not None
    assert [block.before for block in found[1:]] == [None] * 4


def test_the_next_daemon_goes_on_where_the_latest_block_ended(tmp_path: Path) -> None:
    """After kill -9, what was counted since the latest block is in the next one, also while no daemon ran."""
    first = writer(tmp_path)
    first.take(drained(START + MINUTE, 10))
    first.take(drained(START + MINUTE + 20 * SECOND, None, Flow()))  # it is killed here

    second = writer(tmp_path, began=None)
    second.take(drained(START + 3 * HOUR, 25, Flow(bytes=3)))
    second.take(drained(START + 3 * HOUR + MINUTE, 31))
    found = blocks(tmp_path)
    assert [packets_of(block.interfaces)["eth0"] for block in found] == [10, 15, 6]
    assert (found[1].begin, found[1].end) == (START + MINUTE, START + 3 * HOUR)
    assert found[1].flows["ipv4"]["bytes"].tolist() == [3]


def test_a_block_that_was_cut_off_is_made_up_for(tmp_path: Path) -> None:
    """Killed in the middle of a block: the next daemon's first block has what that one would have had."""
    first = writer(tmp_path)
    for minute in (1, 2, 3):
        first.take(drained(START + minute * MINUTE, 10 * minute))
    (path,) = paths(tmp_path)
    whole = path.read_bytes()
    *_, last = places(path)
    for length in range(last.offset, len(whole), 37):
        for each in paths(tmp_path):
            each.unlink()
        path.write_bytes(whole[:length])
        second = writer(tmp_path, began=None)
        second.take(drained(START + 4 * MINUTE, 42))
        assert written(tmp_path) == 42
        assert blocks(tmp_path)[-1].begin == START + 2 * MINUTE


@pytest.mark.parametrize("maps", [MAPS, MAPS + 1])
def test_maps_that_nobody_knows_are_counted_from_now_on(tmp_path: Path, maps: int) -> None:
    """Where other maps have counted, or no block is left, the first drain is where history begins."""
    if maps != MAPS:
        writer(tmp_path).take(drained(START + MINUTE, 10))
    second = writer(tmp_path, began=None, maps=maps)
    second.take(drained(START + HOUR, 1000, Flow(packets=900)))
    second.take(drained(START + HOUR + MINUTE, 1003, Flow(packets=3)))
    last = blocks(tmp_path)[-1]
    assert packets_of(last.interfaces) == {"eth0": 3}
    assert last.flows["ipv4"]["packets"].tolist() == [3]
    assert last.begin == START + HOUR


def test_new_maps_begin_anew(tmp_path: Path) -> None:
    """After a start with new maps, counts are those since that start, beside what the blocks before have."""
    writer(tmp_path).take(drained(START + MINUTE, 10))
    second = writer(tmp_path, began=START + HOUR, maps=MAPS + 1)
    second.take(drained(START + HOUR + MINUTE, 4))
    last = blocks(tmp_path)[-1]
    assert (packets_of(last.interfaces), last.begin) == ({"eth0": 4}, START + HOUR)
    assert last.began == ("interface eth0",)


@pytest.mark.parametrize("step", [-HOUR, HOUR, 100 * HOUR])
def test_a_clock_that_is_set_takes_no_block(tmp_path: Path, step: int) -> None:
    """After a step of the clock, a block has the times of the clock as it is, its real length, and all counts."""
    written_by = writer(tmp_path)
    written_by.take(drained(START + 10 * MINUTE, 10))
    now = START + 11 * MINUTE
    boottime = drained(now, None).batch.clock.now.boottime
    written_by.take(drained(now + step, 15, boottime=boottime))
    written_by.take(drained(now + step + MINUTE, 18, boottime=boottime + MINUTE))
    found = blocks(tmp_path)[-2:]
    assert [block.end - block.begin for block in found] == [MINUTE, MINUTE]
    assert [block.end for block in found] == [now + step, now + step + MINUTE]
    assert [packets_of(block.interfaces)["eth0"] for block in found] == [5, 3]


def test_a_step_back_writes_nothing_over(tmp_path: Path) -> None:
    """Minutes that come twice are both kept."""
    written_by = writer(tmp_path)
    for minute in range(1, 4):
        written_by.take(drained(START + minute * MINUTE, minute))
    boottime = drained(START + 3 * MINUTE, None).batch.clock.now.boottime
    for minute in range(1, 4):
        written_by.take(drained(START + minute * MINUTE, 3 + minute, boottime=boottime + minute * MINUTE))
    assert written(tmp_path) == 6
    assert [block.end for block in blocks(tmp_path)] == [START + minute * MINUTE for minute in (1, 2, 3, 1, 2, 3)]


def test_what_cannot_be_written_is_in_the_next_block(tmp_path: Path) -> None:
    """A folder that cannot be made is a count and one line in the log; once it can, nothing is missing."""
    place = tmp_path / "file"
    place.write_text("", encoding="utf-8")
    folder = place / "history"
    with structlog.testing.capture_logs() as log:
        written_by = writer(folder)
        for minute in (1, 2, 3):
            written_by.take(drained(START + minute * MINUTE, 10 * minute, Flow(bytes=minute)))
        assert written_by.errors == 3
        place.unlink()
        written_by.take(drained(START + 4 * MINUTE, 40, Flow(bytes=4)))
    assert [entry["event"] for entry in log] == ["history not written", "history is written again"]
    assert str(folder) in log[0]["error"]
    (block,) = blocks(folder)
    assert packets_of(block.interfaces) == {"eth0": 40}
    assert block.flows["ipv4"]["bytes"].tolist() == [10]
    assert (block.begin, block.end) == (START, START + 4 * MINUTE)


def test_a_bound_that_no_block_fits_is_told(tmp_path: Path) -> None:
    """A block larger than all blocks may be is an error that names the option."""
    with structlog.testing.capture_logs() as log:
        written_by = writer(tmp_path, most=100)
        written_by.take(drained(START + MINUTE, 10))
    assert written_by.errors == 1
    assert "history.max_bytes" in log[0]["error"]


def test_another_folder_takes_over_from_now_on(tmp_path: Path) -> None:
    """After a reload with another folder, the next block begins a file there, and nothing is missing in between."""
    written_by = writer(tmp_path / "a")
    written_by.take(drained(START + MINUTE, 10))
    written_by.settings = Settings(folder=str(tmp_path / "b"))
    written_by.take(drained(START + 2 * MINUTE, 15))
    (block,) = blocks(tmp_path / "b")
    assert packets_of(block.interfaces) == {"eth0": 5}
    assert block.before is not None
    assert written(tmp_path / "a") == 10


def test_bytes_stay_below_the_bound_and_the_sums_go_on(tmp_path: Path) -> None:
    """Where files have gone, the next daemon still goes on from the latest block."""
    written_by = writer(tmp_path, most=6000)
    for minute in range(1, 100):
        written_by.take(drained(START + minute * MINUTE, 10 * minute))
        assert Files(tmp_path).bytes <= 6000
    assert 3 < len(blocks(tmp_path)) < 99
    second = writer(tmp_path, began=None, most=6000)
    second.take(drained(START + 100 * MINUTE, 1000))
    assert packets_of(blocks(tmp_path)[-1].interfaces) == {"eth0": 10}
