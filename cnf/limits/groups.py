"""Groups: combinations of interface and traffic that no rule tells apart. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from cnf.abi import FRAGMENTS, LIMIT_GROUPS, TRAFFIC
from cnf.errors import ConfigError, Problem

Cell = tuple[str, str]
"""An interface, and what comes in there: one of ``TRAFFIC``."""
Order = Sequence[tuple[int, int]]
"""(group, place): the groups that a rule may decide for, and its place there among one prefix's; the lowest wins."""
OVERFLOW: Final = ""
"""Stands among the interfaces for those that have no counter slot."""

_NAMES: Final[Mapping[str, tuple[str, str]]] = {"tcp_syn": ("tcp_syn", "tcp")} | {
    fragment: ("fragment", protocol) for fragment, protocol in FRAGMENTS.items()
}
"""Names in rules of a traffic that has two, the narrower first."""


def numbered(
    scopes: Sequence[tuple[Sequence[str], Sequence[str]]], interfaces: Iterable[str], before: Mapping[Cell, int]
) -> tuple[dict[Cell, int], list[Order]]:
    """Return the number of each cell's group, and each scope's order; a scope is a rule's protocols and interfaces.

    A group keeps the number that most of its cells had ``before``.

    Raises:
        ConfigError: there are more groups than the kernel's tables hold.

    """
    members: dict[tuple[int | None, ...], list[Cell]] = {}
    for interface in dict.fromkeys(interfaces):
        for traffic in TRAFFIC:
            closeness = [_closeness(protocols, patterns, interface, traffic) for protocols, patterns in scopes]
            ranks = {each: rank for rank, each in enumerate(sorted({each for each in closeness if each is not None}))}
            members.setdefault(tuple(None if each is None else ranks[each] for each in closeness), []).append(
                (interface, traffic)
            )
    if len(members) > LIMIT_GROUPS:
        expected = f"expected at most {LIMIT_GROUPS} combinations of interface and protocol that rules tell apart"
        raise ConfigError("limits", [Problem("limits.rules", f"{expected}, got {len(members)}")])

    numbers: dict[tuple[int | None, ...], int] = {}
    # Most of a group keeps its number, and with it most sources their buckets: the larger parts choose first.
    for key, cells in sorted(members.items(), key=lambda each: -len(each[1])):
        known = Counter(before[cell] for cell in cells if cell in before).most_common()
        free = [number for number, _ in known if number not in numbers.values()]
        if free:
            numbers[key] = free[0]
    spare = iter(sorted(set(range(LIMIT_GROUPS)) - set(numbers.values())))
    for key in members:
        if key not in numbers:
            numbers[key] = next(spare)
    return (
        {cell: numbers[key] for key, cells in members.items() for cell in cells},
        [
            [(numbers[key], place) for key in members for place in (key[scope],) if place is not None]
            for scope in range(len(scopes))
        ],
    )


def _closeness(protocols: Sequence[str], patterns: Sequence[str], interface: str, traffic: str) -> int | None:
    """Tell how closely a scope names a cell, 0 the closest; None if it does not cover it.

    A SYN is TCP, too, and a fragment is of its protocol.
    """
    if patterns and not any(fnmatchcase(interface, pattern) for pattern in patterns):
        return None
    closer, wider = _NAMES.get(traffic, (traffic, None))
    if closer in protocols:
        named = 0
    elif wider in protocols:
        named = 1
    elif not protocols:
        named = 2
    else:
        return None
    return 2 * named + (not patterns)
