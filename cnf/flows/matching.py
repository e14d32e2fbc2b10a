"""Find the flows of one drain among those of the previous one, and work out their rates. Pure numpy."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from cnf.arrays import Mask, Records, Rows, allot
from cnf.flows.columns import BLOCK, FlowColumns

SHORTEST: Final = 1e-3
"""Seconds that two drains are taken to be apart at least."""

# Odd multipliers, drawn at start: nobody outside can choose two keys of one identity.
_MULTIPLIERS: Final = tuple(np.uint64(secrets.randbits(64) | 1) for _ in range(16))


def identities(keys: Records) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each key: products with secret odd numbers, summed and mixed."""
    return mixed(keys.view(np.uint64).reshape(len(keys), keys.itemsize // 8).T)


def mixed(words: Sequence[npt.NDArray[np.uint64]] | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each column of ``words``, which are 15 at most."""
    total = np.zeros(len(words[0]), np.uint64)
    for word, multiplier in zip(words, _MULTIPLIERS[:-1], strict=False):
        total += (word ^ (word >> np.uint64(32))) * multiplier
    total ^= total >> np.uint64(29)
    total *= _MULTIPLIERS[-1]
    total ^= total >> np.uint64(32)
    return total


class Candidates(NamedTuple):
    """Flows, and for each the flow of the previous drain that may be the same; arrays of one length, or slices."""

    rows: Rows | slice
    rows_before: Rows | slice
    """Meaningless where nothing was found."""
    found: Mask | np.bool_


class Order(Protocol):
    """An order of a table's flows, in which those of another drain are found."""

    def candidates(self, before: Any, /) -> Iterator[Candidates]:  # noqa: ANN401 - an order of the same kind
        """Find every flow among those of the previous drain."""


class ByIdentity:
    """Flows in the order of their identities."""

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
        """Return the rows whose key another row has, too: all but one of each key."""
        again = np.flatnonzero(self.identities[1:] == self.identities[:-1])
        earlier, later = self.order[again].astype(np.intp), self.order[again + 1].astype(np.intp)
        rows: Rows = earlier[flows.keys(earlier) == flows.keys(later)]
        return rows

    def candidates(self, before: Self, /) -> Iterator[Candidates]:
        """Find every flow among those of the previous drain, by its identity."""
        for start in range(0, len(self.order), BLOCK):
            rows, identity = (column[start : start + BLOCK] for column in (self.order, self.identities))
            where = np.searchsorted(before.identities, identity)
            where[where == len(before.order)] = 0
            yield Candidates(rows, before.order[where], before.identities[where] == identity)


class BySlot:
    """Flows in the order of their slots, in a table that moves none."""

    def __init__(self, size: int) -> None:
        """Start with none of ``size`` slots in use."""
        self.used = np.zeros(-(-size // 8), np.uint8)
        """A bit a slot, the lowest first: 256 kB for a table of a million flows."""

    def add(self, slots: npt.NDArray[np.integer]) -> None:
        """Take the next rows' slots, ascending."""
        if not len(slots):
            return
        first, end = int(slots[0]) // 8, int(slots[-1]) // 8 + 1
        bits = np.zeros(8 * (end - first), np.uint8)
        bits[slots - 8 * first] = 1
        self.used[first:end] |= np.packbits(bits, bitorder="little")

    def candidates(self, before: Self, /) -> Iterator[Candidates]:
        """Find which flow was in each slot at the previous drain.

        It is the same flow if its first packet came at the same time. Of two flows that come into one slot within the
        tick of a drain, the second is taken for the first.
        """
        start = start_before = 0
        for first in range(0, len(self.used), BLOCK // 4):
            used, used_before = (order.used[first : first + BLOCK // 4] for order in (self, before))
            end, end_before = start + _count(used), start_before + _count(used_before)
            rows = slice(start, end)
            if np.array_equal(used, used_before):
                yield Candidates(rows, slice(start_before, end_before), np.True_)
            else:
                bits, bits_before = (np.unpackbits(each, bitorder="little") for each in (used, used_before))
                slots, rows_until = np.flatnonzero(bits), np.cumsum(bits_before, dtype=np.intp)
                yield Candidates(rows, start_before - 1 + rows_until[slots], bits_before[slots].view(np.bool_))
            start, start_before = end, end_before


def _count(used: npt.NDArray[np.uint8]) -> int:
    return int(np.bitwise_count(used).sum())


class Rates:
    """Work out the rates of a table's flows, from drain to drain."""

    def __init__(self) -> None:
        """Start with no drain; the rates of the first one are 0."""
        self._previous: tuple[FlowColumns, Order, int] | None = None

    def update(self, flows: FlowColumns, order: Order, now: int) -> None:
        """Fill in the rates of ``flows``, read at the monotonic time ``now``, in ns."""
        if self._previous:
            before, order_before, then = self._previous
            seconds = max((now - then) / 1e9, SHORTEST)
            set_rates(flows, before, order.candidates(order_before), seconds)
        else:
            flows.packet_rate[:] = 0  # a slot of a cache has something else there
        self._previous = flows, order, now


def set_rates(flows: FlowColumns, before: FlowColumns, candidates: Iterable[Candidates], seconds: float) -> None:
    """Fill in the rates of ``flows`` from the counts that the same flows had ``seconds`` before.

    A new flow counts in whole. So does one that was made anew: its first packet came later.
    """
    if not len(before):
        flows.packet_rate[:], flows.byte_rate[:] = flows.packets / seconds, flows.bytes / seconds
        return
    for rows, rows_before, found in candidates:
        others = ~(found & (flows.first_seen[rows] == before.first_seen[rows_before]))
        for counts, counts_before, rate in (
            (flows.packets[rows], before.packets[rows_before], flows.packet_rate),
            (flows.bytes[rows], before.bytes[rows_before], flows.byte_rate),
        ):
            increase = (counts - counts_before).view(np.int64)  # numpy divides signed numbers faster
            anew = others | (increase < 0)
            if anew.any():
                np.copyto(increase, counts, where=anew, casting="same_kind")
            rate[rows] = increase / seconds
