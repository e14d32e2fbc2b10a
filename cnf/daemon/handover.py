"""What one daemon hands over to the next through the maps, so that no count starts anew."""

from __future__ import annotations

from typing import Protocol

from structlog.typing import FilteringBoundLogger

from cnf.datapath.daemon_memory import Document, Memory
from cnf.errors import MapError
from cnf.kernel.pins import UnreadableError


class Remembering(Protocol):
    """What goes on from where the daemon before has left it."""

    def memory(self) -> Document:
        """Return what the next daemon has to know."""

    def remember(self, document: Document) -> None:
        """Go on from what ``memory()`` returned; nothing was returned where it is empty."""


class Handover:
    """The parts of a daemon that another one goes on with."""

    def __init__(self, memory: Memory, log: FilteringBoundLogger, **parts: Remembering) -> None:
        """Know the parts by name; ``memory`` outlives this daemon."""
        self._memory = memory
        self._log = log
        self._parts = parts

    def take(self) -> None:
        """Go on from what the daemon before has noted.

        Raises:
            UnreadableError: it is nothing that a part can go on from.

        """
        try:
            for name, part in self._parts.items():
                part.remember(self._memory.part(name) or {})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnreadableError(f"a part: {error!r}") from error
        self._log.info("going on with the flows and counters of the daemon before")

    def note(self, **others: Document) -> None:
        """Write down what the next daemon has to know, and ``others``, in one step."""
        try:
            self._memory.put(**{name: part.memory() for name, part in self._parts.items()}, **others)
        except MapError as error:
            self._log.error("sums not kept for the next daemon", error=str(error))
