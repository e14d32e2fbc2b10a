"""Rates of what sources, shared buckets and denied prefixes send, from one drain to the next. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import LIMIT4_KEY, Family
from cnf.arrays import Records
from cnf.counts import Count
from cnf.flows.matching import SHORTEST, identities


class Rate(NamedTuple):
    """Packets and bytes a second."""

    packets: float = 0.0
    bytes: float = 0.0


class Sent(NamedTuple):
    """What a table's sources have sent by a drain, whatever became of it."""

    keys: Records
    """LIMIT4_KEY or LIMIT6_KEY, shape (N,)."""
    counts: npt.NDArray[np.uint64]
    """Packets and bytes, shape (2, N)."""

    @classmethod
    def of(cls, keys: Records, values: Records) -> Sent:
        """Add up what was within the limit and what was over it, of LIMIT_SOURCE, shape (N,)."""
        return cls(keys, np.array([values[unit] + values[f"over_{unit}"] for unit in ("packets", "bytes")], np.uint64))


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read at one drain."""

    monotonic: int = 0
    """In ns."""
    tables: Mapping[Family, Sent] = field(default_factory=dict)
    others: Mapping[Hashable, Count] = field(default_factory=dict)
    """What was sent to shared buckets and from denied prefixes, by whatever tells them apart."""


class Rates:
    """Rates at a drain, over the time since the previous one; worked out when they are asked for.

    Who was not there before counts in whole, and so does who has less than before: it was made anew. At the first drain
    all rates are 0.
    """

    def __init__(self, now: Reading, before: Reading | None) -> None:
        """Compare two readings."""
        self.now = now
        self._before = before
        self._seconds = max((now.monotonic - before.monotonic) / 1e9, SHORTEST) if before else np.inf
        self._tables = {
            family: _TableRates(sent, before.tables.get(family) if before else None, self._seconds)
            for family, sent in now.tables.items()
        }

    def row(self, family: Family, row: int) -> Rate:
        """Return the rate of a source, by its row in what was read."""
        return Rate(*self._tables[family].rates[:, row].tolist())

    def source(self, key: Records) -> Rate:
        """Return the rate of the source under ``key``, LIMIT4_KEY or LIMIT6_KEY, shape (); 0 if it was not read."""
        family: Family = "ipv4" if key.dtype == LIMIT4_KEY else "ipv6"
        if family not in self._tables:
            return Rate()
        rows = np.flatnonzero(self._tables[family].identities == identities(key.reshape(1)))
        return self.row(family, int(rows[0])) if len(rows) else Rate()

    def other(self, name: Hashable) -> Rate:
        """Return the rate of a shared bucket or denied prefix; 0 of one that was not read."""
        sent = self.now.others.get(name)
        if sent is None or self._before is None:
            return Rate()
        known = self._before.others.get(name, Count())
        known = known if known.packets <= sent.packets else Count()
        return Rate((sent.packets - known.packets) / self._seconds, (sent.bytes - known.bytes) / self._seconds)


class _TableRates:
    def __init__(self, sent: Sent, before: Sent | None, seconds: float) -> None:
        self._sent = sent
        self._before = before
        self._seconds = seconds

    @cached_property
    def identities(self) -> npt.NDArray[np.uint64]:
        return identities(self._sent.keys)

    @cached_property
    def rates(self) -> npt.NDArray[np.float64]:
        """Return packets and bytes a second, shape (2, N)."""
        known = np.zeros_like(self._sent.counts)
        if self._before is not None and len(self._before.keys):
            there = identities(self._before.keys)
            order = np.argsort(there)
            where = np.searchsorted(there, self.identities, sorter=order)
            rows = order[np.minimum(where, len(order) - 1)]
            same = (there[rows] == self.identities) & (self._before.counts[0, rows] <= self._sent.counts[0])
            known[:, same] = self._before.counts[:, rows[same]]
        return (self._sent.counts - known) / self._seconds
