"""Numbers, times and names as a person reads them.

A number has at most three digits and a decimal prefix, or all its digits in groups. No line is broken between a number
and its unit. Absolute times are in UTC, and say so.
"""

from __future__ import annotations

import re
import textwrap
from datetime import UTC, datetime
from typing import Final

_PREFIXES: Final = ("", "k", "M", "G", "T", "P", "E")
_STEP: Final = 1000
_TENTHS_BELOW: Final = 99.95
"""From here on tenths are left out: three digits are enough, and 99.95 would become 100.0."""

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


_INSIDE_AMOUNT: Final = re.compile(r"(?<=\d) (?=[a-zA-Z%])|(?<=\d [kMGTPE]) (?=[a-zA-Z])")
"""A space at which no line may be broken: 10 k packets, 90.1 kB, 3 s."""
_UNBROKEN: Final = "\u00a0"
"""In place of such a space; no ``printable()`` text has it."""


def number_of(number: int, noun: str) -> str:
    """Return a number of things as words: 1 flow, 1,234 flows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def count(value: float) -> str:
    """Return a count in at most five characters: 999, 1.2k, 34.0M, 678G."""
    return "".join(_scaled(value))


def packets(number: float) -> str:
    """Return a number of packets as words: 1 packet, 1.2k packets."""
    return f"{count(number)} packet{'s' if number != 1 else ''}"


def size(octets: float) -> str:
    """Return bytes in decimal units: 999 B, 1.2 kB, 12.3 MB."""
    number, prefix = _scaled(octets)
    return f"{number} {prefix}B"


def bit_rate(bits_per_second: float) -> str:
    """Return a rate in decimal units: 999 bit/s, 1.2 Mbit/s."""
    number, prefix = _scaled(bits_per_second)
    return f"{number} {prefix}bit/s"


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 12 ms, 4.2 s, 3m12s, 2h05m, 3d04h."""
    whole = round(seconds)
    if whole >= _DAY:
        return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"
    if whole >= _HOUR:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    if whole >= _MINUTE:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    milliseconds = max(seconds, 0.0) * 1000
    number, unit = (milliseconds, "ms") if milliseconds < _TENTHS_BELOW else (seconds, "s")
    return f"{_digits(number).removesuffix('.0')} {unit}"


def printable(text: str) -> str:
    """Return ``text`` with all characters escaped that could control a terminal (control, format, lone surrogates)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(time: datetime, *, milliseconds: bool = False) -> str:
    """Return an absolute time, as in 2026-03-01 11:59:57 UTC."""
    fraction = f".{time.microsecond // 1000:03}" if milliseconds else ""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}{fraction} UTC"


def clock_time(time: datetime) -> str:
    """Return the time of day, as in 11:59:57 UTC."""
    return f"{time.astimezone(UTC):%H:%M:%S} UTC"


def wrap(text: str, width: int, first: str = "", others: str = "", *, whole_words: bool = True) -> list[str]:
    """Return ``text``, which is printable, in lines of at most ``width`` that begin with ``first`` and ``others``.

    A word that is longer has a line of its own, or is cut if ``whole_words`` is not set.
    """
    lines = textwrap.wrap(
        _INSIDE_AMOUNT.sub(_UNBROKEN, text),
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=not whole_words,
        break_on_hyphens=False,
    )
    return [line.replace(_UNBROKEN, " ") for line in lines]


def cut_end(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, with an ellipsis at the end for what is left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def cut_middle(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters, with an ellipsis in the middle for what is left out."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def _scaled(value: float) -> tuple[str, str]:
    """Return ``value`` in at most three digits, and the prefix that belongs to them."""
    if round(value) < _STEP:
        return _digits(value).removesuffix(".0"), ""
    power = 0
    while round(value) >= _STEP and power < len(_PREFIXES) - 1:
        value /= _STEP
        power += 1
    return _digits(value), _PREFIXES[power]


def _digits(value: float) -> str:
    return f"{value:.1f}" if value < _TENTHS_BELOW else f"{value:.0f}"
