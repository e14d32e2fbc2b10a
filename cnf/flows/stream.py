"""The stream of flow records: what each drain has made of them, for whoever keeps or sends them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from cnf.abi import EVENT, Direction, Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.config import Settings
from cnf.counts import Count
from cnf.flows.ledger import NOTHING
from cnf.flows.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """The records that one drain has made; not written again."""

    first: int
    """Number of the first record. A stream's first one is 1; the next daemon goes on with the numbers."""
    clock: WallClock
    """Of the drain."""
    records: Mapping[Family, Records]
    """FLOW_RECORD, shape (N,). Those of IPv4 are numbered before those of IPv6."""
    names: Mapping[int, str]
    """Interface name by ifindex, also of departed interfaces."""
    altnames: Mapping[int, tuple[str, ...]]
    lost: Mapping[Direction, Count]
    """What flows had counted that have finished since the batch before, and is in no record."""

    @property
    def end(self) -> int:
        """Return the number after the last record."""
        return self.first + sum(map(len, self.records.values()))


class Sink(Protocol):
    """Whoever keeps or sends records. The main thread calls it: it must return soon, and raise nothing."""

    def active(self, clock: WallClock) -> float:
        """Return how many seconds a flow that goes on may be without a record at the drain of ``clock``.

        0 has every flow recorded that has counted anything since its latest record, infinity has none recorded.
        """

    def put(self, batch: RecordBatch) -> None:
        """Take the records of a drain."""

    def apply(self, settings: Settings) -> None:
        """Follow a reload: settings in which nothing is kept or sent any more are no error."""

    def close(self) -> None:
        """Keep or send what is left, within a few seconds; ``put()`` is not called again."""


class Due(NamedTuple):
    """The records that a drain is to make."""

    events: Records
    """EVENT, shape (N,): flows that have finished since the drain before are among them."""
    active: float
    """Seconds; a flow that goes on is recorded once they have passed since its latest record."""
    stopping: bool = False
    """Whether all flows are recorded, because nothing counts any more."""


def no_events() -> Records:
    """Return no EVENT records."""
    return np.empty(0, EVENT)


class Stream:
    """Number the records of all drains, and hand them on; by the main thread."""

    def __init__(self, take_events: Callable[[], Records] = no_events) -> None:
        """Begin with no sink; ``take_events`` returns the EVENT records that have come since its latest call."""
        self.sinks: list[Sink] = []
        self._take_events = take_events
        self._next = 1
        self._batches: list[RecordBatch] = []

    def hand_over(self) -> dict[str, Any]:
        """Return what the next daemon must know."""
        return {"next": self._next}

    def take_over(self, document: dict[str, Any] | None) -> None:
        """Go on from what ``hand_over()`` returned."""
        if document:
            self._next = int(document["next"])

    def apply(self, settings: Settings) -> None:
        """Have the sinks follow a reload."""
        for sink in self.sinks:
            sink.apply(settings)

    def begin(self, clock: WallClock, *, stopping: bool) -> Due:
        """Return what the drain of ``clock``, which has just been read, is to record."""
        active = min((sink.active(clock) for sink in self.sinks), default=math.inf)
        return Due(self._take_events(), active, stopping)

    def end(self, snapshot: Snapshot, records: Mapping[Family, Records]) -> None:
        """Take the ``records``, FLOW_RECORD of shape (N,), of the drain that ``snapshot`` is of, and number them."""
        batch = RecordBatch(self._next, snapshot.clock, records, snapshot.names, snapshot.altnames, NOTHING)
        self._next = batch.end
        self._batches.append(batch)

    def send(self) -> None:
        """Hand on what has been numbered, now that the next daemon would know of it."""
        batches, self._batches = self._batches, []
        for batch in batches:
            for sink in self.sinks:
                sink.put(batch)
