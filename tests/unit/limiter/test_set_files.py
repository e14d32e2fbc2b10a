"""The files of sets: when they are read, when they are left alone, and what stays if one is of no use."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest
from structlog.testing import capture_logs

from cnf.errors import MapError
from cnf.limiter import set_files
from cnf.limiter.set_files import SetFiles
from cnf.limits.prefix_file import read
from cnf.limits.prefixes import Prefixes
from cnf.limits.set_numbers import SetKey
from cnf.limits.table import PrefixSet

KEY: SetKey = ("s", "deny")


class Kernel:
    """What takes the sets."""

    def __init__(self) -> None:
        """Be in good order."""
        self.put: list[dict[SetKey, int]] = []
        self.room = 100

    def take(self, sets: Mapping[SetKey, Prefixes]) -> None:
        """Take them, or refuse."""
        if sum(map(len, sets.values())) > self.room:
            raise MapError("no room", errno=12)
        self.put.append({key: len(prefixes) for key, prefixes in sets.items()})


@pytest.fixture
def kernel() -> Kernel:
    """Return one that has taken nothing."""
    return Kernel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the set's file is to be."""
    return tmp_path / "set"


class Files(SetFiles):
    """Files, and a clock that a test moves."""

    def __init__(self, kernel: Kernel, there: Mapping[SetKey, Prefixes]) -> None:
        """Begin at some time."""
        self.time = 1000.0
        super().__init__(kernel.take, there, lambda: self.time)

    def look(self, later: float = set_files.QUIET) -> None:
        """Look now, and after a time in which nobody writes."""
        super().look()
        self.time += later
        super().look()


@pytest.fixture
def files(kernel: Kernel, path: Path) -> Files:
    """Return the files of one set, not looked at yet."""
    files = Files(kernel, {})
    files.apply([PrefixSet("s", str(path), "deny")])
    return files


def of(*prefixes: str) -> Prefixes:
    """Return prefixes as a file has them."""
    return read(BytesIO("\n".join(prefixes).encode()))


def gigabyte(path: Path) -> None:
    """Have a file of one, without a block on the disk."""
    path.touch()
    os.truncate(path, 1 << 30)


def replace(path: Path, text: str) -> None:
    """Move another file into place."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_file_is_read_once(files: Files, kernel: Kernel, path: Path) -> None:
    """Until another one stands in its place."""
    path.write_text("10.0.0.0/8\n")
    for _ in range(3):
        files.look()
    assert kernel.put == [{KEY: 0}, {KEY: 1}]
    replace(path, "10.0.0.0/8\n192.0.2.1\n")
    for _ in range(3):
        files.look()
    assert kernel.put == [{KEY: 0}, {KEY: 1}, {KEY: 2}]
    assert files.files[0].loaded is not None


@pytest.mark.parametrize("prepare", [Path.touch, lambda path: path.write_text("10.0.0.0/8\n")], ids=["new", "known"])
def test_a_file_that_is_written_in_place_is_left_alone_until_it_stays_the_same(
    files: Files, kernel: Kernel, path: Path, prepare: Callable[[Path], object]
) -> None:
    """Half a list is no list."""
    path.with_name("other").touch()
    prepare(path)
    if path.stat().st_size:
        files.look()
    before = list(kernel.put)
    with path.open("a") as file:
        for number in range(10):
            file.write(f"192.0.2.{number}\n")
            file.flush()
            SetFiles.look(files)
            files.time += 0.9 * set_files.QUIET
    assert [each[KEY] for each in kernel.put if each not in before] in ([], [0])
    files.look()
    assert kernel.put[-1] == {KEY: 10 + bool(before)}


def test_a_file_of_some_age_is_read_at_once(
    files: Files, kernel: Kernel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the start of the daemon, where the set is to be in force."""
    path.write_text("10.0.0.0/8\n")
    monkeypatch.setattr(set_files, "time", SimpleNamespace(time=lambda: time.time() + set_files.QUIET))
    SetFiles.look(files)
    assert kernel.put == [{KEY: 1}]


def test_a_file_that_is_truncated_is_left_alone_though_its_time_is_old(
    files: Files, kernel: Kernel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On ext4 it is empty for a moment before it has the time of that."""
    path.write_text("10.0.0.0/8\n")
    files.look()
    before = len(kernel.put)
    monkeypatch.setattr(set_files, "time", SimpleNamespace(time=lambda: time.time() + set_files.QUIET))
    path.write_text("")
    SetFiles.look(files)
    path.write_text("192.0.2.1\n192.0.2.2\n")
    files.look()
    assert kernel.put[before:] == [{KEY: 2}]


def test_a_file_that_says_the_same_changes_nothing(files: Files, kernel: Kernel, path: Path) -> None:
    """Touched, written again, or in another order."""
    path.write_text("10.0.0.0/8\n192.0.2.1\n")
    files.look()
    first = files.files[0].loaded
    path.touch()
    files.look()
    replace(path, "192.0.2.1\n10.0.0.0/8\n10.0.0.0/8\n# fresh\n")
    files.look()
    assert kernel.put == [{KEY: 0}, {KEY: 2}]
    assert files.files[0].loaded != first


def test_a_file_that_changes_all_the_time_is_told(files: Files, kernel: Kernel, path: Path) -> None:
    """Once; it is not read, and what was read stays."""
    path.write_text("10.0.0.0/8\n")
    files.look()
    with capture_logs() as logs:
        for number in range(100):
            path.write_text(f"192.0.2.{number}\n")
            SetFiles.look(files)
            files.time += set_files.LOOK
    assert kernel.put == [{KEY: 0}, {KEY: 1}]
    assert [line["error"] for line in logs] == ["it does not stay the same for 2 s: move another file into its place"]
    files.look()
    assert (kernel.put[-1], files.files[0].error) == ({KEY: 1}, None)


def test_what_took_long_to_read_is_not_read_again_soon(
    files: Files, kernel: Kernel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the daemon has time left for other work, however often a file changes."""

    def slowly(file: BinaryIO) -> Prefixes:
        files.time += 3.0
        return read(file)

    path.write_text("10.0.0.0/8\n")
    monkeypatch.setattr(set_files, "read", slowly)
    files.look()
    path.write_text("10.0.0.0/8\n192.0.2.1\n")
    for _ in range(29):
        files.look(1.0)
    assert kernel.put == [{KEY: 0}, {KEY: 1}]
    files.look(2.0)
    assert kernel.put == [{KEY: 0}, {KEY: 1}, {KEY: 2}]


def test_a_missing_file_is_told_once_and_found_when_it_comes(files: Files, kernel: Kernel, path: Path) -> None:
    """The set is empty meanwhile; when it goes again, what was read stays."""
    with capture_logs() as logs:
        files.look()
        files.look()
    assert [(line["event"], line["error"]) for line in logs] == [
        ("set not read, what was read before stays", "No such file or directory")
    ]
    assert (kernel.put, files.files[0].errors) == ([{KEY: 0}], 1)
    path.write_text("10.0.0.0/8\n")
    files.look()
    assert (kernel.put, files.files[0].error) == ([{KEY: 0}, {KEY: 1}], None)
    path.unlink()
    files.look()
    assert (len(files.files[0].prefixes), files.files[0].errors) == (1, 2)
    assert kernel.put == [{KEY: 0}, {KEY: 1}]


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8\nnonsense\n", "a" * (set_files.MAX_BYTES + 1)], ids=["a line", "too large"]
)
def test_a_refused_file_changes_nothing(files: Files, kernel: Kernel, path: Path, text: str) -> None:
    """It is told once, with the line; the next file that is in order is taken."""
    path.write_text("192.0.2.1\n")
    files.look()
    with capture_logs() as logs:
        replace(path, text)
        files.look()
        since = files.files[0].error_since
        replace(path, text)
        files.look()
    assert [(line["log_level"], line["set"], line["prefixes"]) for line in logs] == [("warning", "s", 1)] * 2
    assert kernel.put == [{KEY: 0}, {KEY: 1}]
    assert files.files[0].refused_lines == (1 if "nonsense" in text else 0)
    assert files.files[0].errors == 2
    assert since is not None
    assert files.files[0].error_since == since
    replace(path, "192.0.2.1\n192.0.2.2\n")
    files.look()
    assert kernel.put == [{KEY: 0}, {KEY: 1}, {KEY: 2}]
    file = files.files[0]
    assert (file.refused_lines, file.error, file.error_since, file.errors) == (0, None, None, 2)


def test_a_file_that_shrinks_to_nothing_is_told(files: Files, kernel: Kernel, path: Path) -> None:
    """It is in force all the same: somebody may mean it."""
    path.write_text("192.0.2.1\n")
    files.look()
    with capture_logs() as logs:
        replace(path, "# nobody\n")
        files.look()
    assert [(line["event"], line["before"]) for line in logs] == [("set is empty", 1)]
    assert kernel.put == [{KEY: 0}, {KEY: 1}, {KEY: 0}]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (os.mkfifo, "no regular file"),
        (Path.mkdir, "Is a directory"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: path.parent.rmdir(), "No such file or directory"),
        (gigabyte, "larger than 64 MiB"),
    ],
    ids=["a pipe", "a directory", "a device", "a ring of links", "no folder", "a gigabyte"],
)
def test_what_is_no_list_is_refused_without_being_read(
    tmp_path: Path, kernel: Kernel, make: Callable[[Path], object], error: str
) -> None:
    """Nobody waits for who might write into it; it is told once, and the file that comes in its place is taken."""
    path = tmp_path / "folder" / "set"
    path.parent.mkdir()
    files = Files(kernel, {KEY: of("10.0.0.0/8")})
    files.apply([PrefixSet("s", str(path), "deny")])
    make(path)
    with capture_logs() as logs:
        for _ in range(3):
            files.look()
    file = files.files[0]
    assert [line["error"] for line in logs] == [error]
    assert (kernel.put, len(file.prefixes), file.error, file.errors) == ([], 1, error, 1)
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    path.write_text("192.0.2.1\n192.0.2.2\n")
    files.look()
    assert (kernel.put, file.error) == ([{KEY: 2}], None)


def test_what_the_kernel_refuses_is_told_and_tried_again(files: Files, kernel: Kernel, path: Path) -> None:
    """After a while, though the file has not changed; what was in force stays."""
    path.write_text("192.0.2.1\n")
    files.look()
    kernel.room = 1
    replace(path, "192.0.2.1\n192.0.2.2\n")
    with capture_logs() as logs:
        for _ in range(100):
            files.look()
    file = files.files[0]
    assert (kernel.put, len(file.prefixes)) == ([{KEY: 0}, {KEY: 1}], 1)
    assert (file.error, file.errors, len(logs)) == ("the kernel: no room", 1, 1)
    kernel.room = 2
    files.look(set_files.RETRY)
    assert (kernel.put[-1], file.error) == ({KEY: 2}, None)


def test_what_the_kernel_refuses_holds_up_no_other_set(files: Files, kernel: Kernel, path: Path) -> None:
    """Of two files that have changed, the one that has room is taken."""
    large = path.with_name("large")
    files.apply([PrefixSet("l", str(large), "deny"), PrefixSet("s", str(path), "deny")])
    kernel.room = 1
    large.write_text("192.0.2.1\n192.0.2.2\n")
    path.write_text("192.0.2.1\n")
    files.look()
    assert kernel.put == [{("l", "deny"): 0, KEY: 0}, {("l", "deny"): 0, KEY: 1}]
    assert [file.error for file in files.files] == ["the kernel: no room", None]


def test_sets_come_and_go(files: Files, kernel: Kernel, path: Path) -> None:
    """One of another file keeps its prefixes until that is read; one that does another thing is another set."""
    path.write_text("192.0.2.1\n")
    files.look()
    other = path.with_name("other")
    files.apply([PrefixSet("s", str(other), "deny"), PrefixSet("t", str(path), "allow")])
    files.look()
    other.write_text("10.0.0.0/8\n192.0.2.1\n")
    files.look()
    files.apply([PrefixSet("s", str(other), "allow")])
    files.look()
    files.apply([])
    files.look()
    assert [put for put in kernel.put if 0 not in put.values()] == [
        {KEY: 1},
        {KEY: 1, ("t", "allow"): 1},
        {KEY: 2, ("t", "allow"): 1},
        {("s", "allow"): 2},
        {},
    ]


def test_what_the_kernel_has_stays_until_the_file_is_read(kernel: Kernel, path: Path) -> None:
    """Over a restart, a file that is broken by then takes nothing away; one that says the same changes nothing."""
    files = Files(kernel, {KEY: of("10.0.0.0/8", "192.0.2.1")})
    files.apply([PrefixSet("s", str(path), "deny")])
    files.look()
    assert (kernel.put, len(files.files[0].prefixes)) == ([], 2)
    path.write_text("192.0.2.1\n10.0.0.0/8\n")
    files.look()
    assert kernel.put == []
    assert files.files[0].loaded is not None
    replace(path, "192.0.2.1\n")
    files.look()
    assert kernel.put == [{KEY: 1}]
