"""The mode in which the program is on an interface: the one that is wanted, unless the kernel refuses it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from structlog.typing import FilteringBoundLogger

from cnf import config
from cnf.direction import Direction
from cnf.errors import AttachError, CnfError
from cnf.interfaces.matching import unreadable
from cnf.kernel.attacher import Attacher, HookName, Programs, Standing
from cnf.kernel.links import Link, Mode
from cnf.kernel.xdp import AboveError

CONFIGURED: Final = "as configured"


class Choice(NamedTuple):
    """The modes to try on an interface, in this order, and why the first of them."""

    modes: tuple[Mode, ...]
    why: str


def choose(link: Link, direction: Direction, wanted: config.Mode) -> Choice:
    """Return the modes to try for what comes in or goes out on ``link``, where the mode ``wanted`` is configured."""
    if direction == "egress":
        return Choice(("tc",), "XDP does not see what goes out")
    if wanted != "auto":
        return Choice((wanted,), CONFIGURED)
    if not link.is_ethernet:
        return Choice(("tc",), "its packets have no Ethernet header, which XDP takes")
    if link.kind in ("veth", "netkit"):
        return Choice(("tc",), "native XDP would turn segmentation off at its other end")
    if link.kind == "tun":
        return Choice(("tc",), "a frame may be several packets, which XDP would count as one")
    return Choice(("native", "tc"), "its driver runs it")


@dataclass(frozen=True, slots=True)
class Attachment:
    """The program of one direction on an interface; or, without a mode, why it is not there."""

    direction: Direction
    mode: Mode | None
    hook: HookName | None
    program_id: int | None
    why: str
    """Why it is in this mode, or not there."""
    before: tuple[str, ...] = ()
    """What sees the packets first, in words."""
    coverage: float | None = None
    """What share was counted of what the driver's statistics have; see coverage.py. None where it is not known."""


class _Refused(NamedTuple):
    """A mode that a reload asked for and the kernel refused."""

    wanted: config.Mode
    mode: Mode
    """The mode that the program was in, and stays in."""
    error: str


class Modes:
    """Put the program of one direction on interfaces; a mode that was refused is asked for once, not at every look."""

    def __init__(self, direction: Direction, attachers: Mapping[Mode, Attacher], log: FilteringBoundLogger) -> None:
        """Start with the program on no interface, and no mode refused; there is an attacher for each mode."""
        self.direction = direction
        self._attachers = attachers
        self._log = log
        self._refused: dict[int, _Refused] = {}
        """By ifindex."""
        self._known: dict[int, tuple[Link, Attachment]] = {}
        """The interfaces with our program, as of the latest look, by ifindex."""
        self._lock = threading.Lock()
        """Held where the program is put on, taken off or swapped: a change of limits swaps it, in another thread."""

    def swap(self, programs: Programs) -> bool:
        """Have these programs in the place of those that are ours, in one step on each interface.

        Return whether one of them had another one.

        Raises:
            AttachError: the kernel refused; all interfaces have the program before.

        """
        with self._lock:
            before, known = {attacher: attacher.program for attacher in self._each()}, dict(self._known)
            for attacher in before:
                attacher.program = programs[attacher.entry]
            try:
                for index in self._known:
                    self._swap_known(index)
            except AttachError:
                for attacher, program in before.items():
                    attacher.program = program
                for index in self._known:
                    with suppress(AttachError):
                        self._swap_known(index)
                raise
            return self._known != known

    def keep(self, link: Link, wanted: config.Mode) -> Attachment:
        """Have the program on ``link`` in the mode ``wanted``, or in the previous one if that was refused.

        Raises:
            AttachError: the kernel refused.

        """
        with self._lock:
            kept = self._keep(link, wanted)
            self._known[link.index] = link, kept
        return kept

    def _keep(self, link: Link, wanted: config.Mode) -> Attachment:
        known, standing = self.has(link.index), self._standing(link)
        if standing is None:
            if known:
                self._log.warning(
                    "program was taken off by somebody else, putting it back",
                    interface=link.name,
                    direction=self.direction,
                    remedy="to keep it off, take the interface out of the configuration and reload",
                )
            return self._put_on(link, wanted)
        there = self._attachment(standing, known.why if known else "as it was")
        if known is None:  # back from another namespace
            self._log.info("program is attached", **self._words(link, there))
        try:
            there = self._swap(link, there)  # also where it came back, or has been swapped since the interface was read
        except AttachError as error:
            self._log.error("program not replaced, the previous one stays", interface=link.name, error=str(error))
        return self._move(link, there, wanted)

    def _swap_known(self, index: int) -> None:
        link, there = self._known[index]
        self._known[index] = link, self._swap(link, there)

    def _swap(self, link: Link, there: Attachment) -> Attachment:
        """Have the attacher's program in the place of another one of ours. Raises AttachError."""
        if there.mode is None or there.program_id == (program := self._attachers[there.mode].program.id):
            return there
        self._attachers[there.mode].swap(link)
        return replace(there, program_id=program)

    def let_go(self, link: Link, *, wait: bool = True) -> bool:
        """Take the program off ``link``, also where that has gone or moved; return False if it was not there.

        Without ``wait`` the kernel may finish it later.

        Raises:
            AttachError: the kernel refused.

        """
        with self._lock:
            _link, known = self._known.pop(link.index, (link, None))
            attachers = [self._attachers[known.mode]] if known and known.mode else self._each()
            return any(attacher.detach(link, wait=wait) for attacher in attachers)

    def put_back(self, link: Link) -> bool:
        """Put the program that ours has replaced back on ``link``; return False if there is none.

        Raises:
            AttachError: the kernel refused.

        """
        with self._lock:
            return any(attacher.put_back(link) for attacher in self._each())

    def clean(self, link: Link) -> bool:
        """Detach a previous daemon's program from ``link``; tell whether one was there. Raises AttachError."""
        with self._lock:
            cleaned = [attacher.clean(link) for attacher in self._each()]
        return any(cleaned)

    def clean_others(self) -> None:
        """Detach previous daemons' programs from interfaces that are not in this namespace any more."""
        for attacher in self._each():
            attacher.clean_others()

    def has(self, index: int) -> Attachment | None:
        """Return the program that this daemon has on an interface, as of the latest look; None if it has none."""
        _link, known = self._known.get(index, (None, None))
        return known

    def refusal(self, index: int) -> str | None:
        """Return why the program is not in the mode that is wanted on the interface; None if it is."""
        refused = self._refused.get(index)
        return refused.error if refused else None

    def forget(self, index: int) -> None:
        """Ask again for any mode on the interface."""
        self._refused.pop(index, None)

    def _each(self) -> Sequence[Attacher]:
        """Return each attacher once: several modes may have one."""
        return [*dict.fromkeys(self._attachers.values())]

    def _standing(self, link: Link) -> Standing | None:
        return next((standing for attacher in self._each() if (standing := attacher.standing(link))), None)

    def _put_on(self, link: Link, wanted: config.Mode) -> Attachment:
        refused = self._of(link, wanted)
        if refused:
            return self._attach(link, Choice((refused.mode,), "as before, since the mode that is wanted was refused"))
        left = next((mode for attacher in self._each() if (mode := attacher.left(link))), None)
        if left:
            return self._attach(link, Choice((left,), "as the previous daemon had it"))
        return self._attach(link, choose(link, self.direction, wanted))

    def _move(self, link: Link, there: Attachment, wanted: config.Mode) -> Attachment:
        """Move the program from where it is ``there`` to the mode ``wanted``; return where it is now."""
        mode = there.mode
        if mode is None or self.direction == "egress" or self._of(link, wanted) or wanted in ("auto", mode):
            return replace(there, why=CONFIGURED) if wanted == mode else there
        self._attachers[mode].detach(link)
        try:
            return self._attach(link, choose(link, self.direction, wanted))
        except CnfError as error:
            self._refused[link.index] = _Refused(wanted, mode, str(error))
            self._log.error("mode refused, the previous one stays", interface=link.name, mode=mode, error=str(error))
            return self._attach(link, Choice((mode,), "as before, since the mode that is wanted was refused"))

    def _of(self, link: Link, wanted: config.Mode) -> _Refused | None:
        """Return the refusal of this very mode; one of another mode is of no interest any more."""
        refused = self._refused.get(link.index)
        if refused and refused.wanted != wanted:
            self.forget(link.index)
            return None
        return refused

    def _attach(self, link: Link, choice: Choice) -> Attachment:
        """Attach in the first of the modes that the kernel takes."""
        refusals: list[AttachError] = []
        for mode in choice.modes:
            try:
                if why := unreadable(link, mode):
                    raise AttachError(f"interface {link.shown}: {why}")
                standing = self._attachers[mode].attach(link, mode)
            except AboveError:
                raise
            except AttachError as error:
                refusals.append(error)
                continue
            why = choice.why
            if refusals:
                why = "; ".join(error.message.removeprefix(f"interface {link.shown}: ") for error in refusals)
                self._log.info("native xdp refused, tc in use", interface=link.name, refused=why)
            attached = self._attachment(standing, why)
            self._log.info("program attached", **self._words(link, attached))
            return attached
        if len(refusals) == 1:
            raise refusals[0]
        raise AttachError("; ".join(error.message for error in refusals), remedy=refusals[-1].remedy)

    def _attachment(self, standing: Standing, why: str) -> Attachment:
        return Attachment(self.direction, standing.mode, standing.hook, standing.program_id, why, standing.before)

    def _words(self, link: Link, there: Attachment) -> dict[str, object]:
        return {
            "interface": link.name,
            "direction": self.direction,
            "mode": there.mode,
            "prog_id": there.program_id,
        }
