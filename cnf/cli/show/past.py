"""What there was: which minutes, their sums, and what is missing of them, in local time with its zone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from typing import Final

from cnf.cli.api.replies import Amount, Block, History, Timestamp
from cnf.errors import UnavailableError
from cnf.units import duration, number_of, packets, size

_WRITTEN: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_GAP: Final = 2.0
"""Seconds between two blocks that are worth a word."""


@contextmanager
def in_local_time() -> Iterator[None]:
    """Have times in an answer of cnfd that it has no history be local ones."""
    try:
        yield
    except UnavailableError as error:
        raise UnavailableError(_WRITTEN.sub(lambda found: local(Timestamp(found[0])), str(error))) from error


def local(moment: Timestamp) -> str:
    """Return a time in local time and its zone, as in 2026-03-01 04:12:03 CET."""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def heading(history: History) -> str:
    """Return which minutes are shown."""
    begin, end = local(history["begin"]), local(history["end"])
    count = len(history["blocks"])
    shortened = end.partition(" ")[2] if begin.partition(" ")[0] == end.partition(" ")[0] else end
    without_zone = begin.rpartition(" ")[0] if begin.rpartition(" ")[2] == end.rpartition(" ")[2] else begin
    together = f": {number_of(count, 'block')}, {duration(history['seconds'])} together" if count > 1 else ""
    return f"{without_zone} to {shortened}{together}"


def notes(history: History) -> Iterator[str]:
    """Yield what stands below a table: all that was counted, the rest, and what is missing."""
    ways = [("received", "ingress"), ("sent", "egress")]
    seen = [f"{word} {_amount(history['seen'][way])}" for word, way in ways if history["seen"][way]["packets"]]
    yield f"in all: {', '.join(seen) or 'nothing'}"
    rest = Amount(
        packets=sum(max(history["rest"][way]["packets"], 0) for _, way in ways),
        bytes=sum(max(history["rest"][way]["bytes"], 0) for _, way in ways),
    )
    if rest["packets"]:
        yield f"in smaller flows, or in none: {_amount(rest)}"
    if not history["complete"]:
        yield "so many flows came that small ones were left out before all were summed"
    if history["damaged"]:
        yield f"{number_of(history['damaged'], 'block')} of that time cannot be read: the file is damaged"
    for before, after in _gaps(history["blocks"]):
        yield f"nothing from {local(before)} to {local(after)}: cnfd did not run, or kept no history"


def _gaps(blocks: Sequence[Block]) -> Iterator[tuple[Timestamp, Timestamp]]:
    for earlier, later in pairwise(blocks):
        lapse = datetime.fromisoformat(later["begin"]) - datetime.fromisoformat(earlier["end"])
        if lapse.total_seconds() > _GAP:
            yield earlier["end"], later["begin"]


def _amount(amount: Amount) -> str:
    return f"{size(amount['bytes'])} in {packets(amount['packets'])}"
