"""Asking the kernel what is on an interface, and changing it, without a daemon around it."""

from __future__ import annotations

import gc
import os
import tracemalloc
from typing import Final

import pytest

from cnf.errors import AttachError
from cnf.kernel import libbpf
from cnf.kernel.attacher import Ours
from cnf.kernel.links import Link, Links, Program
from cnf.kernel.xdp import XdpAttacher
from tests.net.conftest import Node
from tests.net.foreign import Foreign, foreign_program
from tests.net.namespaces import Namespace, Wire

LOOPBACK: Final = 1
ABSENT: Final = 4711
QUERIES: Final = 300
LEAST: Final = 36
"""Bytes of an acknowledgement, the smallest message that could be left over."""


def test_questions_leave_nothing_behind(node: Node) -> None:
    """However often it is asked for, of an interface that is there or not, no answer's rest is kept."""
    with node.inside.entered(), XdpAttacher(Ours(-1, 0), {}) as attacher:
        assert [attacher.query(index) for index in (LOOPBACK, ABSENT)] == [None, None]
        tracemalloc.start()
        try:
            held = []
            for _ in range(3):
                for _ in range(QUERIES):
                    attacher.query(LOOPBACK)
                    attacher.query(ABSENT)
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert held[2] - held[1] < QUERIES * LEAST


class Raced(XdpAttacher):
    """One between whose look at an interface and whose change of it somebody else is quicker."""

    def __init__(self, own: Ours, left_behind: dict[int, int], other: Foreign, where: Namespace) -> None:
        """Have ``other`` put on n0 of ``where`` after each look."""
        super().__init__(own, left_behind)
        self._other, self._where = other, where

    def query(self, ifindex: int) -> Program | None:
        """Look, and be too late."""
        seen = super().query(ifindex)
        self._other.attach(self._where, "n0")
        return seen


@pytest.mark.parametrize("what", ["detach", "clean", "attach"])
def test_another_program_stays_also_in_a_race(node: Node, what: str) -> None:
    """Whoever puts a program over ours between a look and the change that follows keeps it there."""
    node.wire("n0")
    with foreign_program("ours") as ours, foreign_program("before") as before, foreign_program() as other:
        own, left = libbpf.open_program(ours.id), libbpf.open_program(before.id)
        try:
            (ours if what == "detach" else before).attach(node.inside, "n0")
            with node.inside.entered(), Raced(Ours(own, ours.id), {before.id: left}, other, node.inside) as attacher:
                link = _link("n0")
                with pytest.raises(AttachError):
                    attacher.attach(link, "native") if what == "attach" else getattr(attacher, what)(link)
        finally:
            os.close(own)
            os.close(left)
        assert node.inside.programs() == {"n0": other.id}


class Deaf(XdpAttacher):
    """One whose changes the kernel takes, and does not make."""

    def ours(self, _ifindex: int) -> Program | None:
        """Find nothing of ours there."""
        return None


def test_what_is_not_as_asked_is_refused(node: Node) -> None:
    """A program that is not there when it is read back is refused, with that, in each mode."""
    node.wire("n0")
    words = "native: accepted, but it is not there when read back"
    with foreign_program("ours") as ours, node.inside.entered():
        own = libbpf.open_program(ours.id)
        try:
            with Deaf(Ours(own, ours.id), {}) as attacher, pytest.raises(AttachError, match=words):
                attacher.attach(_link("n0"), "native")
        finally:
            os.close(own)


def _link(name: str) -> Link:
    with Links() as links:
        (link,) = (link for link in links.read() if link.name == name)
    return link


class Gone(XdpAttacher):
    """One between whose look at an interface and whose change of it that goes."""

    wire: Wire | None = None

    def query(self, ifindex: int) -> Program | None:
        """Look, and be too late."""
        seen = super().query(ifindex)
        if self.wire:
            self.wire.delete()
            self.wire = None
        return seen


def test_an_interface_that_goes_during_a_swap(node: Node) -> None:
    """It holds up no change of limits on the others."""
    wire = node.wire("n0")
    with foreign_program("ours") as ours, foreign_program("other") as other:
        own, another = (Ours(libbpf.open_program(each.id), each.id) for each in (ours, other))
        with node.inside.entered(), Gone(own, {}, [another]) as attacher:
            link = _link("n0")
            attacher.attach(link, "native")
            attacher.program, attacher.wire = another, wire
            attacher.swap(link)
            assert attacher.query(link.index) is None
        os.close(own.fd)
        os.close(another.fd)
