"""The handover from one daemon to the next through the maps, so that no count starts anew."""

from __future__ import annotations

from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from cnf.datapath.handover_map import Document, HandoverMap
from cnf.errors import MapError

EFFECTS: Final = {
    "tracker": "the counts of expired flows start anew",
    "interfaces": "what departed interfaces had received is in no sum but the ledger's",
    "series": "the counters of the largest flows start anew",
    "sources": "the counts of evicted sources start anew",
    "exporters": "collectors see their sequence numbers start anew",
    "stream": "the numbers of flow records start anew, and so does what is lost",
    "history": "the history begins anew: what was counted since its latest minute is in none",
}
"""The loss with each part. (The limiter reads its own part, and says so itself.)"""


class Part(Protocol):
    """A part of the daemon that goes on from where the previous daemon has left it."""

    def hand_over(self) -> Document:
        """Return what the next daemon has to know."""

    def take_over(self, document: Document | None) -> None:
        """Go on from what ``hand_over()`` returned: empty where nothing was written, None where it cannot be read.

        Whatever it raises, nothing has changed.
        """


class Handover:
    """The parts of a daemon that another one goes on with, by name."""

    def __init__(self, handover_map: HandoverMap, log: FilteringBoundLogger, *, kept: bool) -> None:
        """Read from ``handover_map``, if it was ``kept``, and write there what outlives this daemon."""
        self._map = handover_map
        self._log = log
        self._kept = kept
        self._parts: dict[str, Part] = {}

    def take(self, **parts: Part) -> None:
        """Have each part go on from what the previous daemon has noted of it, or without that; note it from now on."""
        self._parts |= parts
        for name, part in parts.items() if self._kept else ():
            try:
                part.take_over(self._map.part(name) or {})
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                self._log.error("part of the handover discarded", part=name, error=str(error), effect=EFFECTS[name])
                part.take_over(None)

    def note(self) -> None:
        """Write down what the next daemon has to know, in one step."""
        try:
            self._map.put(**{name: part.hand_over() for name, part in self._parts.items()})
        except MapError as error:
            self._log.error("sums not kept for the next daemon", error=str(error))
