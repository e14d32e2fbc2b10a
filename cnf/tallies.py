"""What each interface has counted, by name: those that are here in counter slots, departed ones as last sums."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.kernel.counters import UNASSIGNED, InterfaceCounters
from cnf.kernel.memory import Document
from cnf.records import INTERFACE_COUNTERS, UNASSIGNED_INTERFACE

REMEMBERED_NAMES: Final = 4096
"""Departed interfaces whose names are kept for the flows that they leave behind."""
REMEMBERED_COUNTERS: Final = 64
"""Names of departed interfaces that keep counters of their own; those of earlier ones are one sum."""
DEPARTED: Final = "departed"
"""The interface name of that sum."""


class Tallies:
    """Keep what interfaces have counted under their names, as they come and go.

    ``totals()`` may be called from any thread; all else belongs to the main thread.
    """

    def __init__(self, counters: InterfaceCounters) -> None:
        """Take the counters, with the slots that a daemon before has given."""
        self.names: dict[int, str] = {}
        self._counters = counters
        self._seated: dict[int, str] = {}
        """By ifindex, the names of those that this daemon has given a slot."""
        self._retired: dict[str, npt.NDArray[Any]] = {}
        self._lock = threading.Lock()

    def memory(self) -> Document:
        """Return what the next daemon has to know: names by ifindex, and the counters of departed interfaces."""
        return {
            "names": list(self.names.items()),
            "retired": [[name, counters.tobytes().hex()] for name, counters in self._retired.items()],
        }

    def remember(self, document: Document) -> None:
        """Go on from what ``memory()`` returned, with the slots that the maps have already."""
        self.names = dict.fromkeys(self._counters.assigned(), UNASSIGNED_INTERFACE)
        self.names |= dict(document.get("names", ()))
        for name, counters in document.get("retired", ()):
            self._retired[name] = np.frombuffer(bytes.fromhex(counters), INTERFACE_COUNTERS)[0].copy()

    def seats(self) -> dict[int, str]:
        """Return the interfaces that have a counter slot, by slot."""
        return {slot: self.names[index] for index, slot in self._counters.assigned().items()}

    def totals(self) -> dict[str, npt.NDArray[Any]]:
        """Return the counters as they stand now: INTERFACE_COUNTERS, shape (), by interface name."""
        with self._lock:
            totals = {name: counters.copy() for name, counters in self._retired.items()}
            for index, counters in self._counters.read().items():
                if index == UNASSIGNED and not counters["packets"].any():
                    continue
                _add(totals, UNASSIGNED_INTERFACE if index == UNASSIGNED else self.names[index], counters)
        return totals

    def seat(self, index: int, name: str) -> int:
        """Count the packets of an interface under ``name``; return its counter slot.

        Raises:
            AttachError: there is no slot for it.

        """
        self._remember(index, name)
        with self._lock:
            slot = self._counters.assign(index)
        self._seated[index] = name
        return slot

    def unseat(self, index: int) -> None:
        """Free an interface's slot; what it has counted stays under its name."""
        self._seated.pop(index, None)
        with self._lock:
            final = self._counters.release(index)
            if final["packets"].any():
                self._retire(self.names[index], final)

    def unseat_others(self) -> None:
        """Free the slots that the daemon before has left and this one has not taken."""
        for index in self._counters.assigned().keys() - self._seated.keys():
            self.unseat(index)

    def _retire(self, name: str, final: npt.NDArray[Any]) -> None:
        """Keep the counters of a departed interface; those of the one that departed first become part of a sum."""
        _add(self._retired, name, final)
        self._retired[name] = self._retired.pop(name)  # the latest stands last
        here = {*self._seated.values(), DEPARTED}
        departed = [name for name in self._retired if name not in here]
        for earliest in departed[: max(0, len(departed) - REMEMBERED_COUNTERS)]:
            _add(self._retired, DEPARTED, self._retired.pop(earliest))

    def _remember(self, index: int, name: str) -> None:
        names = self.names | {index: name}
        departed = [each for each in names if each not in self._seated and each != index]
        for each in departed[: max(0, len(departed) - REMEMBERED_NAMES)]:
            del names[each]
        self.names = names


def _add(totals: dict[str, npt.NDArray[Any]], name: str, counters: npt.NDArray[Any]) -> None:
    if name not in totals:
        totals[name] = counters.copy()
        return
    for field in ("packets", "bytes", "unparsed", "dropped_packets", "dropped_bytes"):
        totals[name][field] += counters[field]
