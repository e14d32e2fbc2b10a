"""A file of lines has whole lines, wherever it is moved, and whatever a crash or a full disk has cut off."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from cnf.export.line_file import LineFile

MANY: Final = 1 << 20
DESCRIPTORS: Final = Path("/proc/self/fd")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is not there."""
    return tmp_path / "records.jsonl"


def test_lines_are_appended(path: Path) -> None:
    """What is there stays, also of another process; only who may read it does."""
    path.write_bytes(b"before\n")
    file = LineFile(str(path), MANY)
    assert file.append(b"one\ntwo\n") == 8
    with path.open("ab") as other:
        other.write(b"other\n")
    assert file.append(b"three\n") == 6
    file.close()
    file.close()
    assert path.read_bytes() == b"before\none\ntwo\nother\nthree\n"


def test_a_new_file_is_not_for_everybody(path: Path) -> None:
    """Others have no right to read who talks to whom."""
    LineFile(str(path), MANY).open()
    assert path.stat().st_mode & 0o027 == 0


def test_a_line_that_a_crash_has_cut_off_ends(path: Path) -> None:
    """The next line begins on a line of its own."""
    path.write_bytes(b'{"seq": 1}\n{"se')
    file = LineFile(str(path), MANY)
    file.append(b"next\n")
    file.append(b"last\n")
    assert path.read_bytes() == b'{"seq": 1}\n{"se\nnext\nlast\n'


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Let no file of this process become larger."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("room", range(12))
def test_what_there_is_no_room_for_is_known(path: Path, room: int) -> None:
    """The bytes that it says are whole lines; what is cut off is written whole, on a line of its own, later."""
    file, lines = LineFile(str(path), MANY), b"one\ntwo\nxyz\n"
    with no_more_than(room):
        try:
            written = file.append(lines)
        except OSError:
            written = 0
        assert written == (room + 1) // 4 * 4
        for _ in range(3):
            with suppress(OSError):
                written += file.append(lines[written:])
        assert written == (room + 1) // 4 * 4
    file.append(lines[written:])
    content = path.read_bytes()
    assert [line for line in content.split(b"\n") if line in (b"one", b"two", b"xyz")] == [b"one", b"two", b"xyz"]
    assert content.endswith(b"xyz\n")


def test_a_file_that_is_full_is_renamed(path: Path) -> None:
    """It has no more bytes than it may have, and the one before has the suffix .1."""
    file = LineFile(str(path), 20)
    for number in range(10, 19):
        file.append(b"line %d\n" % number)
    assert path.read_bytes() == b"line 18\n"
    assert path.with_name("records.jsonl.1").read_bytes() == b"line 16\nline 17\n"


def test_lines_that_alone_are_too_long_are_written(path: Path) -> None:
    """A file has at least what is written at once."""
    file = LineFile(str(path), 5)
    file.append(b"a long line\n")
    file.append(b"another one\n")
    assert path.read_bytes() == b"another one\n"


def test_a_file_that_was_moved_is_written_until_it_is_closed(path: Path) -> None:
    """As logrotate has it: what moves the file says so then."""
    file, moved = LineFile(str(path), MANY), path.with_name("moved")
    file.append(b"one\n")
    path.rename(moved)
    file.append(b"two\n")
    file.close()
    file.append(b"three\n")
    assert (moved.read_bytes(), path.read_bytes()) == (b"one\ntwo\n", b"three\n")


def test_a_file_that_was_moved_is_renamed_by_nobody_else(path: Path) -> None:
    """When it is full, what stands in its place stays there."""
    file, moved = LineFile(str(path), 10), path.with_name("records.jsonl.1")
    file.append(b"one two\n")
    path.rename(moved)
    path.write_bytes(b"new\n")
    file.append(b"three\n")
    assert (moved.read_bytes(), path.read_bytes()) == (b"one two\n", b"new\nthree\n")


def test_a_file_that_was_removed_is_made_anew(path: Path) -> None:
    """Nothing is written to where nobody can read it."""
    file = LineFile(str(path), MANY)
    file.append(b"one\n")
    path.unlink()
    file.append(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_what_is_no_file_is_refused(path: Path) -> None:
    """A FIFO would hold up the writer, and a device has no end."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="no regular file"):
            LineFile(str(path), MANY).append(b"one\n")
    finally:
        os.close(reader)
    before = len([*DESCRIPTORS.iterdir()])
    with pytest.raises(OSError, match="no regular file"):
        LineFile("/dev/null", MANY).append(b"one\n")
    assert len([*DESCRIPTORS.iterdir()]) == before
