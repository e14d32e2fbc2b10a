"""Which flows: those that match a filter, the largest first, of both families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.counts import Count, count_of
from cnf.errors import UsageError
from cnf.filter.grammar import compile_filter
from cnf.filter.predicates import Names
from cnf.flows.fields import FIELDS, PAIR_FIELDS, Columns, Field, Shown, describe
from cnf.flows.largest import largest
from cnf.flows.pairs import Pairs
from cnf.flows.snapshot import Snapshot


def _sort_columns(fields: Mapping[str, Field]) -> dict[str, str]:
    columns = {name: field.sorts_by for name, field in fields.items() if field.sorts_by}
    return columns | {"bps": "byte_rate", "rate": "byte_rate", "pps": "packet_rate"}


SORT_COLUMNS: Final = _sort_columns(FIELDS)
"""The column by each name that flows can be sorted by."""
PAIR_SORT_COLUMNS: Final = _sort_columns(PAIR_FIELDS)
"""The same of connections."""
CHUNK: Final = 1000
"""Flows described at a time, so that a large answer needs little memory."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Flows of a snapshot, or connections, in the order to show them, and what they were chosen from."""

    snapshot: Snapshot
    parts: tuple[Columns, ...]
    fields: Mapping[str, Field]
    part: npt.NDArray[np.uint8]
    """Shape (N,): which of the parts each is of."""
    row: npt.NDArray[np.uint32]
    """Shape (N,): its row there."""
    matched: int
    totals: Count
    """Packets and bytes of all that matched."""

    def flows(self) -> Iterator[dict[str, Any]]:
        """Yield the flows as JSON objects."""
        parts, clock, names = self.parts, self.snapshot.clock, self.snapshot.names
        for start in range(0, len(self.row), CHUNK):
            which, rows = (column[start : start + CHUNK] for column in (self.part, self.row))
            described = {
                number: describe(Shown(parts[number], rows[which == number], clock, names), self.fields)
                for number in np.unique(which).tolist()
            }
            for number in which.tolist():
                yield next(described[number])

    def sum(self, column: str) -> int:
        """Add up a column of the selected flows."""
        parts = enumerate(self.parts)
        return sum(int(part.column(column, self.row[self.part == number]).sum()) for number, part in parts)


def select(snapshot: Snapshot, expression: str, sort: str, count: int | None, *, pairs: bool = False) -> Selection:
    """Return the ``count`` largest flows by ``sort`` (all if None) that match the filter ``expression``.

    With ``pairs``, return connections. One matches if either of its flows does.

    Raises:
        UsageError: the expression, or the name of the field.

    """
    what, columns, fields = (
        ("connections", PAIR_SORT_COLUMNS, PAIR_FIELDS) if pairs else ("flows", SORT_COLUMNS, FIELDS)
    )
    if sort not in columns:
        raise UsageError(f"{what} cannot be sorted by {sort!r}: expected one of {', '.join(columns)}")
    matches, names = compile_filter(expression), Names(snapshot.all_names())
    parts: list[Columns] = []
    numbers, rows, keys = [], [], []
    matched, totals = 0, Count()
    for number, part in enumerate(snapshot.parts()):
        mask = part.matching(matches, names) if expression.strip() else None
        listed: Columns = part
        if pairs:
            listed = connections = Pairs(part)
            mask = None if mask is None else connections.matching(mask)
        matching = None if mask is None or mask.all() else np.flatnonzero(mask)
        values, packets, octets = (
            listed.column(name, slice(None) if matching is None else matching)
            for name in (columns[sort], "packets", "bytes")
        )
        matched += len(values)
        totals = totals.plus(count_of(packets, octets))
        chosen = largest(values, count)
        parts.append(listed)
        numbers.append(np.full(len(chosen), number, np.uint8))
        rows.append((chosen if matching is None else matching[chosen]).astype(np.uint32))
        keys.append(values[chosen])
    order = np.argsort(np.concatenate(keys), kind="stable")[::-1][:count]
    part_of, row = np.concatenate(numbers)[order], np.concatenate(rows)[order]
    return Selection(snapshot, tuple(parts), fields, part_of, row, matched, totals)
