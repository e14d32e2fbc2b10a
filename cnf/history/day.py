"""How much there was over a day: the history's sums by slices of time, for a chart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import DIRECTIONS
from cnf.flows.top import COUNTERS
from cnf.history.block import Block, DamagedError, unpack
from cnf.history.files import Place, content_of, paths, places

SLICE: Final = 600 * 10**9
"""ns of a slice."""
SLICES: Final = 144
"""A day."""
SUMS: Final = ("received_packets", "received_bytes", "sent_packets", "sent_bytes", "dropped_packets", "dropped_bytes")


class Minute(NamedTuple):
    """What a block has counted."""

    begin: int
    """ns since the epoch."""
    end: int
    sums: tuple[int, ...]
    """By SUMS."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates by slice, oldest first."""

    begin: npt.NDArray[np.int64]
    """Shape (SLICES,), in ns since the epoch."""
    by_name: dict[str, npt.NDArray[np.float64]]
    """Shape (SLICES,), a second, by SUMS; NaN where the history has nothing of a slice."""


class Day:
    """The latest day. Blocks are read once: a later answer reads only those that have come since."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._minutes: dict[tuple[Path, int], Minute | None] = {}
        self._lock = threading.Lock()

    def rates(self, folder: str, now: int, draining: threading.Lock) -> Rates:
        """Return the rates of the day up to ``now``, in ns since the epoch; no block is read during a drain.

        Raises:
            OSError: the folder cannot be read.

        """
        last = now // SLICE
        begins = np.arange(last - SLICES + 1, last + 1, dtype=np.int64) * SLICE
        first = int(begins[0])
        with self._lock:
            there = {
                (place.path, place.offset): place
                for path in paths(Path(folder))
                for place in places(path)
                if first < place.header.end and place.header.begin < now
            }
            self._minutes = {
                key: self._minutes[key] if key in self._minutes else _minute(place, draining)
                for key, place in there.items()
            }
            minutes = [minute for minute in self._minutes.values() if minute]
        sums, seconds = np.zeros((SLICES, len(SUMS))), np.zeros(SLICES)
        for minute in minutes:
            for number, share in _shares(minute, first):
                sums[number] += np.array(minute.sums) * share
                seconds[number] += (minute.end - minute.begin) * share / 1e9
        rates = np.divide(sums.T, seconds, out=np.full(sums.T.shape, np.nan), where=seconds > 0)
        return Rates(begins, dict(zip(SUMS, rates, strict=True)))


def _minute(place: Place, draining: threading.Lock) -> Minute | None:
    """Return the sums of a block; None if it cannot be read."""
    with draining:
        pass
    try:
        block = unpack(place.header, content_of(place))
    except DamagedError:
        return None
    return Minute(block.begin, max(block.end, block.begin + 1), tuple(_sums(block)))


def _sums(block: Block) -> Iterator[int]:
    """Yield what a block has counted, by SUMS."""
    for names in (*(COUNTERS[way] for way in DIRECTIONS), ("dropped_packets", "dropped_bytes")):
        for name in names:
            yield sum(int(counters[name].sum()) for counters in block.interfaces.values())


def _shares(minute: Minute, first: int) -> Iterator[tuple[int, float]]:
    """Yield the slices that a block lies in, by number, and how much of it lies there."""
    length = minute.end - minute.begin
    earliest, latest = ((moment - first) // SLICE for moment in (minute.begin, minute.end - 1))
    for number in range(max(earliest, 0), min(latest, SLICES - 1) + 1):
        begin = first + number * SLICE
        yield number, (min(minute.end, begin + SLICE) - max(minute.begin, begin)) / length
