"""A program that is kept in a file is loaded without BCC, if nothing that it depends on has changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from cnf.datapath import bcc_files, build, program_file
from cnf.datapath.blueprint import SOURCE, Blueprint, LimiterSize
from cnf.datapath.build import Build, Datapath
from cnf.datapath.program import Function, Program
from cnf.errors import UnavailableError, VerifierError
from cnf.kernel import capabilities, libbpf

ENTRIES: Final = 64
NO_PYTHON: Final = "/bin/false"
PLAIN: Final = Blueprint(ENTRIES)
LIMITED: Final = Blueprint(ENTRIES, limiter=LimiterSize(64, 32, 64))
HASHES: Final = replace(LIMITED, table="lru_hash")
NOBODY: Final = 65534


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Give each test a folder of its own for files."""
    return tmp_path / "files"


@pytest.fixture
def disk(files: Path) -> Iterator[Path]:
    """Make that folder a file system of its own, with room for less than a program."""
    files.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=8k", "cnf-tests", files), check=True)
    yield files
    subprocess.run(("umount", files), check=True)


def compiled(files: Path, blueprint: Blueprint = PLAIN, *, not_used: str = "", not_kept: str = "") -> None:
    """Build once; it takes BCC, and meets these troubles."""
    building = Build(blueprint, files=files)
    with closing(building.finish()) as datapath:
        assert datapath.file is None
    assert (building.not_used, building.not_kept) == (not_used, not_kept)


def from_file(files: Path, blueprint: Blueprint = PLAIN, folder: Path | None = None) -> Datapath:
    """Build where nothing can be compiled."""
    building = Build(blueprint, folder, files=files, python=NO_PYTHON)
    datapath = building.finish()
    assert not building.not_used
    assert datapath.file
    assert datapath.file.parent == files
    return datapath


def is_kept(files: Path, blueprint: Blueprint = PLAIN) -> bool:
    """Tell whether no BCC would be needed."""
    try:
        from_file(files, blueprint).close()
    except UnavailableError:
        return False
    return True


def tag(program: int) -> str:
    """Return the kernel's digest of a program's instructions."""
    lines = Path(f"/proc/self/fdinfo/{program}").read_text().splitlines()
    return next(line for line in lines if line.startswith("prog_tag"))


@pytest.mark.parametrize("blueprint", [PLAIN, LIMITED, HASHES], ids=["plain", "limited", "hashes"])
def test_what_is_loaded_from_a_file_is_the_same(files: Path, blueprint: Blueprint) -> None:
    """The kernel has the same instructions, and maps of the same kind and name."""
    with closing(Build(blueprint, files=files).finish()) as first, closing(from_file(files, blueprint)) as second:
        assert first.bcc_version == second.bcc_version
        assert {*blueprint.maps} == first.maps.keys() == second.maps.keys()
        for name in blueprint.maps:
            assert libbpf.map_kind(first.maps[name]) == libbpf.map_kind(second.maps[name])
            assert libbpf.map_info(first.maps[name]).name == libbpf.map_info(second.maps[name]).name
        for name in blueprint.programs:
            before, now = first.programs[name], second.programs[name]
            assert tag(before) == tag(now)
            assert libbpf.name_of(before) == libbpf.name_of(now)
            assert libbpf.map_names(before) == libbpf.map_names(now)
        assert second.read_clock()[0] > 0


def test_configurations_take_turns(files: Path) -> None:
    """Each has a file, and none needs BCC again."""
    blueprints = (PLAIN, LIMITED, HASHES)
    for blueprint in blueprints:
        compiled(files, blueprint)
    assert len([*files.iterdir()]) == 3
    assert all(is_kept(files, blueprint) for blueprint in blueprints)


def other_text(_monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Blueprint:
    """Change a comment of the source."""
    for path in SOURCE.parent.glob("*.[ch]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "abi.h").open("a") as source:
        source.write("/* another version */\n")
    return replace(PLAIN, source=tmp_path / SOURCE.name)


def other_headers(monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Change what stands in for the kernel's headers."""
    monkeypatch.setattr(build, "headers", lambda: ["#define VERSION 2"])
    return PLAIN


def other_flags(monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Have it compiled in another way."""
    monkeypatch.setattr(build, "FLAGS", ("-O2",))
    return PLAIN


def other_definition(_monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Leave VLANs out."""
    return replace(PLAIN, vlan=False)


def other_format(monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Be a version that makes other files."""
    monkeypatch.setattr(build, "FORMAT", build.FORMAT + 1)
    return PLAIN


def other_kernel(monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Boot another kernel."""
    here = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*here[:2], "6.1.0-99-amd64", *here[3:])))
    return PLAIN


def other_capabilities(monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Lack CAP_PERFMON."""
    monkeypatch.setattr(
        capabilities, "missing", lambda wanted=capabilities.NEEDED: () if "CAP_BPF" in wanted else ("",)
    )
    return PLAIN


def other_user(monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Be another user, whose files this one may not read."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    return PLAIN


def other_bcc(monkeypatch: pytest.MonkeyPatch, _tmp_path: Path) -> Blueprint:
    """Upgrade BCC."""
    monkeypatch.setattr(bcc_files, "have_changed", lambda _files: True)
    return PLAIN


@pytest.mark.parametrize(
    "change",
    [
        other_text,
        other_headers,
        other_flags,
        other_definition,
        other_format,
        other_kernel,
        other_capabilities,
        other_user,
        other_bcc,
    ],
)
def test_whatever_it_depends_on_is_looked_at(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Blueprint]
) -> None:
    """With another one, it is compiled; what was kept for the first stays."""
    compiled(files)
    with monkeypatch.context() as context:
        assert not is_kept(files, change(context, tmp_path))
    assert is_kept(files)


def test_an_upgrade_of_bcc_takes_the_place(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it builds is kept in the same file."""
    compiled(files)
    with monkeypatch.context() as context:
        other_bcc(context, files)
        compiled(files)
    assert is_kept(files)
    assert len([*files.iterdir()]) == 1


def test_a_strangers_file_is_not_used(files: Path) -> None:
    """It is replaced by an own one."""
    compiled(files)
    (path,) = files.iterdir()
    os.chown(path, NOBODY, -1)

    compiled(files, not_used=f"it is user {NOBODY}'s")

    assert path.stat().st_uid == 0
    assert is_kept(files)


def test_a_file_that_is_not_whole_is_not_used(files: Path) -> None:
    """It is replaced by a whole one."""
    compiled(files)
    (path,) = files.iterdir()
    path.write_bytes(path.read_bytes()[:-100])

    compiled(files, not_used="not whole")

    assert is_kept(files)


def test_a_full_disk_is_no_obstacle(disk: Path) -> None:
    """The program is compiled each time."""
    compiled(disk, not_kept="No space left on device")

    assert [*disk.iterdir()] == []


def test_a_folder_that_cannot_be_written_to_is_no_obstacle(disk: Path) -> None:
    """The same."""
    subprocess.run(("mount", "-o", "remount,ro", disk), check=True)

    compiled(disk, not_kept="Read-only file system")


def spoil(files: Path) -> None:
    """Keep a program that the kernel refuses: it returns nothing."""
    (path,) = files.iterdir()
    text = program_file.read(path, 0)
    assert text
    program = Program.of_json(text)
    functions = {**program.functions, "cnf_ingress": Function(6, bytes((0x95, *bytes(7))), [])}
    program_file.write(path, replace(program, functions=functions).to_json())


def test_a_program_that_the_kernel_refuses_is_compiled_anew(files: Path, folder: Path) -> None:
    """Once, and the maps are new ones all the same: nothing has been counted in them."""
    compiled(files)
    spoil(files)

    building = Build(PLAIN, folder, files=files)
    with closing(building.finish()) as datapath:
        assert (datapath.file, datapath.kept, datapath.discarded) == (None, frozenset(), ())
    assert "the kernel rejected the program: cnf_ingress: Permission denied: R0 !read_ok" in building.not_used
    assert is_kept(files)


def test_what_the_kernel_refuses_is_not_kept(files: Path, folder: Path, tmp_path: Path) -> None:
    """No file, and no pin."""
    blueprint = other_text(pytest.MonkeyPatch(), tmp_path)
    text = blueprint.source.read_text()
    assert "return XDP_PASS;" in text
    blueprint.source.write_text(text.replace("return XDP_PASS;", "return *(char *)(long)(ctx->data_end + 1);"))

    with pytest.raises(VerifierError, match="the kernel rejected the program"):
        Build(blueprint, folder, files=files).finish()

    assert not files.exists()
    assert [*folder.iterdir()] == []


def test_maps_that_are_pinned_are_found_again_without_bcc(files: Path, folder: Path) -> None:
    """With what they hold, and the secrets that it is hashed by."""
    with closing(Build(LIMITED, folder, files=files).finish()) as first:
        ids = {name: libbpf.map_info(fd).id for name, fd in first.maps.items()}
    with closing(from_file(files, LIMITED, folder)) as second:
        assert (second.kept, second.discarded) == (frozenset(LIMITED.maps), ())
        assert {name: libbpf.map_info(fd).id for name, fd in second.maps.items()} == ids
    for name in LIMITED.limiter_maps:
        (folder / name).unlink()
    with closing(from_file(files, LIMITED, folder)) as third:
        assert third.kept == {*LIMITED.maps} - {*LIMITED.limiter_maps}
    assert {path.name for path in folder.iterdir()} == {*LIMITED.maps}
