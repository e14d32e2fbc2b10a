"""Which flows: those that match a filter, the largest first, of both families."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.arrays import Mask
from cnf.counts import Count
from cnf.errors import UsageError
from cnf.flows.columns import largest
from cnf.flows.fields import FIELDS, Shown, describe
from cnf.flows.filter.grammar import compile_filter
from cnf.flows.snapshot import Snapshot

SORT_COLUMNS: Final = {name: field.sorts_by for name, field in FIELDS.items() if field.sorts_by} | {
    "bps": "byte_rate",
    "pps": "packet_rate",
}
"""The column by each name that flows can be sorted by."""
CHUNK: Final = 1000
"""Flows described at a time, so that a large answer needs little memory."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of a snapshot's columns, in the order to show them, and what they were chosen from."""

    snapshot: Snapshot
    part: npt.NDArray[np.uint8]
    """Shape (N,): which of the snapshot's parts each flow is of."""
    row: npt.NDArray[np.uint32]
    """Shape (N,): its row there."""
    matched: int
    totals: Count
    """Packets and bytes of all that matched."""

    def flows(self) -> Iterator[dict[str, Any]]:
        """Yield the flows as JSON objects."""
        parts, clock, names = self.snapshot.parts(), self.snapshot.clock, self.snapshot.names
        for start in range(0, len(self.row), CHUNK):
            which, rows = (column[start : start + CHUNK] for column in (self.part, self.row))
            described = {
                number: describe(Shown(parts[number], rows[which == number], clock, names))
                for number in np.unique(which).tolist()
            }
            for number in which.tolist():
                yield next(described[number])

    def sum(self, column: str) -> int:
        """Add up a column of the selected flows."""
        parts = enumerate(self.snapshot.parts())
        return sum(int(getattr(part.flows, column)[self.row[self.part == number]].sum()) for number, part in parts)


def select(snapshot: Snapshot, expression: str, sort: str, count: int | None) -> Selection:
    """Return the ``count`` largest flows by ``sort`` (all if None) that match the filter ``expression``.

    Raises:
        UsageError: the expression, or the name of the field.

    """
    if sort not in SORT_COLUMNS:
        raise UsageError(f"flows cannot be sorted by {sort!r}: expected one of {', '.join(SORT_COLUMNS)}")
    matches, column, names = compile_filter(expression), SORT_COLUMNS[sort], snapshot.all_names()
    parts, rows, keys = [], [], []
    matched, totals = 0, Count()
    for number, part in enumerate(snapshot.parts()):
        flows = part.flows
        mask = matches.mask(flows, names) if expression.strip() else None
        matched += len(flows) if mask is None else int(np.count_nonzero(mask))
        totals = totals.plus(Count(*(_sum(column, mask) for column in (flows.packets, flows.bytes))))
        chosen = largest(getattr(flows, column), count, mask).astype(np.uint32)
        parts.append(np.full(len(chosen), number, np.uint8))
        rows.append(chosen)
        keys.append(getattr(flows, column)[chosen])
    order = np.argsort(np.concatenate(keys), kind="stable")[::-1][:count]
    return Selection(snapshot, np.concatenate(parts)[order], np.concatenate(rows)[order], matched, totals)


def _sum(column: npt.NDArray[np.uint64], mask: Mask | None) -> int:
    return int(column.sum(dtype=np.uint64) if mask is None else column[mask].sum(dtype=np.uint64))
