"""Maps that are pinned are taken as they are if all of them fit, and else none of them is."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from cnf.kernel import libbpf, pins
from cnf.kernel.program import Blueprint, Build, Datapath

BLUEPRINT: Final = Blueprint(max_entries=64, ipv6=False, vlan=False)
# linux/bpf.h
HASH, LRU_HASH, LRU_PER_CPU = 1, 9, 1 << 1
KEY, VALUE = 24, 56
"""Bytes of struct flow4_key and struct flow_value."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give each test a folder of bpffs."""
    path = pins.BPFFS / f"cnf-t-{os.getpid()}"
    path.mkdir()
    yield path
    pins.remove(path)


def test_maps_are_found_again(folder: Path) -> None:
    """The next program has the maps of the one before, with what they hold."""
    with built(folder) as first:
        ids = map_ids(first)
        assert (first.kept, first.given_up) == (False, ())

    with built(folder) as second:
        assert (second.kept, second.given_up) == (True, ())
        assert map_ids(second) == ids


def another_size(folder: Path) -> None:
    """Pin a flows4 with larger values."""
    replace(folder / "flows4", make(LRU_HASH, KEY, VALUE + 8, 64))


def other_entries(folder: Path) -> None:
    """Pin a flows4 with more entries."""
    replace(folder / "flows4", make(LRU_HASH, KEY, VALUE, 128))


def another_key(folder: Path) -> None:
    """Pin a flows4 with larger keys."""
    replace(folder / "flows4", make(LRU_HASH, KEY + 8, VALUE, 64))


def another_type(folder: Path) -> None:
    """Pin a flows4 that evicts nothing."""
    replace(folder / "flows4", make(HASH, KEY, VALUE, 64))


def other_flags(folder: Path) -> None:
    """Pin a flows4 that evicts a CPU's own flows first."""
    replace(folder / "flows4", make(LRU_HASH, KEY, VALUE, 64, LRU_PER_CPU))


def a_program(folder: Path) -> None:
    """Pin a program in a map's place."""
    with built(None) as datapath:
        replace(folder / "flows4", os.dup(datapath.programs["cnf_ingress"]))


def one_missing(folder: Path) -> None:
    """Unpin flows4."""
    (folder / "flows4").unlink()


def one_more(folder: Path) -> None:
    """Pin flows4 under another name, too."""
    fd = libbpf.open_pin(folder / "flows4")
    libbpf.pin(fd, folder / "flows5")
    os.close(fd)


def a_folder(folder: Path) -> None:
    """Make a folder where only pins belong."""
    (folder / "flows5").mkdir()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_size, "flows4 is not as this version has it"),
        (other_entries, "flows4 is not as this version has it"),
        (another_key, "flows4 is not as this version has it"),
        (another_type, "flows4 is not as this version has it"),
        (other_flags, "flows4 is not as this version has it"),
        (a_program, "flows4 is none of this version's maps"),
        (one_missing, "flows4 is missing"),
        (one_more, "flows5 is none of this version's maps"),
        (a_folder, "flows5 is none of this version's maps"),
    ],
)
def test_maps_that_do_not_fit_are_given_up(folder: Path, change: Callable[[Path], None], reason: str) -> None:
    """If one pin does not fit, or is missing, or one too many, all maps are new, and the reason is given."""
    with built(folder) as first:
        ids = map_ids(first)
    change(folder)

    with built(folder) as second:
        assert (second.kept, second.given_up) == (False, (reason,))
        assert map_ids(second).isdisjoint(ids)
        new = map_ids(second)
    assert {path.name for path in folder.iterdir()} == {*BLUEPRINT.maps}
    with built(folder) as third:
        assert (third.kept, map_ids(third)) == (True, new)


def test_a_map_just_like_ours_is_taken(folder: Path) -> None:
    """The maps that these tests make differ from the program's in nothing but what they say."""
    with built(folder):
        pass
    replace(folder / "flows4", make(LRU_HASH, KEY, VALUE, 64))

    with built(folder) as second:
        assert (second.kept, second.given_up) == (True, ())


def test_the_layout_is_that_of_the_maps() -> None:
    """Whatever sizes a map, or leaves it out, is another layout."""
    layouts = {
        Blueprint(64).layout, Blueprint(65).layout, Blueprint(64, ipv6=False).layout, Blueprint(64, vlan=False).layout
    }  # fmt: skip
    assert len(layouts) == 4
    assert Blueprint(64).layout in layouts


@contextmanager
def built(folder: Path | None) -> Iterator[Datapath]:
    """Build for the length of the block."""
    with closing(Build(BLUEPRINT, folder).finish()) as datapath:
        yield datapath


def map_ids(datapath: Datapath) -> set[int]:
    """Return the ids of its maps."""
    return {libbpf.map_info(fd).id for fd in datapath.maps.values()}


def make(kind: int, key: int, value: int, entries: int, flags: int = 0) -> int:
    """Make a map and return its descriptor."""

    class Opts(ctypes.Structure):
        """The first fields of ``struct bpf_map_create_opts`` of libbpf's bpf.h."""

        _fields_ = (
            ("sz", ctypes.c_size_t),
            ("btf_and_inner", ctypes.c_uint32 * 5),
            ("map_flags", ctypes.c_uint32),
        )

    opts = Opts(sz=ctypes.sizeof(Opts), map_flags=flags)
    fd = ctypes.CDLL("libbpf.so.1").bpf_map_create(kind, b"flows4", key, value, entries, ctypes.byref(opts))
    assert fd >= 0, os.strerror(-fd)
    return int(fd)


def replace(path: Path, fd: int) -> None:
    """Pin ``fd``, and close it, in place of what is there."""
    path.unlink()
    libbpf.pin(fd, path)
    os.close(fd)
