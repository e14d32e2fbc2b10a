"""Readers of single arguments of the command line. A refusal says what was expected."""

from __future__ import annotations

import argparse
import math
import re
from datetime import UTC, datetime, time, timedelta
from typing import Final, get_type_hints

from cnf.cli.api.replies import Pair, Timestamp
from cnf.errors import nearest

SORT_FIELDS: Final = (
    *(name for name, kind in get_type_hints(Pair).items() if kind in (int, float, Timestamp)),
    "flows",
    "bps",
    "rate",
    "pps",
)
"""The fields that flows, connections or groups can be sorted by: every number and time, and short names of rates."""
SHORTEST_WATCH: Final = 0.1
"""Seconds: faster updates show nothing new, and only load the daemon."""
LONGEST_WATCH: Final = 24 * 3600

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def positive(text: str) -> int:
    """Read a whole number, at least 1."""
    return _number(text, 1)


def whole(text: str) -> int:
    """Read a whole number, at least 0."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number >= least:
        return number
    message = f"a number from {least} on is expected, not {text!r}"
    raise argparse.ArgumentTypeError(message)


def interval(text: str) -> float:
    """Read the seconds between two updates."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if SHORTEST_WATCH <= seconds <= LONGEST_WATCH:
        return seconds
    message = f"seconds are expected, {SHORTEST_WATCH} to {LONGEST_WATCH}, not {text!r}"
    raise argparse.ArgumentTypeError(message)


def duration(text: str) -> float:
    """Read a duration as in the configuration, a number with its unit; return seconds."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", text)
    if found:
        return float(found[1]) * _SECONDS[found[2]]
    message = f"a number and its unit (ms, s, m or h) are expected, such as 60s, not {text!r}"
    raise argparse.ArgumentTypeError(message)


def lasting(text: str) -> str:
    """Read a duration; return the time when it is over, as RFC 3339 has it, in UTC."""
    seconds = duration(text)
    try:
        return _utc(datetime.now(UTC) + timedelta(seconds=seconds))
    except (ValueError, OverflowError):
        message = f"{text} from now is later than a time can be; without an end it stays until it is removed"
        raise argparse.ArgumentTypeError(message) from None


def until(text: str) -> str:
    """Read a time of day here, which comes within a day, or a date and time; return it as RFC 3339 has it, in UTC."""
    try:
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
            return _utc(_next(time.fromisoformat(text if text[2] == ":" else f"0{text}"), datetime.now(UTC)))
        return _utc(datetime.fromisoformat(text).astimezone())
    except (ValueError, OverflowError):
        message = f"a time such as 12:00 or 2026-03-01T12:00:00Z is expected, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _next(clock: time, now: datetime) -> datetime:
    """Return when clocks here show a time next: also where they are changed before, or show it twice that day."""
    today = now.astimezone().date()
    moments = (
        datetime.combine(today + timedelta(days=days), clock.replace(fold=fold)).astimezone(UTC)
        for days in (0, 1)
        for fold in (0, 1)
    )
    return next(moment for moment in moments if moment > now)


def _utc(moment: datetime) -> str:
    """Return a time in whole seconds, not before it comes."""
    return f"{datetime.fromtimestamp(math.ceil(moment.timestamp()), UTC):%Y-%m-%dT%H:%M:%SZ}"


def sort_field(text: str) -> str:
    """Read the name of a field that flows can be sorted by."""
    if text in SORT_FIELDS:
        return text
    near = nearest(text, SORT_FIELDS)
    meant = f", did you mean {near}?" if near else ";"
    message = f"unknown field {text!r}{meant} Fields: {', '.join(SORT_FIELDS)}"
    raise argparse.ArgumentTypeError(message)
