"""Read the history of a time that somebody asks for, beside the thread that writes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cnf.errors import UnavailableError
from cnf.history.block import Block, DamagedError, Header, unpack
from cnf.history.files import Place, content_of, paths, places
from cnf.history.joined import Joined

_SOON: Final = 120 * 10**9
"""ns after the beginning of a minute in which it may well be written yet."""


@dataclass(frozen=True, slots=True)
class Found:
    """The blocks of a time, as one."""

    joined: Joined
    damaged: int
    """Blocks of that time that cannot be read."""


def read(folder: str, begin: int, end: int, now: int, draining: threading.Lock) -> Found:
    """Return the blocks of the time from ``begin`` to ``end``, in ns since the epoch; none is read during a drain.

    ``now`` is for the words of an error.

    Raises:
        UnavailableError: there is none; it says what there is.

    """
    try:
        there = [place for path in paths(Path(folder)) for place in places(path)]
        asked = sorted(
            (place for place in there if _is_of(place.header, begin, end)), key=lambda place: place.header.number
        )
        joined = Joined(_blocks(asked, draining))
    except OSError as error:
        raise UnavailableError(f"history: {error.filename or folder}: {error.strerror}") from error
    if not joined.spans:
        raise UnavailableError(_why_none([place.header for place in there], (begin, end, now), len(asked)))
    return Found(joined, len(asked) - len(joined.spans))


def text_of(moment: int) -> str:
    """Return a time in ns since the epoch as RFC 3339 has it, in UTC and whole seconds."""
    return datetime.fromtimestamp(moment // 10**9, UTC).isoformat().replace("+00:00", "Z")


def _is_of(header: Header, begin: int, end: int) -> bool:
    """Tell whether a block lies in a time for the most part, or holds the most part of it."""
    common = min(header.end, end) - max(header.begin, begin)
    return common > 0 and 2 * common >= min(header.end - header.begin, end - begin)


def _blocks(asked: Sequence[Place], draining: threading.Lock) -> Iterator[Block]:
    for place in asked:
        with draining:
            pass
        try:
            yield unpack(place.header, content_of(place))
        except DamagedError:
            continue


def _why_none(there: Sequence[Header], times: tuple[int, int, int], damaged: int) -> str:
    begin, end, now = times
    what = f"no history of {text_of(begin)} to {text_of(end)}"
    if damaged:
        return f"{what}: what is kept of it is damaged, or of another version of cnfd"
    if begin >= now:
        return f"{what}: that is still to come"
    latest = max((header.end for header in there), default=begin)
    if now - begin < _SOON and latest <= end:
        return f"{what} yet: the first drain after a minute writes it"
    if not there:
        return f"{what}, or of any other time: cnfd has just started, or history.keep is 0s, or nothing can be written"
    before = max((header.end for header in there if header.end <= end), default=None)
    after = min((header.begin for header in there if header.begin >= begin), default=None)
    if before is None or after is None:
        oldest = min(header.begin for header in there)
        return f"{what}: it goes from {text_of(oldest)} to {text_of(latest)}"
    return f"{what}: cnfd did not run, or kept none, from {text_of(before)} to {text_of(after)}"
