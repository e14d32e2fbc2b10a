"""Find the flows of one drain among those of the previous one, and work out their rates. Pure numpy."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.arrays import Mask, Rows, allot
from cnf.flows.columns import FlowColumns

BLOCK: Final = 1 << 16
"""Rows that are worked on at a time, where what is needed on the way would otherwise be as large as the columns."""

# Odd multipliers, drawn at start: nobody outside can make two keys' identities meet.
_MULTIPLIERS: Final = tuple(np.uint64(secrets.randbits(64) | 1) for _ in range(7))


def identities(keys: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each key: products with secret odd numbers, summed and mixed."""
    words = keys.view(np.uint64).reshape(len(keys), keys.itemsize // 8)
    total = np.zeros(len(keys), np.uint64)
    for index in range(words.shape[1]):
        word = words[:, index]
        total += (word ^ (word >> np.uint64(32))) * _MULTIPLIERS[index]
    total ^= total >> np.uint64(29)
    total *= _MULTIPLIERS[-1]
    total ^= total >> np.uint64(32)
    return total


class Match(NamedTuple):
    """Flows, and where those of another drain stand that may be the same; arrays of the same length."""

    rows: npt.NDArray[np.integer]
    rows_before: npt.NDArray[np.integer]
    found: Mask
    """Where it is not set, there is none."""


class Index:
    """Flows in the order of their identities, to find those of another drain among them."""

    def __init__(self, identity: npt.NDArray[np.uint64]) -> None:
        """Sort the identities, shape (N,), of the rows of a FlowColumns."""
        self.order, self.identities = allot(len(identity), np.uint32, np.uint64)
        self.order[:] = np.argsort(identity)
        self.identities[:] = identity[self.order]

    def compress(self, keep: Mask) -> None:
        """Follow ``FlowColumns.compress(keep)``."""
        kept = keep[self.order]
        moved_to = np.cumsum(keep, dtype=np.uint32) - np.uint32(1)
        count = int(np.count_nonzero(kept))
        self.order[:count] = moved_to[self.order[kept]]
        self.identities[:count] = self.identities[kept]
        self.order, self.identities = self.order[:count], self.identities[:count]

    def duplicates(self, flows: FlowColumns) -> Rows:
        """Return rows whose key stands in another row too: all but one of each key."""
        again = np.flatnonzero(self.identities[1:] == self.identities[:-1])
        earlier, later = self.order[again].astype(np.intp), self.order[again + 1].astype(np.intp)
        rows: Rows = earlier[flows.keys(earlier) == flows.keys(later)]
        return rows

    def matches(self, before: Index) -> Iterator[Match]:
        """Find every flow among those ``before``."""
        for start in range(0, len(self.order), BLOCK):
            rows, identity = (column[start : start + BLOCK] for column in (self.order, self.identities))
            where = np.searchsorted(before.identities, identity)
            where[where == len(before.order)] = 0
            yield Match(rows, before.order[where], before.identities[where] == identity)


class Places:
    """Flows in the order of their places in a table that moves none."""

    def __init__(self, places: npt.NDArray[np.uint32]) -> None:
        """Take the places, ascending, of the rows of a FlowColumns."""
        self.places = places

    def matches(self, before: Places) -> Iterator[Match]:
        """Find what stood ``before`` in the place of every flow: the same flow, if it was first seen at the same time.

        A drain within the very tick in which a flow comes and makes room again could take the next for the same.
        """
        for start in range(0, len(self.places), BLOCK):
            places = self.places[start : start + BLOCK]
            first, end = places[0], int(places[-1]) + 1
            low, high = np.searchsorted(before.places, np.array((first, end), before.places.dtype))
            row_of = np.full(end - int(first), -1, np.int32)
            row_of[before.places[low:high] - first] = np.arange(low, high)
            rows_before = row_of[places - first]
            yield Match(np.arange(start, start + len(places)), rows_before, rows_before >= 0)


def set_rates(flows: FlowColumns, before: FlowColumns, matches: Iterable[Match], seconds: float) -> None:
    """Fill in the rates of ``flows`` from the counts that the same flows had ``seconds`` before.

    A flow that was not there counts in whole; so does one that has been made anew: its first packet came later.
    """
    for rows, rows_before, found in matches if len(before) else _no_matches(flows):
        same = found.copy()
        same[found] = flows.first_seen[rows[found]] == before.first_seen[rows_before[found]]
        for now, then, rate in (
            (flows.packets, before.packets, flows.packet_rate),
            (flows.bytes, before.bytes, flows.byte_rate),
        ):
            increase = now[rows]
            previous = then[rows_before[same]]
            previous[previous > increase[same]] = 0
            increase[same] -= previous
            rate[rows] = increase / seconds


def _no_matches(flows: FlowColumns) -> Iterator[Match]:
    rows = np.arange(len(flows))
    yield Match(rows, rows, np.zeros(len(flows), np.bool_))
