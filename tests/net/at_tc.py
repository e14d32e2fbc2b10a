"""Programs at TC: which there are on an interface, and somebody else's, put there by TCX or as filter of clsact."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pyroute2 import IPRoute

from cnf.direction import Direction
from cnf.kernel import clsact, libbpf, tc, tcx
from tests.net.namespaces import Namespace

# linux/bpf.h
BPF_PROG_TYPE_SCHED_CLS: Final = 3
NEXT: Final = bytes.fromhex("b7000000 ffffffff 95000000 00000000")  # r0 = TC_ACT_UNSPEC; exit
OK: Final = bytes.fromhex("b7000000 00000000 95000000 00000000")  # r0 = TC_ACT_OK; exit
DIRECTIONS: Final[tuple[Direction, ...]] = ("ingress", "egress")

_WITHOUT_TCX: Final = """
import sys
from cnf.kernel import tcx
tcx.is_there = lambda: False
from cnf.{module} import main
sys.exit(main())
"""
WITHOUT_TCX: Final[Sequence[str]] = (sys.executable, "-P", "-c", _WITHOUT_TCX.format(module="cnfd"))
"""A cnfd that takes the kernel for one before 6.6."""


def kernel_has_tcx() -> bool:
    """Tell whether this kernel has TCX."""
    return tcx.is_there()


class ForeignTc:
    """A loaded program that is not cnfd's."""

    def __init__(self, program: int) -> None:
        """Take the descriptor of the program."""
        self.id = libbpf.program_id(program)
        self._program = program
        self._link = -1

    def attach(self, namespace: Namespace, name: str, direction: Direction, *, first: bool = True) -> None:
        """Put it on an interface by TCX, before or behind all others, until ``detach()``."""
        flags = tcx.BPF_F_BEFORE if first else 1 << 4  # BPF_F_AFTER
        opts = libbpf.LinkCreateOpts(ctypes.sizeof(libbpf.LinkCreateOpts), flags)
        with namespace.entered():
            index = socket.if_nametoindex(name)
            create = libbpf.library().bpf_link_create
            kind = tcx.ATTACH_TYPES[direction]
            self._link = libbpf.check(create(self._program, index, kind, ctypes.byref(opts)))

    def detach(self) -> None:
        """Take it off again."""
        os.close(self._link)

    def filter(self, namespace: Namespace, name: str, direction: Direction, priority: int = 1) -> None:
        """Put it on an interface as a filter of clsact, which is made if it is not there."""
        with namespace.entered(), IPRoute() as netlink:
            index = socket.if_nametoindex(name)
            if not qdiscs(namespace, name):
                netlink.tc("add", "clsact", index)
            parent = clsact.PARENTS[direction]
            netlink.tc(
                "add-filter", "bpf", index, 1, fd=self._program, name="other", parent=parent, direct_action=True,
                prio=priority,
            )  # fmt: skip


@contextmanager
def foreign_tc(code: bytes = NEXT, name: str = "foreign") -> Iterator[ForeignTc]:
    """Load a program for the length of the block."""
    loaded = ctypes.CDLL("libbpf.so.1").bpf_prog_load(
        BPF_PROG_TYPE_SCHED_CLS, name.encode(), b"GPL", code, ctypes.c_size_t(len(code) // 8), None
    )
    assert loaded >= 0, os.strerror(-loaded)
    try:
        yield ForeignTc(loaded)
    finally:
        os.close(loaded)


def programs(namespace: Namespace, name: str, direction: Direction) -> list[int]:
    """Return the ids of the programs on an interface, in the order in which they run."""
    with namespace.entered():
        return [*tc.programs(socket.if_nametoindex(name), direction)]


def all_programs(namespace: Namespace, name: str) -> dict[str, list[int]]:
    """Return them for each direction that has any."""
    found = {direction: programs(namespace, name, direction) for direction in DIRECTIONS}
    return {direction: ids for direction, ids in found.items() if ids}


def qdiscs(namespace: Namespace, name: str) -> list[str]:
    """Return the kinds of an interface's qdiscs but for the one that sends."""
    with namespace.entered():
        kind = clsact._qdisc(socket.if_nametoindex(name))  # noqa: SLF001 - what the kernel has is asked once
    return [kind] if kind else []
