"""Flow records as JSON lines: one object a record, its number first, with the fields of a flow of /v1/flows. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from cnf.abi import Family
from cnf.arrays import Records, Rows
from cnf.filter.grammar import compile_filter
from cnf.filter.predicates import Names
from cnf.flows.columns import KeyColumns
from cnf.flows.fields import FIELDS, FIELDS_OF_KEY, Field, RecordPart, Shown
from cnf.flows.records import REASONS
from cnf.flows.stream import RecordBatch

CHUNK: Final = 250
"""Records made into lines at a time: less than 128 kB."""
_COUNTED: Final = ("packets", "bytes", "ip_bytes", "dropped_packets", "dropped_bytes", "tcp_flags")


class _Part(RecordPart):
    """Flow records of one family; their IP bytes are worked out."""

    def column(self, name: str, rows: Rows | slice) -> Any:  # noqa: ANN401 - an array of the dtype that the column has
        if name == "ip_bytes":
            octets, packets, link_bytes = (self.column(each, rows) for each in ("bytes", "packets", "link_bytes"))
            return octets - packets * link_bytes
        return super().column(name, rows)


RECORD_FIELDS: Final[Mapping[str, Field]] = {
    "start": Field(lambda records: records.times("start")),
    "end": Field(lambda records: records.times("end")),
    "reason": Field(lambda records: [REASONS[number] for number in records.numbers("reason")]),
    **{name: FIELDS[name] for name in FIELDS_OF_KEY},
    **{name: FIELDS.get(name, Field(lambda records: records.numbers("ip_bytes"))) for name in _COUNTED},
}
"""The fields of a record but for its number, in their order."""


_LINE: Final = "{" + ", ".join(f'"{name}": %s' for name in ("seq", *RECORD_FIELDS)) + "}\n"


class Lines:
    """Lines of the records that match a filter; for one thread."""

    def __init__(self, expression: str) -> None:
        """Compile ``expression``; a blank one matches every record.

        Raises:
            UsageError: the expression.

        """
        self.filtered = bool(expression.strip())
        """Whether there may be records that do not match."""
        self._filter = compile_filter(expression)
        self._names_of: RecordBatch | None = None
        self._names = Names({})

    def of(self, batch: RecordBatch, start: int, stop: int) -> bytes:
        """Return the lines of those of the records numbered from ``start`` to before ``stop`` that match.

        ``batch`` has them all.
        """
        return "".join(self._texts(batch, start, stop)).encode()

    def count(self, batch: RecordBatch, start: int) -> int:
        """Return how many of the records match that are numbered from ``start`` on."""
        return sum(len(rows) for *_, rows in self._parts(batch, start, batch.end))

    def _texts(self, batch: RecordBatch, start: int, stop: int) -> Iterator[str]:
        for first, part, rows in self._parts(batch, start, stop):
            shown = Shown(part, rows, batch.clock, batch.names)
            columns = [(rows + first).tolist(), *(field.values(shown) for field in RECORD_FIELDS.values())]
            yield from map(_LINE.__mod__, zip(*map(_json, columns), strict=True))

    def _parts(self, batch: RecordBatch, start: int, stop: int) -> Iterator[tuple[int, _Part, Rows]]:
        """Yield the records of each family: the number of the first, all of them, and the rows of those that match."""
        first = batch.first
        for family, records in batch.records.items():
            part = records[max(start - first, 0) : max(stop - first, 0)]
            rows = self._matching(batch, family, part)
            if len(rows):
                yield max(start, first), _Part(family, part), rows
            first += len(records)

    def _matching(self, batch: RecordBatch, family: Family, records: Records) -> Rows:
        if not self.filtered or not len(records):
            return np.arange(len(records))
        if self._names_of is not batch:
            names = {index: (name, *batch.altnames.get(index, ())) for index, name in batch.names.items()}
            self._names_of, self._names = batch, Names(names)
        return np.flatnonzero(self._filter.mask(KeyColumns(family, records), self._names))


def _json(values: Iterable[Any]) -> list[str]:
    """Return each value as JSON: all at once, and apart at line feeds, which no JSON text holds unescaped."""
    return json.dumps([*values], separators=("\n", ":"))[1:-1].split("\n")
