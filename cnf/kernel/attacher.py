"""Attachers: what puts the program on a hook of an interface, and takes it off again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from cnf.kernel.links import Link, Mode

HookName = Literal["xdp", "tcx", "clsact"]
"""The kernel's interface by which a program is attached."""


class Ours(NamedTuple):
    """A program that this process has loaded."""

    fd: int
    id: int


Programs = Mapping[str, Ours]
"""Programs to attach, by the name of the hook's entry point."""


class Standing(NamedTuple):
    """How our program stands on an interface."""

    mode: Mode
    hook: HookName
    before: tuple[str, ...]
    """What sees the packets first, in words: what ends a packet there hides it from our program."""
    program_id: int


class Attacher(Protocol):
    """Attach our program to any number of interfaces, at one hook; never touch another's program.

    Every method raises AttachError where the kernel refuses.
    """

    entry: str
    """The entry point of bpf/flow.c that the hook runs."""
    program: Ours
    """The program to attach. It may be replaced: those before are ours still, where they are."""

    def attach(self, link: Link, mode: Mode) -> Standing:
        """Attach to ``link``; a previous daemon's program is replaced in one step, in the mode that it is in."""

    def swap(self, link: Link) -> None:
        """Put ``program`` in the place of another one of ours on ``link``, in one step; where none is, do nothing."""

    def detach(self, link: Link, *, wait: bool = True) -> bool:
        """Detach our program from ``link``; return False if it was not there.

        Without ``wait`` the kernel may finish it later, where it takes its time.
        """

    def put_back(self, link: Link) -> bool:
        """Put the program that ours has replaced back on ``link``; return False if there is none."""

    def clean(self, link: Link) -> bool:
        """Detach a previous daemon's program from ``link``; tell whether one was there."""

    def clean_others(self) -> None:
        """Detach previous daemons' programs from interfaces that are not in this namespace any more, if that can be."""

    def left(self, link: Link) -> Mode | None:
        """Return the mode in which a previous daemon's program is on ``link``; None if none is."""

    def standing(self, link: Link) -> Standing | None:
        """Return how our program stands on ``link``; None if it is not there."""
