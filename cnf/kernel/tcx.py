"""TCX, of Linux 6.6: programs on an interface in an order that each may choose, held by links of bpf(2).

A link goes with its last descriptor and pin. So each is pinned, for the next daemon to find: in the folder of pins, by
direction and ifindex.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cnf.kernel import libbpf

if TYPE_CHECKING:
    from cnf.direction import Direction

# linux/bpf.h
BPF_TCX_INGRESS: Final = 46
BPF_TCX_EGRESS: Final = 47
BPF_LINK_TYPE_TCX: Final = 11
BPF_F_REPLACE: Final = 1 << 2
BPF_F_BEFORE: Final = 1 << 3
ATTACH_TYPES: Final[dict[Direction, int]] = {"ingress": BPF_TCX_INGRESS, "egress": BPF_TCX_EGRESS}
MOST: Final = 64
"""Programs that one interface can have in one direction (BPF_MPROG_MAX)."""
FOLDER: Final = "links"
"""The folder of the links' pins, in the folder of the network namespace."""
LOOPBACK: Final = 1


def is_there() -> bool:
    """Tell whether this kernel has TCX. Raises OSError where that cannot be told."""
    return _query(LOOPBACK, "ingress")[0] != errno.EINVAL


def chain(ifindex: int, direction: Direction) -> tuple[int, ...]:
    """Return the ids of an interface's programs, in the order in which they run; nothing where there is no TCX.

    Raises:
        OSError: it cannot be told.

    """
    status, programs = _query(ifindex, direction)
    return programs if status == 0 else ()


class Links:
    """The links of one direction that are cnfd's, by ifindex: those that are pinned, and those that are made here."""

    def __init__(self, direction: Direction, folder: Path | None) -> None:
        """Open what is pinned in the ``folder`` of this network namespace; with None, nothing is pinned."""
        self._direction = direction
        self._folder = folder / FOLDER if folder else None
        self._links: dict[int, int] = {}
        self._programs: dict[int, int] = {}
        """The id of each link's program: only cnfd changes it, and to ask the kernel waits for others."""
        if self._folder:
            self._open_pins(self._folder)

    def close(self) -> None:
        """Close every link: what is pinned stays."""
        while self._links:
            os.close(self._links.popitem()[1])
        if self._folder:
            with suppress(OSError):  # the other direction's pins are in it, or none were made
                self._folder.rmdir()

    def program(self, ifindex: int) -> int | None:
        """Return the id of the program of the interface's link; None if there is no such link.

        The interface may have gone, or moved to another network namespace, since the link was made: the chain tells.
        """
        return self._programs.get(ifindex)

    def create(self, ifindex: int, program: int) -> None:
        """Put a program on the interface, before all others.

        Raises:
            OSError: the kernel refused, or the link cannot be pinned.

        """
        self.detach(ifindex)
        opts = libbpf.LinkCreateOpts(ctypes.sizeof(libbpf.LinkCreateOpts), BPF_F_BEFORE)
        create = libbpf.library().bpf_link_create
        link = libbpf.check(create(program, ifindex, ATTACH_TYPES[self._direction], ctypes.byref(opts)))
        self._links[ifindex], self._programs[ifindex] = link, libbpf.program_id(program)
        if self._folder:
            try:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                libbpf.pin(link, self._pin(self._folder, ifindex))
            except OSError:
                self.detach(ifindex)
                raise

    def replace(self, ifindex: int, program: int, expected: int) -> None:
        """Put a program in the place of ``expected``, in one step. Raises OSError, EPERM if another one is there."""
        opts = libbpf.LinkUpdateOpts(ctypes.sizeof(libbpf.LinkUpdateOpts), BPF_F_REPLACE, expected)
        libbpf.check(libbpf.library().bpf_link_update(self._links[ifindex], program, ctypes.byref(opts)))
        self._programs[ifindex] = libbpf.program_id(program)

    def detach(self, ifindex: int, *, wait: bool = True) -> bool:
        """Take the link's program off, wherever the interface is by now; return False if there is no such link.

        Attaching and detaching a link wait for every CPU to be done with the previous chain, for some 14 ms. Without
        ``wait`` that is done when the last of descriptor and pin has gone: a pin's end waits for nothing.

        Raises:
            OSError: the kernel refused.

        """
        link = self._links.get(ifindex)
        if link is None:
            return False
        if wait:
            libbpf.check(libbpf.library().bpf_link_detach(link))
        os.close(self._links.pop(ifindex))
        del self._programs[ifindex]
        if self._folder:
            self._pin(self._folder, ifindex).unlink(missing_ok=True)
        return True

    def of(self, programs: set[int]) -> list[int]:
        """Return the interfaces whose links have one of these programs, by ifindex."""
        return [ifindex for ifindex, program in self._programs.items() if program in programs]

    def _open_pins(self, folder: Path) -> None:
        for pin in folder.glob(f"{self._direction}-*"):
            with suppress(OSError, ValueError):
                ifindex = int(pin.name.rpartition("-")[2])
                link = libbpf.open_pin(pin)
                info = libbpf.link_info(link)
                if (info.type, info.attach_type) == (BPF_LINK_TYPE_TCX, ATTACH_TYPES[self._direction]):
                    self._links[ifindex], self._programs[ifindex] = link, int(info.prog_id)
                else:
                    os.close(link)

    def _pin(self, folder: Path, ifindex: int) -> Path:
        return folder / f"{self._direction}-{ifindex}"


def _query(ifindex: int, direction: Direction) -> tuple[int, tuple[int, ...]]:
    """Return 0 and the ids of the programs; or ENODEV for no such interface, or EINVAL for no TCX."""
    ids, count = (ctypes.c_uint32 * MOST)(), ctypes.c_uint32(MOST)
    status = libbpf.library().bpf_prog_query(ifindex, ATTACH_TYPES[direction], 0, None, ids, ctypes.byref(count))
    if status in (-errno.ENODEV, -errno.EINVAL):
        return -status, ()
    libbpf.check(status)
    return 0, tuple(ids[: count.value])
