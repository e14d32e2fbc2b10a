"""The limiter at a glance: its mode, a change that waits to be confirmed, and how full its tables are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from cnf.cli.api.limit_replies import Limits
from cnf.cli.api.replies import Limiter, Pending, SourceTable
from cnf.cli.limits.units import countdown
from cnf.cli.show.table import Column, Style, render
from cnf.cli.show.warnings import fill_bar, troubles, warning
from cnf.units import count, moment, number_of, printable

CONFIRM: Final = "cnfctl limits confirm"
OFF: Final = (
    "the limiter is off: only rules with a mode of their own are applied, and nothing is denied"
    " (cnfctl limits mode shadow)"
)


def glance(limiter: Limiter, width: int | None, style: Style) -> Iterator[str]:
    """Yield what the status page says of the limiter."""
    rules = number_of(limiter["rules"], "rule")
    yield printable(f"limiter in mode {limiter['mode']}, {rules}, generation {limiter['generation']}")
    yield from state_warnings(limiter, width, style)
    yield from source_tables(limiter["sources"], width, style)


def state_warnings(limiter: Limiter | Limits, width: int | None, style: Style) -> Iterator[str]:
    """Yield that the limiter is off, what waits to be confirmed, and who is protected until then."""
    if limiter["mode"] == "off":
        yield from warning(OFF, width, style)
    for change in limiter["pending"]:
        yield from warning(pending_words(change), width, style)
    for each in limiter["set_errors"]:
        was = f"what was read before stays, since {moment(datetime.fromisoformat(each['since']))}"
        yield from warning(f"set {each['name']}: {each['file']}: {each['error']} ({was})", width, style)
    if limiter["protected"]:
        yield from warning(protection(limiter["protected"]), width, style)


def pending_words(change: Pending) -> str:
    """Return how long a change waits, and how it is confirmed."""
    left = countdown(change["seconds_left"])
    return f"undone in {left} unless confirmed: {change['change']}, by {change['who']} ({CONFIRM} {change['number']})"


def protection(prefixes: Iterable[str]) -> str:
    """Return what is so of protected ``prefixes``."""
    return f"protected, whatever the rules say, until confirmed or logged out: {', '.join(prefixes)} ({CONFIRM})"


def source_tables(tables: dict[str, SourceTable], width: int | None, style: Style) -> Iterator[str]:
    """Yield the tables of sources, by family, and what to do about a full one."""
    if not tables:
        return
    columns: tuple[Column[tuple[str, SourceTable]], ...] = (
        Column("SOURCES", lambda row: row[0]),
        Column("ENTRIES", lambda row: f"{row[1]['entries']:,}", right=True),
        Column("CAPACITY", lambda row: f"{row[1]['capacity']:,}", right=True),
        Column("FILL", lambda row: fill_bar(row[1])),
        Column("EVICTED", lambda row: count(row[1]["evicted"]), right=True),
        Column("ERRORS", lambda row: count(row[1]["insert_errors"]), right=True),
    )
    yield from render(columns, list(tables.items()), width, style)
    for family, table in tables.items():
        for trouble in troubles(family, table, "source", "limits.max_sources"):
            yield from warning(trouble, width, style)
