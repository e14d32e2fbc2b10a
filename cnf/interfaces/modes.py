"""The mode in which the program is on an interface: the one that is wanted, unless the kernel refuses it."""

from __future__ import annotations

from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from cnf import config
from cnf.errors import CnfError
from cnf.kernel.links import Link, Mode
from cnf.kernel.xdp import Attacher


class _Refused(NamedTuple):
    """A mode that a reload asked for and the kernel refused."""

    wanted: config.Mode
    mode: Mode
    """The mode that the program was in, and stays in."""
    error: str


class Modes:
    """Put the program on interfaces; a mode that was refused is asked for once, not at every look."""

    def __init__(self, attacher: Attacher, log: FilteringBoundLogger) -> None:
        """Start with no mode refused."""
        self._attacher = attacher
        self._log = log
        self._refused: dict[int, _Refused] = {}
        """By ifindex."""

    def put_on(self, link: Link, wanted: config.Mode) -> Mode:
        """Attach in the mode ``wanted``, or the previous one if that was refused; return the mode obtained.

        Raises:
            AttachError: the kernel refused.

        """
        refused = self._of(link, wanted)
        return self._attach(link, refused.mode if refused else wanted)

    def move(self, link: Link, mode: Mode, wanted: config.Mode) -> Mode:
        """Move the program from ``mode`` to the mode ``wanted``; return the mode that it is in now.

        Raises:
            AttachError: the kernel refused both.

        """
        if self._of(link, wanted) or wanted in ("auto", mode):
            return mode
        self._attacher.detach(link)
        try:
            return self._attach(link, wanted)
        except CnfError as error:
            self._refused[link.index] = _Refused(wanted, mode, str(error))
            self._log.error("mode refused, the previous one stays", interface=link.name, mode=mode, error=str(error))
            return self._attach(link, mode)

    def refusal(self, index: int) -> str | None:
        """Return why the program is not in the mode that is wanted on the interface; None if it is."""
        refused = self._refused.get(index)
        return refused.error if refused else None

    def forget(self, index: int) -> None:
        """Ask again for any mode on the interface."""
        self._refused.pop(index, None)

    def _of(self, link: Link, wanted: config.Mode) -> _Refused | None:
        """Return the refusal of this very mode; one of another mode is of no interest any more."""
        refused = self._refused.get(link.index)
        if refused and refused.wanted != wanted:
            self.forget(link.index)
            return None
        return refused

    def _attach(self, link: Link, mode: Mode | config.Mode) -> Mode:
        attached = self._attacher.attach(link, mode)
        if attached.refused:
            self._log.warning("native xdp refused, generic in use", interface=link.name, refused=attached.refused)
        self._log.info("xdp attached", interface=link.name, mode=attached.mode, prog_id=self._attacher.program_id)
        return attached.mode
