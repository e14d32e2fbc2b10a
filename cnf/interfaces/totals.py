"""Counts by interface name: live ones from counter slots, departed ones as last sums."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.abi import INTERFACE_COUNTERS, UNASSIGNED_INTERFACE
from cnf.datapath.counters import UNASSIGNED, InterfaceCounters
from cnf.datapath.handover_map import Document

Counters = npt.NDArray[Any]
"""INTERFACE_COUNTERS, shape ()."""

REMEMBERED_NAMES: Final = 4096
"""Departed interfaces whose names are kept for the flows that they leave behind."""
REMEMBERED_COUNTERS: Final = 64
"""Departed interfaces that keep their series; the counts of earlier ones stand in the ledger only."""
SHOWN: Final = 300.0
"""Seconds for which a departed name keeps its series in any case, so that whoever reads them sees its last sums; unless
more have departed since than there can be interfaces."""


class Tallies:
    """Keep what interfaces have counted under their names, as they come, are renamed, and go.

    ``totals()``, ``all_totals()`` and ``all_names()`` may be called from any thread; all else belongs to the main
    thread.
    """

    def __init__(self, counters: InterfaceCounters, now: Callable[[], float] = time.monotonic) -> None:
        """Take the counters, with the slots that the previous daemon has given; ``now`` tells seconds."""
        self.names: dict[int, str] = {}
        self.incomplete = False
        """Whether counts of departed interfaces are missing: a previous daemon's sums could not be read."""
        self.altnames: Mapping[int, tuple[str, ...]] = {}
        """By ifindex, those of interfaces that are there; replaced whole."""
        self._counters = counters
        self._now = now
        self._seated: dict[int, str] = {}
        """Names by ifindex, of the interfaces that this daemon has given a slot."""
        self._renamed: dict[int, Counters] = {}
        """Counts by ifindex that stand under an earlier name: those of the slot when the interface was renamed."""
        self._retired: dict[str, Counters] = {}
        """Counts by name, besides those of the interface's slot; the latest to depart stands last."""
        self._retired_at: dict[str, float] = {}
        self._departed = np.zeros((), INTERFACE_COUNTERS)
        """Counts of interfaces whose names are forgotten."""
        self._lock = threading.Lock()

    def hand_over(self) -> Document:
        """Return what the next daemon has to know: names by ifindex, and the counts that are in no slot."""
        return {
            "names": list(self.names.items()),
            "renamed": [[index, counters.tobytes().hex()] for index, counters in self._renamed.items()],
            "retired": [[name, counters.tobytes().hex()] for name, counters in self._retired.items()],
            "departed": self._departed.tobytes().hex(),
            "incomplete": self.incomplete,
        }

    def take_over(self, document: Document | None) -> None:
        """Go on from what ``hand_over()`` returned, with the slots that the maps have already."""
        self.names = dict.fromkeys(self._counters.assigned(), UNASSIGNED_INTERFACE)
        self.incomplete = document is None
        if not document:
            return
        # An interface that was made since this was written may have counted less in its slot than it says.
        held = self._counters.read()
        renamed = {index: _unpacked(counters) for index, counters in document["renamed"] if index in held}
        renamed = {index: counters for index, counters in renamed.items() if _is_within(counters, held[index])}
        retired = {name: _unpacked(counters) for name, counters in document["retired"]}
        names, departed = dict(document["names"]), _unpacked(document["departed"])
        self.incomplete = bool(document["incomplete"])
        self.names |= names
        self._renamed, self._retired, self._departed = renamed, retired, departed
        self._retired_at = dict.fromkeys(retired, self._now())

    def seats(self) -> dict[int, tuple[str, ...]]:
        """Return the name and then the altnames of each interface that has a counter slot, by slot."""
        names = self.all_names()
        return {slot: names[index] for index, slot in self._counters.assigned().items()}

    def all_names(self) -> dict[int, tuple[str, ...]]:
        """Return the name and then the altnames of each interface that has a slot, by ifindex."""
        names, altnames = self.names, self.altnames
        return {
            index: (names.get(index, UNASSIGNED_INTERFACE), *altnames.get(index, ()))
            for index in self._counters.assigned()
        }

    def by_index(self) -> dict[int, Counters]:
        """Return the counters of the interfaces that have a slot, by ifindex, since they have it."""
        return self._counters.read()

    def totals(self) -> dict[str, Counters]:
        """Return the counters as they stand now, by interface name."""
        with self._lock:
            return self._totals()

    def all_totals(self) -> tuple[dict[str, Counters], Counters]:
        """Return the counters by interface name, and the sum of those of interfaces whose names are forgotten."""
        with self._lock:
            return self._totals(), self._departed.copy()

    def seat(self, index: int, name: str, *, ethernet: bool = True) -> int:
        """Count the packets of an interface under ``name`` from now on; return its counter slot.

        Without ``ethernet`` they begin with the IP header.
        What it has counted under another name stays there.

        Raises:
            AttachError: there is no slot for it.
            MapError: the kernel refused.

        """
        with self._lock:
            had_slot = index in self._counters.assigned()
            slot = self._counters.assign(index, ethernet=ethernet)
            known = self.names.get(index, name)
            if had_slot and known not in (name, UNASSIGNED_INTERFACE):
                counters = self._counters.read_one(index)
                self._retire(known, self._less_renamed(index, counters.copy()))
                self._renamed[index] = counters
            self._seated[index] = name
            self._name(index, name)
        return slot

    def join(self, member: int, index: int) -> None:
        """Count the packets of ``member``, a member of a bond, as those of the bond ``index``, which has a slot.

        Raises:
            AttachError: there is no room for it.
            MapError: the kernel refused.

        """
        if member in self._counters.assigned():
            self.unseat(member)
        self._counters.join(member, index)

    def leave(self, member: int) -> None:
        """Count the packets of ``member`` as the bond's no longer."""
        self._counters.leave(member)

    def unseat(self, index: int) -> None:
        """Free an interface's slot; what it has counted stays under its name."""
        self._seated.pop(index, None)
        with self._lock:
            own = self._less_renamed(index, self._counters.release(index))
            self._renamed.pop(index, None)
            if _any(own):
                self._retire(self.names[index], own)

    def unseat_others(self) -> None:
        """Free the slots that the previous daemon has left and this one has not taken."""
        for index in self._counters.assigned().keys() - self._seated.keys():
            self.unseat(index)

    def forget(self) -> None:
        """Keep the counts of departed interfaces by name for a while, and the latest for longer; add up the others."""
        with self._lock:
            here = set(self._seated.values())
            gone = [name for name in self._retired if name not in here]
            oldest, most = self._now() - SHOWN, max(REMEMBERED_COUNTERS, self._counters.room)
            for later, name in zip(range(len(gone), 0, -1), gone, strict=True):
                if later > most or (later > REMEMBERED_COUNTERS and self._retired_at[name] < oldest):
                    _plus(self._departed, self._retired.pop(name))
                    del self._retired_at[name]

    @property
    def members(self) -> Mapping[int, int]:
        """The bond that a member is counted as, both by ifindex."""
        return self._counters.members

    def _totals(self) -> dict[str, Counters]:
        totals = {name: counters.copy() for name, counters in self._retired.items()}
        for index, counters in self._counters.read().items():
            if index == UNASSIGNED and not _any(counters):
                continue
            name = UNASSIGNED_INTERFACE if index == UNASSIGNED else self.names[index]
            _add(totals, name, self._less_renamed(index, counters))
        return totals

    def _less_renamed(self, index: int, counters: Counters) -> Counters:
        if index in self._renamed:
            for field in INTERFACE_COUNTERS.names or ():
                counters[field] -= self._renamed[index][field]
        return counters

    def _retire(self, name: str, counters: Counters) -> None:
        _add(self._retired, name, counters)
        self._retired[name] = self._retired.pop(name)  # the latest stands last
        self._retired_at[name] = self._now()

    def _name(self, index: int, name: str) -> None:
        names = self.names | {index: name}
        here = self._counters.assigned()
        departed = [each for each in names if each not in here]
        for each in departed[: max(0, len(departed) - REMEMBERED_NAMES)]:
            del names[each]
        self.names = names


def _any(counters: Counters) -> bool:
    return any(counters[field].any() for field in INTERFACE_COUNTERS.names or ())


def _add(totals: dict[str, Counters], name: str, counters: Counters) -> None:
    if name in totals:
        _plus(totals[name], counters)
    else:
        totals[name] = counters.copy()


def _plus(total: Counters, counters: Counters) -> None:
    for field in INTERFACE_COUNTERS.names or ():
        total[field] += counters[field]


def _is_within(counters: Counters, others: Counters) -> bool:
    return all((counters[field] <= others[field]).all() for field in INTERFACE_COUNTERS.names or ())


def _unpacked(text: str) -> Counters:
    return np.frombuffer(bytes.fromhex(text), INTERFACE_COUNTERS).reshape(()).copy()
