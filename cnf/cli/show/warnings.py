"""Warnings, and how full a table of the kernel is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cnf.cli.api.replies import FlowTable, SourceTable
from cnf.cli.show.table import Style
from cnf.units import number_of, printable, wrap

NEARLY_FULL: Final = 0.9
"""Fill from which on there is a warning: the kernel evicts in batches, before the last entry is in use."""

FEW: Final = 1000
"""One eviction in so many flows is no warning: by chance, a set of a large cache is full early."""

_BAR: Final = 10


def warning(text: str, width: int | None, style: Style) -> Iterator[str]:
    """Yield ``text`` as a warning, folded at ``width`` unless that is None."""
    yield from map(style.warn, fold(f"! {printable(text)}", width))


def fold(text: str, width: int | None) -> list[str]:
    """Return ``text``, which is printable, in lines of ``width``, all but the first indented; None is one line."""
    return [text] if width is None else wrap(text, width, others="  ", whole_words=False)


def troubles(family: str, table: FlowTable | SourceTable, noun: str, option: str, created: int = 0) -> Iterator[str]:
    """Yield what a table of ``noun`` (flow, source) has lost or will lose, and what ``option`` should be."""
    advice = f"set {option} = {_ample(max(table['made_for'], table['entries']))}"
    if table["evicted"] * FEW > created:
        were = "was" if table["evicted"] == 1 else "were"
        yield f"{family}: {number_of(table['evicted'], noun)} {were} evicted ({advice})"
    elif table["entries"] >= NEARLY_FULL * table["made_for"]:
        there = f"{number_of(table['entries'], noun)} in a table for {table['made_for']:,}"
        yield f"{family}: {there}, some will be evicted ({advice})"
    if table["insert_errors"]:
        yield f"{family}: {number_of(table['insert_errors'], 'insert')} failed"


def fill_bar(table: FlowTable | SourceTable) -> str:
    """Return a table's fill as a bar of ten marks and in percent."""
    fill = table["entries"] / max(table["capacity"], 1)
    marks = min(int(fill * _BAR), _BAR)
    return f"[{'#' * marks:-<{_BAR}}] {fill:6.1%}".replace("%", " %")


def _ample(capacity: int) -> int:
    """Return the power of two that is at least twice ``capacity``."""
    return 1 << (2 * capacity - 1).bit_length()
