"""Rates, bursts and what was counted of them, as a person reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cnf.cli.api.limit_replies import Rates, Rule
from cnf.cli.api.replies import Amount, Timestamp
from cnf.units import count, duration, packets, size

NONE: Final = "-"

_PREFIXES: Final = ("", "k", "M", "G", "T")
_STEP: Final = 1000
_MINUTES_FROM: Final = 120.0


def rate(rule: Rule | Rates) -> str:
    """Return a rule's rates as they were set: 10 k packets/s, 1 Gbit/s."""
    return _both(rule["packets_per_second"], rule["bits_per_second"], "/s", "bit/s")


def burst(rule: Rule | Rates) -> str:
    """Return a rule's bursts: 20 k packets, 4 MB."""
    return _both(rule["burst_packets"], rule["burst_bytes"], "", "B")


def lost(amount: Amount, how: str) -> str:
    """Return what a limit cost: 1.2k packets dropped (1.8 MB), nothing dropped."""
    return f"{packets(amount['packets'])} {how} ({size(amount['bytes'])})" if amount["packets"] else f"nothing {how}"


def pair(number: float | None, octets: float | None) -> str:
    """Return packets and bytes for a column that aligns both: 1.2k  1.8 MB."""
    if number is None:
        return NONE if octets is None else size(octets)
    return count(number) if octets is None else f"{count(number)} {size(octets):>7}"


def countdown(seconds: float) -> str:
    """Return what is left of a time that was set in seconds or minutes: 60 s, 5m00s."""
    return f"{max(seconds, 0.0):.0f} s" if seconds < _MINUTES_FROM else duration(seconds)


def time_left(until: Timestamp | None, now: datetime) -> str:
    """Return how long it is until then."""
    return NONE if until is None else countdown((datetime.fromisoformat(until) - now).total_seconds())


def _both(number: int | None, octets: int | None, per: str, unit: str) -> str:
    parts = []
    if number is not None:
        parts.append(f"{_exact(number).rstrip()} packet{'s' if number != 1 else ''}{per}")
    if octets is not None:
        parts.append(f"{_exact(octets)}{unit}")
    return ", ".join(parts) or NONE


def _exact(number: int) -> str:
    """Return every digit of a number that was set, with its decimal prefix: 10 k, 1.544 M, 7 (and a space)."""
    power = 0
    while number >= _STEP ** (power + 1) and power < len(_PREFIXES) - 1:
        power += 1
    whole, rest = divmod(number, _STEP**power)
    digits = f"{whole}.{rest:0{3 * power}}".rstrip("0").rstrip(".") if rest else str(whole)
    return f"{digits} {_PREFIXES[power]}"
