"""Flows grouped by what decides on their packets: the verdict on the source, and the rule. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW_EGRESS, FLOW_FRAGMENT, ICMP, ICMPV6, TCP, TRAFFIC, UDP, Family
from cnf.flows.columns import FlowColumns
from cnf.flows.fields import Shown
from cnf.flows.groups import Dimension, Words
from cnf.limits.groups import OVERFLOW
from cnf.limits.prefixes import Prefixes
from cnf.limits.ruleset import Match, Prefix, RuleSet, Verdict
from cnf.limits.table import PrefixSet

Column = Callable[[str], Any]
"""Returns a column of flows by its name."""

_SYN: Final = 0x02
_SYN_ACK: Final = 0x12
_BITS: Final[Mapping[Family, int]] = {"ipv4": 32, "ipv6": 128}


class Decided(NamedTuple):
    """What happens to packets."""

    verdict: Verdict
    rule: str | None = None
    """The name of the rule, or of the set of prefixes."""


UNLIMITED: Final = Decided("unlimited")


def by_rule(
    ruleset: RuleSet, names: Mapping[int, str], sets: Sequence[tuple[PrefixSet, Prefixes]] = ()
) -> tuple[Dimension, Dimension]:
    """Return what flows are grouped by to tell the rules of a set apart; ``names`` are the interfaces', by ifindex.

    ``sets`` are the sets of prefixes in mode enforce, the one that goes first first. A flow of TCP that has had no ACK
    is one of SYNs. What is sent is not limited.
    """
    decider = _Decider(ruleset, names, sets)

    def words(flows: FlowColumns, _: Mapping[int, int]) -> list[Words]:
        return [decider.numbers(flows.family, lambda name: getattr(flows, name)).astype(np.uint64)]

    def values(field: str) -> Callable[[Shown], Iterable[Any]]:
        def of(shown: Shown) -> list[Any]:
            numbers = decider.numbers(shown.part.family, shown.column)
            return [getattr(decider.decided[number], field) for number in numbers.tolist()]

        return of

    # Flows of one rule have one verdict: the words of the second say both.
    return Dimension("verdict", lambda _flows, _: [], values("verdict")), Dimension("rule", words, values("rule"))


class _Decider:
    """A rule set, and sets of prefixes, as arrays."""

    def __init__(self, ruleset: RuleSet, names: Mapping[int, str], sets: Sequence[tuple[PrefixSet, Prefixes]]) -> None:
        self.decided = [UNLIMITED]
        """By number."""
        self._number_of = {UNLIMITED: 0}
        self._ruleset = ruleset
        self._indexes = np.array(sorted(names), np.uint32)
        known = {interface for interface, _ in ruleset.groups}
        interfaces = [names[index] for index in self._indexes.tolist()] + [OVERFLOW]
        self._groups = np.array(
            [
                [ruleset.groups[name if name in known else OVERFLOW, traffic] for traffic in TRAFFIC]
                for name in interfaces
            ]
        )
        """The group by interface, the last one for all others, and traffic."""
        self._rules = {family: self._laid_out(family, matches) for family, matches in ruleset.matches.items()}
        self._open = np.array([each.verdict in {"limited", "unlimited"} for each in self.decided])
        """By number, whether a set of prefixes may decide instead."""
        self._sets = [
            (
                self._number(Decided("allowed" if each.action == "allow" else "denied", each.name)),
                {family: _ranges(family, ((*prefix, 1) for prefix in prefixes.pairs(family))) for family in _BITS},
            )
            for each, prefixes in sets
        ]

    def numbers(self, family: Family, column: Column) -> npt.NDArray[np.intp]:
        """Return what is decided on each flow, by its number in ``decided``."""
        ranges, decisions = self._rules[family]
        sources = _sortable(family, column("src_addr"))
        rows = ranges.find(sources)
        place = np.searchsorted(self._indexes, column("ifindex"))
        index = self._indexes[np.minimum(place, len(self._indexes) - 1)] if len(self._indexes) else place
        interfaces = np.where(index == column("ifindex"), place, len(self._groups) - 1)
        numbers: npt.NDArray[np.intp] = decisions[rows, self._groups[interfaces, _traffic(family, column)]]
        left = self._open[numbers] if self._sets else np.False_
        for number, prefixes in self._sets:
            within = left & (prefixes[family].find(sources) != 0)
            numbers[within] = number
            left &= ~within
        numbers[(column("flags") & FLOW_EGRESS) != 0] = 0
        return numbers

    def _laid_out(self, family: Family, matches: Mapping[Prefix, Match]) -> tuple[_Ranges, npt.NDArray[np.intp]]:
        """Return the rows of sources, and by row and group what is decided."""
        groups = int(self._groups.max()) + 1
        table: dict[tuple[int, ...], int] = {(0,) * groups: 0}
        rows = (
            (*prefix, table.setdefault(self._row(match, groups), len(table)))
            for prefix, match in sorted(matches.items(), key=lambda item: item[0])
        )
        ranges = _ranges(family, rows)
        return ranges, np.array(list(table))

    def _row(self, match: Match, groups: int) -> tuple[int, ...]:
        """Return what a match decides, by group."""
        if match.listed:
            return (self._number(Decided(match.listed.verdict)),) * groups
        rules = self._ruleset.rules
        return tuple(
            self._number(Decided("limited", rules[each.rule].name) if each else UNLIMITED) for each in match.decisions
        )

    def _number(self, decided: Decided) -> int:
        if decided not in self._number_of:
            self._number_of[decided] = len(self.decided)
            self.decided.append(decided)
        return self._number_of[decided]


class _Ranges(NamedTuple):
    """Ranges of addresses, each with a row: that of its longest prefix, or 0."""

    starts: npt.NDArray[Any]
    """Shape (N,), as ``_sortable()`` returns them; the first is that of all addresses."""
    rows: npt.NDArray[np.intp]

    def find(self, addresses: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
        """Return the row of each of ``addresses``, which are sortable."""
        rows: npt.NDArray[np.intp] = self.rows[np.searchsorted(self.starts, addresses, side="right") - 1]
        return rows


def _ranges(family: Family, prefixes: Iterable[tuple[int, int, int]]) -> _Ranges:
    """Return the ranges that prefixes make, each given as address, length and row, in order."""
    bits = _BITS[family]
    starts, rows = [0], [0]
    around = [(1 << bits, 0)]
    """(Last address, row) of the prefixes that hold the current one, the longest last."""

    def begin(address: int, row: int) -> None:
        if starts[-1] == address:
            rows[-1] = row
        elif address < 1 << bits:
            starts.append(address)
            rows.append(row)

    for address, length, row in prefixes:
        while around[-1][0] < address:
            begin(around.pop()[0] + 1, around[-1][1])
        begin(address, row)
        around.append((address + (1 << bits - length) - 1, row))
    while len(around) > 1:
        begin(around.pop()[0] + 1, around[-1][1])
    packed = b"".join(start.to_bytes(bits // 8, "big") for start in starts)
    kind = np.uint32 if family == "ipv4" else np.uint64
    return _Ranges(_sortable(family, np.frombuffer(packed, kind)), np.array(rows))


def _sortable(family: Family, addresses: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return addresses, bytes in network order, shape (N,) or (N, 2), as what numpy can search in: shape (N,)."""
    packed = np.ascontiguousarray(addresses).reshape(-1)
    return packed.view(">u4").astype(np.uint32) if family == "ipv4" else packed.view("S16")


def _traffic(family: Family, column: Column) -> npt.NDArray[np.intp]:
    """Return each flow's place in TRAFFIC."""
    icmp, icmp_name = (ICMP, "icmp") if family == "ipv4" else (ICMPV6, "icmpv6")
    names = ["other"] * 256
    names[TCP], names[UDP], names[icmp] = "tcp", "udp", icmp_name
    of_protocol = np.array([TRAFFIC.index(name) for name in names])
    of_fragment = np.array([TRAFFIC.index(f"{name}_fragment") for name in names])
    protocol = column("protocol")
    syn = (protocol == TCP) & (column("tcp_flags") & _SYN_ACK == _SYN)
    traffic = np.where(syn, TRAFFIC.index("tcp_syn"), of_protocol[protocol])
    return np.where((column("flags") & FLOW_FRAGMENT) != 0, of_fragment[protocol], traffic)
