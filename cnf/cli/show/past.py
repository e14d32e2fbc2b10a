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
_WAYS: Final = (("received", "ingress"), ("sent", "egress"))
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
    there = datetime.fromisoformat(moment).astimezone()
    return f"{there:%Y-%m-%d %H:%M:%S} {there.tzname() or f'{there:%z}'}"


def heading(history: History) -> str:
    """Return which minutes are shown."""
    begin, end = local(history["begin"]), local(history["end"])
    count = len(history["blocks"])
    shortened = end.partition(" ")[2] if begin.partition(" ")[0] == end.partition(" ")[0] else end
    without_zone = begin.rpartition(" ")[0] if begin.rpartition(" ")[2] == end.rpartition(" ")[2] else begin
    together = f": {number_of(count, 'block')}, {duration(history['seconds'])} together" if count > 1 else ""
    return f"{without_zone} to {shortened}{together}"


def notes(history: History, *, rest: bool = True, filtered: bool = False) -> Iterator[str]:
    """Yield what stands below a table: all that was counted, what is in none of its rows, and what is missing.

    Without ``rest``, a row of the table has what is in no other.
    """
    seen = [f"{word} {_amount(history['seen'][way])}" for word, way in _WAYS if history["seen"][way]["packets"]]
    yield f"in all: {', '.join(seen) or 'nothing'}"
    yield from missing(history, rest=rest, filtered=filtered)


def missing(history: History, *, rest: bool = True, filtered: bool = False) -> Iterator[str]:
    """Yield what is in none of the flows, and what is not there at all."""
    smaller, no_flow = _rest(history)
    if filtered and (smaller["packets"] or no_flow["packets"]):
        both = Amount(packets=smaller["packets"] + no_flow["packets"], bytes=smaller["bytes"] + no_flow["bytes"])
        yield f"the filter saw the largest flows only, and not {_amount(both)} of others, or of none"
    elif rest:
        if smaller["packets"]:
            yield f"in smaller or evicted flows: {_amount(smaller)}"
        if no_flow["packets"]:
            yield f"in no flow, because not IP or malformed: {_amount(no_flow)}"
    if not history["complete"]:
        yield "so many flows came that small ones were left out before all were summed"
    if history["damaged"]:
        yield f"{number_of(history['damaged'], 'block')} of that time cannot be read: damaged, or another version's"
    for before, after in _gaps(history["blocks"]):
        yield f"nothing from {local(before)} to {local(after)}: cnfd did not run, or kept no history"


def _rest(history: History) -> tuple[Amount, Amount]:
    """Return what is in smaller flows, and what is in none."""
    rest, no_flow = (
        [sum(max(amounts[way][unit], 0) for _, way in _WAYS) for unit in ("packets", "bytes")]
        for amounts in (history["rest"], history["no_flow"])
    )
    smaller = [max(number - other, 0) for number, other in zip(rest, no_flow, strict=True)]
    others = [number - other for number, other in zip(rest, smaller, strict=True)]
    return Amount(packets=smaller[0], bytes=smaller[1]), Amount(packets=others[0], bytes=others[1])


def _gaps(blocks: Sequence[Block]) -> Iterator[tuple[Timestamp, Timestamp]]:
    for earlier, later in pairwise(blocks):
        lapse = datetime.fromisoformat(later["begin"]) - datetime.fromisoformat(earlier["end"])
        if lapse.total_seconds() > _GAP:
            yield earlier["end"], later["begin"]


def _amount(amount: Amount) -> str:
    return f"{size(amount['bytes'])} in {packets(amount['packets'])}"
