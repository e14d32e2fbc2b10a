"""How one argument of the command line is read, and refused with what was expected there."""

from __future__ import annotations

import argparse
import math
import re
from typing import Final, get_type_hints

from cnf.cli.api.replies import Flow, Timestamp
from cnf.errors import nearest

SORT_FIELDS: Final = (
    *(name for name, kind in get_type_hints(Flow).items() if kind in (int, float, Timestamp)),
    "bps",
    "pps",
)
"""What flows can be sorted by: every field that is a number or a time, and two short names of rates."""
SHORTEST_WATCH: Final = 0.1
"""Seconds: faster redraws show nothing new and only load the daemon."""

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    return _number(text, 1)


def whole(text: str) -> int:
    """Read a whole number from 0 on."""
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
    """Read seconds between two looks."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if SHORTEST_WATCH <= seconds < math.inf:
        return seconds
    message = f"seconds are expected, {SHORTEST_WATCH} or more, not {text!r}"
    raise argparse.ArgumentTypeError(message)


def duration(text: str) -> float:
    """Read a number with its unit, as the configuration has it; return seconds."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)", text)
    if found:
        return float(found[1]) * _SECONDS[found[2]]
    message = f"a number and its unit (ms, s, m or h) are expected, such as 60s, not {text!r}"
    raise argparse.ArgumentTypeError(message)


def sort_field(text: str) -> str:
    """Read a field that flows are sorted by."""
    if text in SORT_FIELDS:
        return text
    near = nearest(text, SORT_FIELDS)
    meant = f", did you mean {near}?" if near else ";"
    message = f"unknown field {text!r}{meant} Fields: {', '.join(SORT_FIELDS)}"
    raise argparse.ArgumentTypeError(message)
