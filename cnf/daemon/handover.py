"""What one daemon hands over to the next through the maps, so that no count starts anew."""

from __future__ import annotations

from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from cnf.datapath.daemon_memory import Document, Memory
from cnf.errors import MapError

EFFECTS: Final = {
    "tracker": "the counts of expired flows start anew",
    "interfaces": "what departed interfaces had received is in no sum but the ledger's",
    "series": "the counters of the largest flows start anew",
    "sources": "the counts of evicted sources start anew",
}
"""What is lost with each part. Of the limiter's own part, the limiter says so."""


class Part(Protocol):
    """What goes on from where the previous daemon has left it."""

    def memory(self) -> Document:
        """Return what the next daemon has to know."""

    def remember(self, document: Document | None) -> None:
        """Go on from what ``memory()`` returned: empty where nothing was written, None where it cannot be read.

        Whatever it raises, nothing has changed.
        """


class Handover:
    """The parts of a daemon that another one goes on with, by name."""

    def __init__(self, memory: Memory, log: FilteringBoundLogger, *, kept: bool) -> None:
        """Read from ``memory``, if it was ``kept``, and write there what outlives this daemon."""
        self._memory = memory
        self._log = log
        self._kept = kept
        self._parts: dict[str, Part] = {}

    def take(self, **parts: Part) -> None:
        """Have each part go on from what the previous daemon has noted of it, or without that; note it from now on."""
        self._parts |= parts
        for name, part in parts.items() if self._kept else ():
            try:
                part.remember(self._memory.part(name) or {})
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self._log.error("part of the handover discarded", part=name, error=str(error), effect=EFFECTS[name])
                part.remember(None)

    def note(self) -> None:
        """Write down what the next daemon has to know, in one step."""
        try:
            self._memory.put(**{name: part.memory() for name, part in self._parts.items()})
        except MapError as error:
            self._log.error("sums not kept for the next daemon", error=str(error))
