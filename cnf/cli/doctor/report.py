"""The findings of an examination, and the page that shows them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cnf.cli.show.table import GAP, Style
from cnf.units import number_of, printable, wrap

EXIT_ORDER: Final = (os.EX_NOPERM, os.EX_UNAVAILABLE, os.EX_CONFIG, os.EX_OSERR)
"""Which cause gives the exit status when there are several."""

State = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``exit_status`` is what cnfd ends with because of it; 0 if it starts all the same."""

    name: str
    state: State
    seen: str
    remedy: str | None = None
    exit_status: int = 0


def exit_status_of(found: Iterable[Finding]) -> int:
    """Return 0 if cnfd would start, else the status of the cause that comes first in EXIT_ORDER."""
    causes = {finding.exit_status for finding in found}
    return next((status for status in EXIT_ORDER if status in causes), 0)


def page(found: Sequence[Finding], width: int | None, style: Style) -> Iterator[str]:
    """Yield a line for each finding, its remedy below it, and the verdict; folded at ``width`` unless that is None."""
    names = max(len(printable(finding.name)) for finding in found)
    for finding in found:
        state = f"{finding.state:7}"
        lines = _fold(f"{state}{GAP}{printable(finding.name):{names}}{GAP}", finding.seen, width)
        paint = style.dim if finding.state == "ok" else style.warn
        yield paint(state) + lines[0].removeprefix(state)
        yield from lines[1:]
        if finding.remedy:
            yield from _fold(f"{'':{len(state)}}{GAP}-> ", finding.remedy, width)
    yield style.bold(_verdict(found))


def _fold(head: str, text: str, width: int | None) -> list[str]:
    """Return ``text`` behind ``head``, on as many lines as it takes; a word is never cut, it may have to be copied."""
    text = printable(text)
    if width is None:
        return [head + text]
    return wrap(text, max(width, len(head) + 1), head, " " * len(head))


def _verdict(found: Iterable[Finding]) -> str:
    causes = [finding for finding in found if finding.exit_status]
    problems = sum(finding.state == "problem" for finding in causes)
    if problems:
        return f"cnfd would not start: {number_of(problems, 'problem')}"
    if causes:
        return f"could not tell whether cnfd would start: {', '.join(finding.name for finding in causes)}"
    return "cnfd would start"
