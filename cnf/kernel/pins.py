"""Pins of the attached program in bpffs, by which a daemon knows what a crashed one left on its interfaces.

A program attached by netlink outlives its process, and nothing about it tells whose it is; to open it by its id takes
CAP_SYS_ADMIN. A pin does both. There is a folder a network namespace, and in it a pin a program, named by its id.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cnf.kernel import libbpf

BPFFS: Final = Path("/sys/fs/bpf")


def folder() -> Path:
    """Return the folder of this network namespace."""
    return BPFFS / "cnf" / f"netns-{Path('/proc/self/ns/net').stat().st_ino}"


@contextmanager
def left_behind(path: Path) -> Iterator[dict[int, int]]:
    """Open what a daemon that did not end in order has pinned: descriptors by program id, closed in the end."""
    programs: dict[int, int] = {}
    try:
        for pin in path.iterdir() if path.is_dir() else ():
            with suppress(OSError):
                fd = libbpf.open_pin(pin)
                programs[libbpf.program_id(fd)] = fd
        yield programs
    finally:
        for fd in programs.values():
            os.close(fd)


def pin(path: Path, program_fd: int, program_id: int) -> None:
    """Pin the program.

    Raises:
        OSError: bpffs is not mounted, or not to be written to.

    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileNotFoundError:  # a daemon of another namespace has just removed the parent, which had become empty
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    libbpf.pin(program_fd, path / str(program_id))


def unpin(path: Path, *, but: int | None = None) -> None:
    """Remove every pin of the namespace except the program ``but``, and the folders that are empty then."""
    with suppress(OSError):
        for entry in path.iterdir():
            if entry.name != str(but):
                entry.unlink()
        path.rmdir()
        path.parent.rmdir()
