"""The latest flow records, for clients that ask for them by number.

They are kept as the drains made them, and become lines only when a client asks.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from cnf.abi import DIRECTIONS, Direction
from cnf.clock import WallClock
from cnf.config import Settings
from cnf.counts import Count
from cnf.flows.stream import RecordBatch
from cnf.process.bell import Bell

KEPT: Final = 100_000
"""Records: at most 10 MB. Of the latest drain all records are kept, however many."""
KEPT_BATCHES: Final = 1_000
"""Drains whose records are kept, where each of them has made a few only."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept after one drain."""

    batches: tuple[RecordBatch, ...] = ()
    """Each has records."""
    last: int = 0
    """The number of the latest record, which an earlier daemon may have made; 0 if there was none."""
    lost: Mapping[Direction, Count] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, Count()))
    """What has been counted since the daemon began by flows that have finished, and is in no record."""

    @property
    def first(self) -> int:
        """Return the number of the first record that is kept, or of the next one if there is none."""
        return self.batches[0].first if self.batches else self.last + 1

    def after(self, number: int) -> RecordBatch | None:
        """Return the batch that has the first record after the one numbered ``number``; None if there is none."""
        place = bisect_right(self.batches, number + 1, key=lambda batch: batch.end)
        return self.batches[place] if place < len(self.batches) else None


class RecordLog:
    """A sink that keeps the latest records. The main thread puts them in; any thread may read ``kept``."""

    def __init__(self, stream: int, last: int = 0, most: int = KEPT) -> None:
        """Keep ``most`` records of the stream with the number ``stream``, of those after number ``last``."""
        self.stream = stream
        """In another stream, records are numbered from 1 again."""
        self.bell = Bell()
        """Rings when there is more to read."""
        self.kept = Kept(last=last)
        """Replaced whole."""
        self._most = most

    def active(self, clock: WallClock) -> float:  # noqa: ARG002 - a sink as the others are
        """Ask for no records of its own."""
        return math.inf

    def put(self, batch: RecordBatch) -> None:
        """Keep the records of a drain."""
        before, batches = self.kept, self.kept.batches
        if batch.end > batch.first:
            batches = (*self._still_kept(batch), batch)
        lost = {direction: before.lost[direction].plus(batch.lost[direction]) for direction in DIRECTIONS}
        self.kept = Kept(batches, batch.end - 1, lost)
        if batches is not before.batches or lost != before.lost:
            self.bell.ring()

    def apply(self, settings: Settings) -> None:
        """Do nothing: there are no settings."""

    def close(self) -> None:
        """Do nothing: who asks has until the end of the servers."""

    def _still_kept(self, latest: RecordBatch) -> list[RecordBatch]:
        """Return the batches that are kept before the latest one."""
        oldest = min(latest.end - self._most, latest.first)
        kept = [each for each in self.kept.batches if each.end > oldest][1 - KEPT_BATCHES :]
        if kept and kept[0].first < oldest:
            kept[0] = _since(kept[0], oldest)
        if kept and (kept[-1].names is not latest.names or kept[-1].altnames is not latest.altnames):
            names = kept[-1].names
            kept = [_with_own_names(each) if each.names is names else each for each in kept]
        return kept


def _since(batch: RecordBatch, number: int) -> RecordBatch:
    """Return the records from ``number`` on, as a copy, so that the memory of the others is free."""
    skipped, records = number - batch.first, {}
    for family, all_records in batch.records.items():
        records[family] = all_records[skipped:].copy()
        skipped = max(skipped - len(all_records), 0)
    return replace(batch, first=number, records=records)


def _with_own_names(batch: RecordBatch) -> RecordBatch:
    """Return the same records with the names of their own interfaces only, so that those of a time take no memory."""
    indexes = {index for records in batch.records.values() for index in np.unique(records["ifindex"]).tolist()}
    return replace(
        batch,
        names={index: batch.names[index] for index in indexes & batch.names.keys()},
        altnames={index: batch.altnames[index] for index in indexes & batch.altnames.keys()},
    )
