"""The files of sets: when they are read, when they are left alone, and what stays if one is of no use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cnf.errors import MapError
from cnf.limiter import set_files
from cnf.limiter.set_files import SetFiles
from cnf.limits.prefix_file import Prefixes, read
from cnf.limits.set_numbers import SetKey
from cnf.limits.table import PrefixSet

KEY: SetKey = ("s", "deny")


class Kernel:
    """What takes the sets."""

    def __init__(self) -> None:
        """Be in good order."""
        self.put: list[dict[SetKey, int]] = []
        self.refuses = False

    def take(self, sets: Mapping[SetKey, Prefixes]) -> None:
        """Take them, or refuse."""
        if self.refuses:
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


@pytest.fixture
def files(kernel: Kernel, path: Path) -> SetFiles:
    """Return the files of one set, not looked at yet."""
    files = SetFiles(kernel.take, {})
    files.apply([PrefixSet("s", str(path), "deny")])
    return files


def replace(path: Path, text: str) -> None:
    """Move another file into place."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_a_file_is_read_once(files: SetFiles, kernel: Kernel, path: Path) -> None:
    """Until another one stands in its place."""
    path.write_text("10.0.0.0/8\n")
    for _ in range(3):
        files.look()
    assert kernel.put == [{KEY: 1}]
    replace(path, "10.0.0.0/8\n192.0.2.1\n")
    for _ in range(3):
        files.look()
    assert kernel.put == [{KEY: 1}, {KEY: 2}]
    assert files.files[0].loaded is not None


def test_a_file_that_is_written_in_place_is_left_alone_until_it_stays_the_same(
    files: SetFiles, kernel: Kernel, path: Path
) -> None:
    """For a look: half a list is no list."""
    path.write_text("10.0.0.0/8\n")
    files.look()
    with path.open("a") as file:
        for number in range(3):
            file.write(f"192.0.2.{number}\n")
            file.flush()
            files.look()
    assert kernel.put == [{KEY: 1}]
    files.look()
    assert kernel.put == [{KEY: 1}, {KEY: 4}]


def test_a_missing_file_is_told_once_and_found_when_it_comes(files: SetFiles, kernel: Kernel, path: Path) -> None:
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
def test_a_refused_file_changes_nothing(files: SetFiles, kernel: Kernel, path: Path, text: str) -> None:
    """It is told once, with the line; the next file that is in order is taken."""
    path.write_text("192.0.2.1\n")
    files.look()
    with capture_logs() as logs:
        replace(path, text)
        files.look()
        files.look()
    assert [(line["log_level"], line["set"], line["prefixes"]) for line in logs] == [("warning", "s", 1)]
    assert kernel.put == [{KEY: 1}]
    assert files.files[0].refused_lines == (1 if "nonsense" in text else 0)
    replace(path, "192.0.2.1\n192.0.2.2\n")
    files.look()
    assert kernel.put == [{KEY: 1}, {KEY: 2}]
    assert (files.files[0].refused_lines, files.files[0].error, files.files[0].errors) == (0, None, 1)


def test_a_file_that_shrinks_to_nothing_is_told(files: SetFiles, kernel: Kernel, path: Path) -> None:
    """It is in force all the same: somebody may mean it."""
    path.write_text("192.0.2.1\n")
    files.look()
    with capture_logs() as logs:
        replace(path, "# nobody\n")
        files.look()
    assert [(line["event"], line["before"]) for line in logs] == [("set is empty", 1)]
    assert kernel.put == [{KEY: 1}, {KEY: 0}]


def test_a_pipe_is_no_file(files: SetFiles, kernel: Kernel, path: Path) -> None:
    """Nobody waits for who might write into it."""
    os.mkfifo(path)
    files.look()
    assert (kernel.put, files.files[0].error) == ([{KEY: 0}], "no regular file")


def test_what_the_kernel_refuses_is_tried_again(files: SetFiles, kernel: Kernel, path: Path) -> None:
    """At the next look, though no file has changed."""
    path.write_text("192.0.2.1\n")
    kernel.refuses = True
    files.look()
    kernel.refuses = False
    files.look()
    files.look()
    assert kernel.put == [{KEY: 1}]


def test_sets_come_and_go(files: SetFiles, kernel: Kernel, path: Path) -> None:
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
    assert kernel.put == [
        {KEY: 1},
        {KEY: 1, ("t", "allow"): 1},
        {KEY: 2, ("t", "allow"): 1},
        {("s", "allow"): 2},
        {},
    ]


def test_what_the_kernel_has_stays_until_the_file_is_read(kernel: Kernel, path: Path) -> None:
    """Over a restart, a file that is broken by then takes nothing away."""
    files = SetFiles(kernel.take, {KEY: read(b"10.0.0.0/8\n192.0.2.1")})
    files.apply([PrefixSet("s", str(path), "deny")])
    files.look()
    assert (kernel.put, len(files.files[0].prefixes)) == ([], 2)
    path.write_text("192.0.2.1\n")
    files.look()
    assert kernel.put == [{KEY: 1}]
