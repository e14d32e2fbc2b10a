"""Attach the program to interfaces and detach it, by pyroute2, and read back what the kernel has done."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from pyroute2 import NetlinkError

from cnf.errors import AttachError
from cnf.kernel import foreign, rtnetlink
from cnf.kernel.attacher import Ours, Standing
from cnf.kernel.changing import Changer, words_of
from cnf.kernel.hooks import XDP
from cnf.kernel.links import Mode, Program, program_of
from cnf.kernel.refusal import reported

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cnf.kernel.links import Link

# linux/if_link.h
XDP_FLAGS_UPDATE_IF_NOEXIST: Final = 1
XDP_FLAGS_REPLACE: Final = 16
MODE_FLAGS: Final[dict[Mode, int]] = {"generic": 2, "native": 4, "offloaded": 8}
# The hook is taken: another mode would not help, and would put two programs on one interface if it did.
OCCUPIED: Final = (errno.EBUSY, errno.EEXIST)
TAKEN_ABOVE: Final = (
    "the bond, bridge or VLAN device above it has a program",
    "leave one of the two out of the interfaces",
)
"""The reason why the kernel takes no program on an interface below, and the remedy."""


class AboveError(AttachError):
    """Report that what stands above the interface has a program: a second one here would count its packets twice."""


class XdpAttacher:
    """Attach our program to any number of interfaces, and detach it; never touch another's program."""

    entry = XDP.entry

    def __init__(self, program: Ours, left_behind: Mapping[int, int], others: Iterable[Ours] = ()) -> None:
        """Open a netlink socket for ``program``; ``others`` may take its place.

        ``left_behind`` are descriptors, by id, of the programs that a previous daemon has left: they are ours as well.
        """
        self.program = program
        self._ours = {each.id: each.fd for each in (program, *others)}
        self._left_behind = left_behind
        self._replaced: dict[int, int] = {}
        """Ids of programs that ours has replaced, by ifindex."""
        with reported("opening a netlink socket"):
            self._changer = Changer()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the netlink socket; the program stays where it is."""
        self._changer.__exit__(kind, error, trace)

    def attach(self, link: Link, mode: Mode) -> Standing:
        """Attach to ``link`` in this mode; replace a previous daemon's program in the mode that it is in.

        Raises:
            AboveError: a bond, bridge or VLAN device above it has a program.
            AttachError: another program is there (it stays), or the mode was refused, in the kernel's words.

        """
        try:
            self._set(link.index, self.program.fd, MODE_FLAGS[mode] | XDP_FLAGS_UPDATE_IF_NOEXIST)
        except NetlinkError as error:
            if error.code in OCCUPIED:
                return self._take_over(link, error)
            refusal = words_of(error)
        else:
            if self.ours(link.index) == Program(mode, self.program.id):
                return Standing(mode, "xdp", (), self.program.id)
            refusal = "accepted, but it is not there when read back"
        remedy = "mode auto or generic works on any interface" if mode == "native" else "does its driver take XDP?"
        raise AttachError(f"interface {link.shown}: the kernel refused the program: {mode}: {refusal}", remedy=remedy)

    def swap(self, link: Link) -> None:
        """Put ``program`` in the place of another one of ours on ``link``, in one step; where none is, do nothing.

        Raises:
            AttachError: the kernel refused.

        """
        there = self.ours(link.index)
        if there is None or there.id == self.program.id:
            return
        try:
            self._replace(link.index, there, self.program.fd)
        except NetlinkError as error:
            if self.ours(link.index):  # else it has gone in between, or the interface has
                raise AttachError(f"interface {link.shown}: replacing was refused: {words_of(error)}") from error

    def detach(self, link: Link, *, wait: bool = True) -> bool:  # noqa: ARG002 - it takes no time
        """Detach our program from ``link``; return False if it was not there.

        Raises:
            AttachError: the kernel refused, or reading back shows that it is still there.

        """
        there = self.ours(link.index)
        if there is None:
            return False
        try:
            self._replace(link.index, there, -1)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return False
            raise AttachError(f"interface {link.shown}: detaching was refused: {words_of(error)}") from error
        if self.ours(link.index) is not None:
            raise AttachError(f"interface {link.shown}: program {there.id} is still there after detaching it")
        return True

    def put_back(self, link: Link) -> bool:
        """Put the program that ours has replaced back on ``link``, in one step; return False if there is none.

        Raises:
            AttachError: the kernel refused.

        """
        before, there = self._left_behind.get(self._replaced.pop(link.index, 0)), self.ours(link.index)
        if before is None or there is None:
            return False
        try:
            self._replace(link.index, there, before)
        except NetlinkError as error:
            raise AttachError(f"interface {link.shown}: putting back was refused: {words_of(error)}") from error
        return True

    def clean(self, link: Link) -> bool:
        """Detach a previous daemon's program from ``link``; tell whether one was there."""
        there = self.query(link.index)
        if there is None or there.id not in self._left_behind:
            return False
        try:
            self._replace(link.index, there, -1)
        except NetlinkError as error:
            raise AttachError(f"interface {link.shown}: detaching was refused: {words_of(error)}") from error
        return True

    def clean_others(self) -> None:
        """Detach from no other interface: netlink reaches those of this namespace only."""

    def left(self, link: Link) -> Mode | None:
        """Return the mode in which a previous daemon's program is on ``link``; None if none is."""
        return link.program.mode if link.program and link.program.id in self._left_behind else None

    def standing(self, link: Link) -> Standing | None:
        """Return how our program stands on ``link``, as of when that was read; None if it is not there."""
        there = link.program
        return Standing(there.mode, "xdp", (), there.id) if there and there.id in self._ours else None

    def ours(self, ifindex: int) -> Program | None:
        """Return our program as it is on the interface; None if it is not."""
        attached = self.query(ifindex)
        return attached if attached is not None and attached.id in self._ours else None

    def query(self, ifindex: int) -> Program | None:
        """Return the program on the interface; None if there is no program, or no interface.

        Raises:
            AttachError: it cannot be told.

        """
        try:
            (message,) = rtnetlink.ask(ifindex)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            words = error.strerror or error
            raise AttachError(f"ifindex {ifindex}: asking for its program failed: {words}") from error
        return program_of(message)

    def _set(self, ifindex: int, fd: int, flags: int, expected: int | None = None) -> None:
        attributes = [("IFLA_XDP_FD", fd), ("IFLA_XDP_FLAGS", flags)]
        if expected is not None:
            attributes.append(("IFLA_XDP_EXPECTED_FD", expected))
        with reported(f"ifindex {ifindex}: changing its program", AttachError):
            self._changer.change(lambda netlink: netlink.link("set", index=ifindex, xdp={"attrs": attributes}))

    def _replace(self, ifindex: int, there: Program, fd: int) -> None:
        """Put the program behind ``fd``, or with -1 none, in the place of one of ours, in the mode that it is in."""
        expected = {**self._left_behind, **self._ours}[there.id]
        self._set(ifindex, fd, MODE_FLAGS[there.mode] | XDP_FLAGS_REPLACE, expected=expected)

    def _take_over(self, link: Link, error: NetlinkError) -> Standing:
        """Replace a previous daemon's program in one step, in the mode that it is in; refuse to replace any other."""
        there = self.query(link.index)
        if there is None or there.id not in self._left_behind:
            raise _occupied(link, there, error) from error
        try:
            self._replace(link.index, there, self.program.fd)
        except NetlinkError as refusal:
            raise _occupied(link, there, refusal) from refusal
        self._replaced[link.index] = there.id
        return Standing(there.mode, "xdp", (), self.program.id)


def _occupied(link: Link, there: Program | None, error: NetlinkError) -> AttachError:
    if there is not None:
        what, remedy = foreign.left_alone(link, there)
    elif error.code == errno.EEXIST:  # netdev_for_each_upper_dev_rcu() in dev_xdp_attach() of net/core/dev.c
        what, remedy = TAKEN_ABOVE
        return AboveError(f"interface {link.shown}: {what}: {words_of(error)}", remedy=remedy)
    else:
        what, remedy = "another program is on it", "see whose it is: bpftool net"
    return AttachError(f"interface {link.shown}: {what}: {words_of(error)}", remedy=remedy)
