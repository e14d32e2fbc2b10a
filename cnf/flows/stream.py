"""The stream of flow records: what each drain has made of them, for whoever keeps or sends them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cnf.abi import Direction, Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.counts import Count


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
