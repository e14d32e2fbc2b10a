"""Pins in bpffs: they keep program and maps in the kernel after a daemon's end, for the next daemon to find.

There is a folder a network namespace, which a daemon holds (cnf/process/lock.py). In it is a pin for each attached
program, named by its id: a program attached by netlink outlives its process, but nothing about it tells whose it is,
and to open it by its id takes CAP_SYS_ADMIN. Beside them is a folder with the maps, named by their layout and by the
namespace's cookie.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cnf.kernel import libbpf

BPFFS: Final = Path("/sys/fs/bpf")
MOUNT: Final = f"mount -t bpf -o mode=0700 bpf {BPFFS}"
"""How to mount a bpffs where there is none. The kernel's default mode lets every user make folders there."""
SO_NETNS_COOKIE: Final = 71  # asm-generic/socket.h
_MAPS: Final = "maps-"


class UnreadableError(Exception):
    """The maps were kept, but what a daemon has to know of them cannot be taken over."""

    def __init__(self, words: str, maps: str = "") -> None:
        """Ask for new maps in place of those whose names begin with ``maps``."""
        super().__init__(words)
        self.maps = maps


def folder() -> Path:
    """Return the folder of this network namespace."""
    return BPFFS / "cnf" / f"netns-{Path('/proc/self/ns/net').stat().st_ino}"


@dataclass
class MapPins:
    """The folders in which a start pins its program, and finds and pins its maps."""

    folder: Path | None
    """The folder of the namespace; None where this process does not hold it."""
    path: Path | None
    """The folder of the maps, in ``folder``; None where they cannot be pinned."""
    trouble: OSError | None = None
    """The reason why one of the folders is not there."""
    stay: bool = False
    """Whether the maps stay pinned if the start fails: those that were there before it do."""

    def clear(self, maps: str) -> None:
        """Unpin the maps whose names begin with ``maps``, so that they are made anew."""
        if self.path:
            for entry in self.path.glob(f"{maps}*"):
                remove(entry)
            self.stay = any(self.path.iterdir())


@contextmanager
def map_pins(layout: str, trouble: OSError | None) -> Iterator[MapPins]:
    """Make the folder for maps of this ``layout``; remove it at the end of the block unless its maps are to stay.

    ``trouble`` is why this process does not hold the folder of the namespace; None if it does.
    """
    if trouble:
        yield MapPins(None, None, trouble)
        return
    path = folder() / f"{_MAPS}{layout}-{_cookie()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        pins = MapPins(path.parent, path, stay=any(path.iterdir()))
    except OSError as error:
        yield MapPins(path.parent, None, error)
        return
    try:
        yield pins
    finally:
        if not pins.stay:
            with suppress(OSError):
                remove(path)


def _cookie() -> int:
    """Return the number that tells this network namespace from a previous one with the same inode number."""
    with socket.socket(socket.AF_UNIX) as any_socket, suppress(OSError):
        return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)
    return 0  # before Linux 5.14


def remove(path: Path) -> None:
    """Remove a pin, or a folder with all its content."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def left_behind(path: Path | None) -> Iterator[dict[int, int]]:
    """Open the programs that a daemon has left: descriptors by program id; the block's end closes and removes them."""
    programs: dict[int, int] = {}
    try:
        pins: list[Path] = []
        with suppress(OSError):  # a bpffs that this user may not look into
            pins += path.glob("[0-9]*") if path else ()
        for pin in pins:
            with suppress(OSError):
                fd = libbpf.open_pin(pin)
                try:
                    programs[libbpf.program_id(fd)] = fd
                except OSError:
                    os.close(fd)
        yield programs
    finally:
        while programs:  # emptied, too: the descriptors' numbers will soon be those of other files
            os.close(programs.popitem()[1])


def pin(path: Path, program_fd: int, program_id: int) -> None:
    """Pin the program in the folder ``path``, which is there.

    Raises:
        OSError: bpffs is not to be written to.

    """
    libbpf.pin(program_fd, path / str(program_id))


def unpin_program(path: Path, program_id: int) -> None:
    """Remove the pin of one program."""
    with suppress(OSError):
        (path / str(program_id)).unlink()


def unpin(path: Path, *but: str) -> list[str]:
    """Remove every pin in ``path`` but the programs and folders of maps named ``but``; return what was removed."""
    removed = []
    with suppress(OSError):
        for entry in path.iterdir():
            if entry.name in but:
                continue
            remove(entry)
            removed.append(entry.name)
    return removed
