"""A file is used if it is whole and nobody else's, and written as a whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from cnf.datapath import program_file
from cnf.datapath.program_file import MOST, UnusableError, path_of, read, write

TEXT: Final = '{"a": "→"}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write a file, in a folder that was not there."""
    path = path_of("key", tmp_path / "made" / "cache")
    write(path, TEXT)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    """By its owner alone; and another key has another file, or none."""
    assert read(path, os.geteuid()) == TEXT
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [*path.parent.iterdir()] == [path]
    assert read(path_of("other", path.parent), 0) is None
    assert read(path_of("key", path.parent / "gone"), 0) is None


def cut_off(path: Path) -> None:
    """Take the last byte away."""
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    """Take everything away, as a loss of power may."""
    path.write_bytes(b"")


def other_byte(path: Path) -> None:
    """Change a byte."""
    path.write_bytes(path.read_bytes().replace(b"a", b"b"))


def of_another_key(path: Path) -> None:
    """Put the file of another key in its place."""
    write(path_of("other", path.parent), TEXT)
    path_of("other", path.parent).replace(path)


def group_may_write(path: Path) -> None:
    """Let the group write."""
    path.chmod(0o620)


def others_may_write(path: Path) -> None:
    """Let everybody write."""
    path.chmod(0o602)


def symbolic_link(path: Path) -> None:
    """Put a link to the same file in its place."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """Put a pipe in its place, that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut_off, "not whole"),
        (empty, "not whole"),
        (other_byte, "not whole"),
        (of_another_key, "not whole"),
        (group_may_write, "others may write to it"),
        (others_may_write, "others may write to it"),
        (symbolic_link, "a symbolic link"),
        (folder, "no regular file"),
        (pipe, "no regular file"),
    ],
)
def test_what_is_not_as_it_was_written_is_not_used(path: Path, change: Callable[[Path], None], reason: str) -> None:
    """The reason is given, and the next writing mends it, but for what is no file."""
    change(path)

    with pytest.raises(UnusableError, match=f"^{reason}$"):
        read(path, os.geteuid())

    if change is not folder:
        write(path, TEXT)
        assert read(path, os.geteuid()) == TEXT


def test_what_somebody_else_has_written_is_not_used(path: Path) -> None:
    """Root is nobody else."""
    owner = path.stat().st_uid
    if owner:
        with pytest.raises(UnusableError, match=f"^it is user {owner}'s$"):
            read(path, owner + 1)
    else:
        assert read(path, 65534) == TEXT


def test_a_full_disk_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing half written beside it."""

    def full(_fresh: Path, _path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, "new")

    assert read(path, os.geteuid()) == TEXT
    assert [*path.parent.iterdir()] == [path]


def test_the_files_that_were_used_last_stay(tmp_path: Path) -> None:
    """So many configurations can take turns; what a killed process has left goes with the oldest."""
    paths = [path_of(f"key{number}", tmp_path) for number in range(MOST)]
    left = tmp_path / f"{program_file.PREFIX}key.4711"
    left.write_text("half")
    os.utime(left, ns=(0, 0))
    (tmp_path / "of-another-program").touch()
    for age, path in enumerate(paths):
        write(path, TEXT)
        os.utime(path, ns=(1 + age, 1 + age))
    assert read(paths[0], os.geteuid()) == TEXT

    write(path_of("one more", tmp_path), TEXT)

    there = {path.name for path in tmp_path.iterdir()}
    assert there == {path.name for path in (paths[0], *paths[2:])} | {"program-one more", "of-another-program"}


def test_the_folder_is_the_services_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd names it, or the system's."""
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/cnf-a:/var/cache/cnf-b")
    assert program_file.folder() == Path("/var/cache/cnf-a")
    monkeypatch.delenv("CACHE_DIRECTORY")
    assert program_file.folder() == Path("/var/cache/cnf")
