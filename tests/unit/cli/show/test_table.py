"""How a table finds room for its columns."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.cli.show.table import SPARE, Column, Style, print_lines, render, style_for

PLAIN = Style(coloured=False)
Pair = tuple[str, str]


def pair_columns(*, priority: int = 1) -> tuple[Column[Pair], ...]:
    """Return a column that can be cut to six characters and one, right-aligned, that cannot."""
    return (
        Column("NAME", lambda row: row[0], cuttable=True, least=6),
        Column("N", lambda row: row[1], right=True, priority=priority, reserve=3),
    )


def test_cells_are_aligned() -> None:
    """Text stands left, numbers right, and no line ends in blanks."""
    lines = render(pair_columns(), [("abc", "1"), ("defghi", "22")], None, PLAIN)
    assert lines == ["NAME      N", "abc       1", "defghi   22"]


def test_cut_before_left_out() -> None:
    """Below SPARE a column comes in though another is cut for it; from SPARE on it waits for room."""
    row = ("abcdefghij", "123")
    assert render(pair_columns(), [row], 12, PLAIN)[1] == "abc…hij  123"
    assert render(pair_columns(priority=SPARE), [row], 12, PLAIN)[1] == "abcdefghij"
    assert render(pair_columns(priority=SPARE), [row], 15, PLAIN)[1] == "abcdefghij  123"


def test_reserve_yields() -> None:
    """A reserved width is given up before a cell is cut, and kept where there is room."""
    assert render(pair_columns(), [("abcdef", "1")], 9, PLAIN)[1] == "abcdef  1"
    assert render(pair_columns(), [("abcdef", "1")], 80, PLAIN)[1] == "abcdef    1"


@given(st.lists(st.tuples(st.text(), st.text(max_size=8)), max_size=5), st.integers(4, 40), st.integers(0, 20))
def test_never_wider(rows: list[Pair], width: int, priority: int) -> None:
    """Whatever the cells and the width, no line is wider than the terminal and none can control it."""
    lines = render(pair_columns(priority=priority), rows, width, PLAIN)
    assert len(lines) == len(rows) + 1
    assert all(len(line) <= width and line.isprintable() for line in lines)


def test_style() -> None:
    """A style marks text up only where it is coloured."""
    assert Style(coloured=True).bold("x") == "\x1b[1mx\x1b[m"
    assert PLAIN.warn("x") == "x"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is colour on a terminal, but not on a dumb one, not where NO_COLOR is set, and not in a pipe."""
    assert style_for(_Terminal()).coloured
    assert not style_for(io.StringIO()).coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert not style_for(_Terminal()).coloured
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not style_for(_Terminal()).coloured


def test_poor_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that stdout's encoding lacks becomes a question mark, not an error."""
    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, encoding="ascii", write_through=True))
    print_lines(["a…b"])
    assert output.getvalue() == b"a?b\n"
