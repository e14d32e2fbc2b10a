"""Maps that are pinned are taken as they are if all of them fit, else none is; the limiter's own may be missing."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from cnf.datapath.blueprint import Blueprint, LimiterSize, Table
from cnf.datapath.build import Datapath
from cnf.kernel import libbpf
from tests.bpf import kept

ENTRIES: Final = 64
# linux/bpf.h
HASH, ARRAY, LRU_HASH, LRU_PER_CPU, MMAPABLE = 1, 2, 9, 1 << 1, 1 << 10


class Shape(NamedTuple):
    """All that makes a map what it is, but for its name and what it holds."""

    kind: int
    key: int
    value: int
    entries: int
    flags: int


SHAPES: Final[dict[Table, Shape]] = {
    "cache": Shape(ARRAY, 4, 2 * ENTRIES // 8 * (64 + 8 * 64), 1, MMAPABLE),
    "lru_hash": Shape(LRU_HASH, 24, 56, ENTRIES, 0),
}
"""What flows4 is: all sets of a cache, or struct flow4_key and struct flow_value."""


def test_maps_are_found_again(folder: Path, table: Table) -> None:
    """The next program has the maps of the one before, with what they hold."""
    with built(folder, table) as first:
        ids = map_ids(first)
        assert (first.kept, first.discarded) == (frozenset(), ())

    with built(folder, table) as second:
        assert (second.kept, second.discarded) == (frozenset(blueprint(table).maps), ())
        assert map_ids(second) == ids


def another_size(folder: Path, shape: Shape) -> None:
    """Pin a flows4 with larger values."""
    replace(folder / "flows4", make(shape._replace(value=shape.value + 8)))


def other_entries(folder: Path, shape: Shape) -> None:
    """Pin a flows4 with more entries."""
    replace(folder / "flows4", make(shape._replace(entries=2 * shape.entries)))


def another_key(folder: Path, shape: Shape) -> None:
    """Pin a flows4 with larger keys, which no array has."""
    replace(folder / "flows4", make(shape._replace(kind=LRU_HASH, key=shape.key + 8, flags=0)))


def another_type(folder: Path, shape: Shape) -> None:
    """Pin a flows4 that evicts nothing."""
    replace(folder / "flows4", make(shape._replace(kind=HASH, flags=0)))


def other_flags(folder: Path, shape: Shape) -> None:
    """Pin a flows4 that evicts a CPU's own flows first, or that cannot be mapped."""
    replace(folder / "flows4", make(shape._replace(flags=0 if shape.flags else LRU_PER_CPU)))


def a_program(folder: Path, shape: Shape) -> None:
    """Pin a program in a map's place."""
    with built(None, {shape: table for table, shape in SHAPES.items()}[shape]) as datapath:
        replace(folder / "flows4", os.dup(datapath.programs["cnf_ingress"]))


def one_missing(folder: Path, _shape: Shape) -> None:
    """Unpin flows4."""
    (folder / "flows4").unlink()


def one_more(folder: Path, _shape: Shape) -> None:
    """Pin flows4 under another name, too."""
    fd = libbpf.open_pin(folder / "flows4")
    libbpf.pin(fd, folder / "flows5")
    os.close(fd)


def a_folder(folder: Path, _shape: Shape) -> None:
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
def test_maps_that_do_not_fit_are_given_up(
    folder: Path, table: Table, change: Callable[[Path, Shape], None], reason: str
) -> None:
    """If one pin does not fit, or is missing, or one too many, all maps are new, and the reason is given."""
    with built(folder, table) as first:
        ids = map_ids(first)
    change(folder, SHAPES[table])

    with built(folder, table) as second:
        assert (second.kept, second.discarded) == (frozenset(), (reason,))
        assert map_ids(second).isdisjoint(ids)
        new = map_ids(second)
    assert {path.name for path in folder.iterdir()} == {*blueprint(table).maps}
    with built(folder, table) as third:
        assert (third.kept, map_ids(third)) == (frozenset(blueprint(table).maps), new)


def test_the_limiters_maps_are_made_anew_alone(folder: Path, table: Table) -> None:
    """Where none of the limiter's own maps is pinned, they are new, and all others go on; one alone is a mistake."""
    limited = blueprint(table, LimiterSize(64, 32, 64))
    with built(folder, limited) as first:
        ids = {name: libbpf.map_info(fd).id for name, fd in first.maps.items()}
    for name in limited.limiter_maps:
        (folder / name).unlink()

    with built(folder, limited) as second:
        assert (second.kept, second.discarded) == (frozenset(limited.maps) - {*limited.limiter_maps}, ())
        assert {name for name, fd in second.maps.items() if libbpf.map_info(fd).id == ids[name]} == second.kept
    assert {path.name for path in folder.iterdir()} == {*limited.maps}

    (folder / limited.limiter_maps[0]).unlink()
    with built(folder, limited) as third:
        assert (third.kept, third.discarded) == (frozenset(), (f"{limited.limiter_maps[0]} is missing",))


def test_a_map_just_like_ours_is_taken(folder: Path, table: Table) -> None:
    """The maps that these tests make differ from the program's in nothing but what they say."""
    with built(folder, table):
        pass
    replace(folder / "flows4", make(SHAPES[table]))

    with built(folder, table) as second:
        assert (second.kept, second.discarded) == (frozenset(blueprint(table).maps), ())


def test_the_layout_is_that_of_the_maps() -> None:
    """Whatever sizes a map, or leaves it out, is another layout."""
    layouts = {
        Blueprint(64).layout, Blueprint(65).layout, Blueprint(64, ipv6=False).layout, Blueprint(64, vlan=False).layout,
        Blueprint(64, "lru_hash").layout,
    }  # fmt: skip
    assert len(layouts) == 5
    assert Blueprint(64).layout in layouts


def blueprint(table: Table, limiter: LimiterSize | None = None) -> Blueprint:
    """Return a small one."""
    return Blueprint(ENTRIES, table, ipv6=False, vlan=False, limiter=limiter)


@contextmanager
def built(folder: Path | None, what: Table | Blueprint) -> Iterator[Datapath]:
    """Build for the length of the block; a table means the small blueprint with it."""
    with closing(kept.load(what if isinstance(what, Blueprint) else blueprint(what), folder)) as datapath:
        yield datapath


def map_ids(datapath: Datapath) -> set[int]:
    """Return the ids of its maps."""
    return {libbpf.map_info(fd).id for fd in datapath.maps.values()}


def make(shape: Shape) -> int:
    """Make a map and return its descriptor."""

    class Opts(ctypes.Structure):
        """The first fields of ``struct bpf_map_create_opts`` of libbpf's bpf.h."""

        _fields_ = (
            ("sz", ctypes.c_size_t),
            ("btf_and_inner", ctypes.c_uint32 * 5),
            ("map_flags", ctypes.c_uint32),
        )

    opts = Opts(sz=ctypes.sizeof(Opts), map_flags=shape.flags)
    fd = ctypes.CDLL("libbpf.so.1").bpf_map_create(
        shape.kind, b"flows4", shape.key, shape.value, shape.entries, ctypes.byref(opts)
    )
    assert fd >= 0, os.strerror(-fd)
    return int(fd)


def replace(path: Path, fd: int) -> None:
    """Pin ``fd``, and close it, in place of what is there."""
    path.unlink()
    libbpf.pin(fd, path)
    os.close(fd)
