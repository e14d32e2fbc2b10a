"""Attach the program to interfaces at TC, for one direction, by TCX where the kernel has it, else as filter of clsact.

Both run programs of one kind. At TCX and clsact ours stands before those that are there when it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pyroute2 import NetlinkError

from cnf.errors import AttachError
from cnf.kernel import clsact, foreign, tcx
from cnf.kernel.attacher import Ours, Standing
from cnf.kernel.changing import words_of
from cnf.kernel.refusal import reported

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cnf.direction import Direction
    from cnf.kernel.hooks import Hook
    from cnf.kernel.links import Link, Mode

REMEDY: Final = "does the kernel have TCX (Linux 6.6), or the modules sch_ingress and cls_bpf? See dmesg"


def programs(ifindex: int, direction: Direction) -> tuple[int, ...]:
    """Return the ids of an interface's programs at TC, in the order in which they run.

    Raises:
        OSError: it cannot be told; without CAP_NET_ADMIN, for instance.

    """
    filters = (each.program for each in clsact.filters(ifindex, direction))
    return (*tcx.chain(ifindex, direction), *filter(None, filters))


class TcAttacher:
    """Attach our program to any number of interfaces, and detach it; never touch another's program."""

    def __init__(
        self,
        hook: Hook,
        program: Ours,
        left_behind: Mapping[int, int],
        folder: Path | None,
        others: Iterable[Ours] = (),
    ) -> None:
        """Take over the links that are pinned in ``folder``; None: links are not pinned, and go with this process.

        ``left_behind`` are descriptors, by id, of the programs that a previous daemon has left: they are ours as well.
        ``others`` may take the place of ``program``.
        """
        self.program = program
        self.entry = hook.entry
        self._hook = hook
        self._ours = {each.id: each.fd for each in (program, *others)}
        self._left_behind = left_behind
        self._replaced: dict[int, int] = {}
        """Ids of programs that ours has replaced, by ifindex."""
        self._links = tcx.Links(hook.direction, folder)
        self._filters = clsact.Clsact(hook.direction)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close links and socket; the program stays where it is, unless its link is not pinned."""
        self._links.close()
        self._filters.close()

    def attach(self, link: Link, mode: Mode = "tc") -> Standing:  # noqa: ARG002 - there is but one
        """Attach to ``link``, before all other programs; replace a previous daemon's in one step, where it stands.

        Raises:
            AttachError: the kernel refused.

        """
        with self._refused(link, "the kernel refused the program", REMEDY):
            there = self._find(link.index)
            if there and there.program in self._left_behind:
                self._replace(link.index, there, self.program.fd)
                self._replaced[link.index] = there.program
            elif tcx.is_there():
                self._links.create(link.index, self.program.fd)
            else:
                self._filters.add(link.index, self.program.fd, self._hook.entry)
        standing = self.standing(link)
        if standing is None:
            raise AttachError(f"{self._where(link)}: accepted, but it is not there when read back")
        return standing

    def swap(self, link: Link) -> None:
        """Put ``program`` in the place of another one of ours on ``link``, in one step; where none is, do nothing.

        Raises:
            AttachError: the kernel refused.

        """
        with self._refused(link, "replacing was refused"):
            there = self._find(link.index)
            if there and there.program in self._ours and there.program != self.program.id:
                try:
                    self._replace(link.index, there, self.program.fd)
                except (OSError, NetlinkError):
                    if self._find(link.index):  # else it has gone in between, or the interface has
                        raise

    def detach(self, link: Link, *, wait: bool = True) -> bool:
        """Detach our program from ``link``, wherever that is by now; return False if it was not there.

        Without ``wait`` the kernel may finish it later: of many links each takes its time.

        Raises:
            AttachError: the kernel refused, or reading back shows that it is still there.

        """
        with self._refused(link, "detaching was refused"):
            if self._links.program(link.index) in self._ours:
                return self._links.detach(link.index, wait=wait)
            there = self._find(link.index)
            if there is None or there.hook != "clsact" or there.program not in self._ours:
                return False
            self._filters.remove(link.index)
        if self.standing(link) is not None:
            raise AttachError(f"{self._where(link)}: program {there.program} is still there after detaching it")
        return True

    def put_back(self, link: Link) -> bool:
        """Put the program that ours has replaced back on ``link``, in one step; return False if there is none.

        Raises:
            AttachError: the kernel refused.

        """
        before = self._left_behind.get(self._replaced.pop(link.index, 0))
        with self._refused(link, "putting back was refused"):
            there = self._find(link.index)
            if before is None or there is None or there.program not in self._ours:
                return False
            self._replace(link.index, there, before)
        return True

    def clean(self, link: Link) -> bool:
        """Detach a previous daemon's program from ``link``; tell whether one was there."""
        if not self._left_behind:
            return False
        with self._refused(link, "detaching was refused"):
            there = self._find(link.index)
            if there is None or there.program not in self._left_behind:
                return False
            if there.hook == "tcx":
                self._links.detach(link.index)
            else:
                self._filters.remove(link.index)
        return True

    def clean_others(self) -> None:
        """Detach previous daemons' programs from interfaces that are not in this namespace any more.

        Raises:
            KernelError: the kernel refused.

        """
        with reported("detaching from interfaces that are not here any more"):
            for ifindex in self._links.of({*self._left_behind}):
                self._links.detach(ifindex)

    def left(self, link: Link) -> Mode | None:
        """Return ``tc`` if a previous daemon's program is on ``link``; None if not. Raises AttachError."""
        if not self._left_behind:
            return None
        with self._refused(link, "asking for its programs failed"):
            there = self._find(link.index)
        return "tc" if there and there.program in self._left_behind else None

    def standing(self, link: Link) -> Standing | None:
        """Return how our program stands on ``link``; None if it is not there. Raises AttachError."""
        direction = self._hook.direction
        with self._refused(link, "asking for its programs failed"):
            chain = tcx.chain(link.index, direction)
            for place, program in enumerate(chain):
                if program in self._ours:
                    before = [foreign.named(each) for each in chain[:place]]
                    return Standing("tc", "tcx", (*self._at_xdp(link), *before), program)
            filters = clsact.filters(link.index, direction)
        before = [foreign.named(each) for each in chain]
        for each in filters:
            if each.is_ours and each.program in self._ours:
                return Standing("tc", "clsact", (*self._at_xdp(link), *before), each.program)
            before.append(foreign.named(each.program) if each.program else f"a filter {each.kind}")
        return None

    def _at_xdp(self, link: Link) -> tuple[str, ...]:
        """Return the words for the XDP program on ``link``: it sees what comes in before anyone at TC."""
        if self._hook.direction == "egress" or link.program is None:
            return ()
        return (f"{foreign.named(link.program.id)} at XDP",)

    def _find(self, ifindex: int) -> _Found | None:
        """Find the program that stands where ours does. Raises OSError."""
        program = self._links.program(ifindex)
        if program is not None and program in tcx.chain(ifindex, self._hook.direction):
            return _Found("tcx", program)
        filter_ = clsact.ours(ifindex, self._hook.direction)
        return _Found("clsact", filter_.program) if filter_ else None

    def _replace(self, ifindex: int, there: _Found, program: int) -> None:
        """Put a program in the place of the one that is ``there``."""
        if there.hook == "tcx":
            expected = {**self._left_behind, **self._ours}[there.program]
            self._links.replace(ifindex, program, expected)
        else:
            self._filters.replace(ifindex, program, self._hook.entry)

    @contextmanager
    def _refused(self, link: Link, what: str, remedy: str = "") -> Iterator[None]:
        """Raise the kernel's refusal in the block as an AttachError."""
        try:
            yield
        except (OSError, NetlinkError) as error:
            raise AttachError(f"{self._where(link)}: {what}: {words_of(error)}", remedy=remedy) from error

    def _where(self, link: Link) -> str:
        return f"interface {link.shown}: {self._hook.direction} by TC"


class _Found(NamedTuple):
    """A program that stands where ours does, and the hook that it is on."""

    hook: Literal["tcx", "clsact"]
    program: int
