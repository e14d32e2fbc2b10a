"""Somebody else's XDP program on an interface."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyroute2 import IPRoute

from cnf.kernel import libbpf
from tests.net.namespaces import Namespace

# linux/bpf.h, linux/if_link.h
BPF_PROG_TYPE_XDP: Final = 6
MODE_FLAGS: Final = {"native": 4, "generic": 2}
PASS: Final = bytes.fromhex("b7000000 02000000  95000000 00000000")  # r0 = XDP_PASS; exit


class Foreign:
    """A loaded program that is not cnfd's, and passes every packet."""

    def __init__(self, program: int) -> None:
        """Take the descriptor of the program."""
        self.id = libbpf.program_id(program)
        self._program = program

    def attach(self, namespace: Namespace, name: str, mode: str = "native") -> None:
        """Put it on an interface, in place of what is there in that mode."""
        _set(namespace, name, self._program, mode)

    def detach(self, namespace: Namespace, name: str, mode: str = "native") -> None:
        """Take it off again."""
        assert namespace.programs()[name] == self.id
        _set(namespace, name, -1, mode)


@contextmanager
def foreign_program(name: str = "foreign") -> Iterator[Foreign]:
    """Load the program for the length of the block; where it is attached, it stays."""
    loaded = ctypes.CDLL("libbpf.so.1").bpf_prog_load(
        BPF_PROG_TYPE_XDP, name.encode(), b"GPL", PASS, ctypes.c_size_t(2), None
    )
    assert loaded >= 0, os.strerror(-loaded)
    try:
        yield Foreign(loaded)
    finally:
        os.close(loaded)


def _set(namespace: Namespace, name: str, program: int, mode: str) -> None:
    attributes = [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", MODE_FLAGS[mode])]
    with namespace.entered(), IPRoute() as netlink:
        netlink.link("set", index=socket.if_nametoindex(name), xdp={"attrs": attributes})
