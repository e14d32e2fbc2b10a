"""Tables: columns that fit the width of a terminal, or all columns as plain text without one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TextIO, TypeVar

from cnf.units import cut_middle, printable

Row = TypeVar("Row")

GAP: Final = "  "
SPARE: Final = 10


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column: its title, and the text of a row's cell.

    Columns get room by ``priority``, lowest first. For columns below SPARE, ``cuttable`` ones are cut to ``least``
    characters, and further before they are left out. Columns from SPARE on are shown whole or not at all. ``reserve``
    is a width kept for longer cells, so that a table that is drawn again does not move.
    """

    title: str
    cell: Callable[[Row], str]
    right: bool = False
    priority: int = 0
    cuttable: bool = False
    least: int = 0
    reserve: int = 0


@dataclass(frozen=True, slots=True)
class Style:
    """The few attributes of text in use (ECMA-48 SGR), or none."""

    coloured: bool

    def bold(self, text: str) -> str:
        """Return ``text`` in bold: titles."""
        return self._rendition(1, text)

    def dim(self, text: str) -> str:
        """Return ``text`` faint: for details."""
        return self._rendition(2, text)

    def warn(self, text: str) -> str:
        """Return ``text`` in yellow: for warnings."""
        return self._rendition(33, text)

    def _rendition(self, number: int, text: str) -> str:
        return f"\x1b[{number}m{text}\x1b[m" if self.coloured and text else text


def is_screen(stream: TextIO) -> bool:
    """Tell whether ``stream`` is a terminal that understands control sequences."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def style_for(stream: TextIO) -> Style:
    """Return the style for ``stream``: colour on a terminal only, and not where NO_COLOR is set (no-color.org)."""
    return Style(is_screen(stream) and not os.environ.get("NO_COLOR"))


def print_lines(lines: Iterable[str]) -> None:
    """Write ``lines`` to stdout; characters that its encoding lacks become question marks."""
    encoding = sys.stdout.encoding
    sys.stdout.write("".join(f"{line}\n" for line in lines).encode(encoding, "replace").decode(encoding))


def render(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int | None, style: Style) -> list[str]:
    """Return the title line and a line for each row, at most ``width`` wide; None is no bound."""
    cells = [[printable(column.cell(row)) for row in rows] for column in columns]
    widths = _fit(columns, cells, width)
    shown = sorted(widths)
    lines = [
        GAP.join(_pad(columns[i], text[i], widths[i]) for i in shown).rstrip()
        for text in ([column.title for column in columns], *zip(*cells, strict=True))
    ]
    return [style.bold(lines[0]), *lines[1:]]


def _pad(column: Column[Row], text: str, width: int) -> str:
    text = cut_middle(text, width)
    return text.rjust(width) if column.right else text.ljust(width)


def _fit(columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]], width: int | None) -> dict[int, int]:
    """Return the widths of the columns that have room, by their index."""
    whole = [max(map(len, (column.title, *texts))) for column, texts in zip(columns, cells, strict=True)]
    wanted = [max(column.reserve, length) for column, length in zip(columns, whole, strict=True)]
    if width is None:
        return dict(enumerate(wanted))
    room = width + len(GAP)
    widths: dict[int, int] = {}

    def take(index: int, least: int) -> None:
        nonlocal room
        if least + len(GAP) <= room:
            widths[index] = least
            room -= least + len(GAP)

    by_priority = sorted(range(len(columns)), key=lambda i: columns[i].priority)
    for i in by_priority:
        if columns[i].cuttable:
            take(i, min(whole[i], max(min(columns[i].least, room - len(GAP)), len(columns[i].title))))
        elif columns[i].priority < SPARE:
            take(i, whole[i])
    while room and (short := [i for i in widths if widths[i] < wanted[i]]):
        widths[min(short, key=lambda i: (columns[i].priority, widths[i]))] += 1
        room -= 1
    for i in by_priority:
        if columns[i].priority >= SPARE:
            take(i, wanted[i])
    return widths
