"""Promises of cnf.history.files: a block is written whole or not at all, and all of them never take too much."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cnf.history.block import DamagedError, pack
from cnf.history.files import Files, content_of, paths, places
from tests.unit.history.samples import HOUR, MINUTE, START, block

DAY = 86400.0
PLENTY = 1 << 20


def write(files: Files, number: int, begin: int, most: int = PLENTY, keep: float = DAY) -> bytes:
    """Write a block of a minute from ``begin`` on."""
    data = pack(number, block(begin, begin + MINUTE))
    files.prepare(begin + MINUTE, keep, most)
    assert files.append(data, most)
    return data


def numbers(folder: Path) -> list[int]:
    """Return the blocks that a reader finds."""
    return [place.header.number for path in paths(folder) for place in places(path)]


def test_an_hour_is_a_file_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    """A file has an hour's blocks; folder and files are nobody else's."""
    folder = tmp_path / "a" / "history"
    files = Files(folder)
    for number in range(1, 181):
        write(files, number, START + number * MINUTE)
    assert len(paths(folder)) == 4
    assert numbers(folder) == [*range(1, 181)]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths(folder)} == {0o600}


def test_what_is_there_is_known_again(tmp_path: Path) -> None:
    """Another daemon finds the latest block by its number, and bytes and times of all."""
    files = Files(tmp_path)
    written = [write(files, number, START + number * MINUTE) for number in range(3)]
    again = Files(tmp_path)
    assert again.latest is not None
    assert again.latest == files.latest
    assert again.latest.header.number == 2
    assert again.bytes == files.bytes == sum(map(len, written))
    assert again.oldest == files.oldest == START


def test_a_torn_end_is_left_out_at_each_byte_and_never_written_behind(tmp_path: Path) -> None:
    """Whatever is left of a block whose writing was cut off, those before are read, and later ones are found."""
    whole, torn = pack(1, block()), pack(2, block(START + MINUTE, START + 2 * MINUTE))
    path = tmp_path / "2023-11-14T220000Z.blocks"
    for length in range(len(torn)):
        path.write_bytes(whole + torn[:length])
        assert numbers(tmp_path) == [1]
        files = Files(tmp_path)
        assert files.bytes == len(whole) + length
        write(files, 2, START + MINUTE)
        assert sorted(numbers(tmp_path)) == [1, 2]
        (other,) = (each for each in paths(tmp_path) if each != path)
        other.unlink()


def test_a_damaged_block_hides_no_other(tmp_path: Path) -> None:
    """Of a content that has changed on the disk, the header still leads to the next block."""
    files = Files(tmp_path)
    first = write(files, 1, START)
    write(files, 2, START + MINUTE)
    (path,) = paths(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(first) - 1] ^= 1
    path.write_bytes(data)
    damaged, good = places(path)
    with pytest.raises(DamagedError):
        content_of(damaged)
    assert content_of(good)


def test_the_oldest_files_go_before_there_is_too_much(tmp_path: Path) -> None:
    """At no time do all files take more than they may."""
    files = Files(tmp_path)
    most = 20 * len(pack(1, block()))
    for number in range(200):
        write(files, number, START + number * 7 * MINUTE, most)
        assert sum(path.stat().st_size for path in paths(tmp_path)) == files.bytes <= most
    kept = numbers(tmp_path)
    assert kept == [*range(kept[0], 200)]
    assert len(kept) >= 15
    assert files.oldest == START + kept[0] * 7 * MINUTE


def test_what_is_old_goes(tmp_path: Path) -> None:
    """A file goes when its latest block is older than it is to be kept; so does one of a clock that was far ahead."""
    files = Files(tmp_path)
    write(files, 1, START + 1000 * HOUR)
    for number in range(2, 50):
        write(files, number, START + number * HOUR, keep=5 * 3600)
    assert numbers(tmp_path) == [*range(44, 50)]


def test_a_smaller_bound_takes_effect_at_once(tmp_path: Path) -> None:
    """When even the file in use has to go, the block is to be the first of a fresh one."""
    files = Files(tmp_path)
    for number in range(10):
        write(files, number, START + number * MINUTE)
    data = pack(10, block())
    assert files.prepare(START + 11 * MINUTE, DAY, PLENTY) is False
    assert files.append(data, len(data)) is False
    assert numbers(tmp_path) == []
    assert files.append(data, len(data)) is True
    assert numbers(tmp_path) == [10]


def test_no_file_is_written_over(tmp_path: Path) -> None:
    """Where the clock was set back, a block of the same second has a file of its own."""
    for number in range(3):
        write(Files(tmp_path), number, START)
    assert sorted(numbers(tmp_path)) == [0, 1, 2]
    assert len(paths(tmp_path)) == 3


def test_a_disk_without_room_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of a block that found no room, nor an empty file."""
    files = Files(tmp_path)
    write(files, 1, START)
    (path,) = paths(tmp_path)
    before, real = path.read_bytes(), os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:100])

    monkeypatch.setattr(os, "write", full)
    for hour in (0, 1):
        files.prepare(START + hour * HOUR + MINUTE, DAY, PLENTY)
        with pytest.raises(OSError, match="No space left"):
            files.append(pack(2, block()), PLENTY)
        assert [each.read_bytes() for each in paths(tmp_path)] == [before]
    monkeypatch.undo()
    write(files, 2, START + 2 * HOUR)
    assert numbers(tmp_path) == [1, 2]


def test_who_removes_the_folder_gets_a_new_one(tmp_path: Path) -> None:
    """A history that somebody has deleted begins anew."""
    files = Files(tmp_path / "history")
    write(files, 1, START)
    for path in paths(files.folder):
        path.unlink()
    files.folder.rmdir()
    write(files, 2, START + HOUR)
    assert numbers(files.folder) == [2]
