"""The stream of flow records: what each drain has made of them, for whoever keeps or sends them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from cnf.abi import EVENT, Direction, Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.config import Settings
from cnf.counts import Count
from cnf.flows.ledger import NOTHING
from cnf.flows.lost import Lost, Sums
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
    received: Mapping[str, Records] = field(default_factory=dict)
    """INTERFACE_COUNTERS, shape (), by interface name; read just before the flows."""
    whole: bool = False
    """Whether every flow is recorded, because this daemon ends."""

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


Whole = Literal["stopped", "active"] | None
"""Why a drain records all flows: nothing counts any more, or another daemon goes on; None if it does not."""


class Due(NamedTuple):
    """The records that a drain is to make."""

    events: Records
    """EVENT, shape (N,): flows that have finished since the drain before are among them."""
    active: float
    """Seconds; a flow that goes on is recorded once they have passed since its latest record."""
    whole: Whole = None
    look: bool = False
    """Whether to sum up what is recorded of live flows."""


class Events(Protocol):
    """Who reads events."""

    def take_finishes(self) -> Records:
        """Return the EVENT records, shape (N,), of flows that have finished since the latest call."""

    def finishes_missed(self) -> int:
        """Return how many of them could not be returned. Raises MapError."""


class Stream:
    """Number the records of all drains, and hand them on; by the main thread."""

    def __init__(self, events: Events | None = None) -> None:
        """Begin with no sink; ``events`` tells of flows that finish between two drains, if anyone does."""
        self.sinks: list[Sink] = []
        self.lost = Lost()
        self._events = events
        self._next = 1
        self._batches: list[RecordBatch] = []

    @property
    def last(self) -> int:
        """The number of the latest record; 0 before the first."""
        return self._next - 1

    def hand_over(self) -> dict[str, Any]:
        """Return what the next daemon must know."""
        return {"next": self._next, **self.lost.hand_over()}

    def take_over(self, document: dict[str, Any] | None) -> None:
        """Go on from what ``hand_over()`` returned."""
        following = int(document["next"]) if document else 1
        self.lost.take_over(document)
        self._next = following

    def apply(self, settings: Settings) -> None:
        """Have the sinks follow a reload."""
        for sink in self.sinks:
            sink.apply(settings)

    def begin(self, clock: WallClock, evicted: int, whole: Whole = None) -> Due:
        """Return what the drain of ``clock``, which has just been read, is to record.

        Of ``evicted`` flows nobody has told.

        Raises:
            MapError: the kernel refused.

        """
        signs = evicted + (self._events.finishes_missed() if self._events else 0)
        look = whole is not None or self.lost.is_to_be_looked_for(clock.now.monotonic / 1e9, signs)
        events = self._events.take_finishes() if self._events else np.empty(0, EVENT)
        active = min((sink.active(clock) for sink in self.sinks), default=math.inf)
        return Due(events, active, whole, look)

    def end(
        self, snapshot: Snapshot, records: Mapping[Family, Records], sums: Sums | None = None, whole: Whole = None
    ) -> None:
        """Take the ``records``, FLOW_RECORD of shape (N,), of the drain that ``snapshot`` is of, and number them."""
        self.lost.add(records.values())
        batch = RecordBatch(
            first=self._next,
            clock=snapshot.clock,
            records=records,
            names=snapshot.names,
            altnames=snapshot.altnames,
            lost=self.lost.look(sums, last=whole == "stopped") if sums else NOTHING,
            received=snapshot.received,
            whole=whole is not None,
        )
        self._next = batch.end
        self._batches.append(batch)

    def send(self) -> None:
        """Hand on what has been numbered, now that the next daemon would know of it."""
        batches, self._batches = self._batches, []
        for batch in batches:
            for sink in self.sinks:
                sink.put(batch)
