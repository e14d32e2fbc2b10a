"""Another BCC than the one that has built a program is noticed by its files; one that is gone is no other one."""

from __future__ import annotations

import os
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from cnf.datapath import bcc_files


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, ...]]:
    """Install a BCC of two files."""
    files: dict[str, tuple[int, ...]] = {}
    for name in ("__init__.py", "libbcc.so"):
        path = tmp_path / name
        path.write_text(name)
        status = path.stat()
        files[str(path)] = (status.st_size, status.st_mtime_ns, status.st_ino)
    found(monkeypatch, tmp_path / "__init__.py")
    return files


def found(monkeypatch: pytest.MonkeyPatch, module: Path | None) -> None:
    """Have Python find this file for BCC, or none."""
    spec = module and ModuleSpec("bcc", None, origin=str(module))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: spec)


def test_the_same_bcc(installed: dict[str, tuple[int, ...]]) -> None:
    """Nothing has changed."""
    assert not bcc_files.have_changed(installed)


def test_an_upgrade(installed: dict[str, tuple[int, ...]]) -> None:
    """A file of the same name, size and time, in place of the previous one, as packages have them."""
    *_, library = map(Path, installed)
    before = library.stat()
    library.with_name("new").write_text(library.read_text())
    os.utime(library.with_name("new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    library.with_name("new").replace(library)

    assert bcc_files.have_changed(installed)


@pytest.mark.parametrize("change", ["written", "removed"])
def test_a_library_that_is_another_one(installed: dict[str, tuple[int, ...]], change: str) -> None:
    """Its content, or its name, is another one."""
    *_, library = map(Path, installed)
    if change == "written":
        library.write_text("another")
    else:
        library.rename(library.with_name("libbcc.so.1"))

    assert bcc_files.have_changed(installed)


def test_another_place(installed: dict[str, tuple[int, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second BCC goes before the first."""
    found(monkeypatch, tmp_path / "other.py")

    assert bcc_files.have_changed(installed)


def test_none_at_all(installed: dict[str, tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has built is all that there is."""
    for path in map(Path, installed):
        path.unlink()
    found(monkeypatch, None)

    assert not bcc_files.have_changed(installed)
