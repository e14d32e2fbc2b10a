"""The rules worked out: what decides on a source, by its longest prefix, its interface and its traffic. Pure.

A protected source passes, else one that ``deny`` covers is dropped, else one that ``allow`` covers passes. For all
others the longest prefix that has a rule for the traffic on the interface decides; within a prefix the rule that names
the traffic more closely, then the one that names the interface, then the one that comes first. A rule that is off
decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from cnf.abi import Family
from cnf.limits.groups import Cell, Order, numbered
from cnf.limits.table import LimitMode, Limits, Network, Rule

Address = IPv4Address | IPv6Address
ListName = Literal["allowed", "denied", "protected"]
Verdict = Literal["allowed", "denied", "protected", "limited", "unlimited"]
Prefix = tuple[int, int]
"""The first address of a prefix, and its length."""


STRONGEST_FIRST: Final[tuple[ListName, ...]] = ("protected", "denied", "allowed")
FAMILIES_BY_VERSION: Final[dict[int, Family]] = {4: "ipv4", 6: "ipv6"}
_BITS: Final[dict[Family, int]] = {"ipv4": 32, "ipv6": 128}
_MASKS: Final = {
    family: [(1 << bits) - (1 << (bits - length)) for length in range(bits + 1)] for family, bits in _BITS.items()
}


class Listed(NamedTuple):
    """The list that a source is on, and the prefix that puts it there."""

    verdict: ListName
    prefix: Network
    until: float = math.inf
    """Seconds since the epoch."""


class Decision(NamedTuple):
    """The rule that decides, by its index in ``RuleSet.rules``, and the prefix that has it."""

    rule: int
    prefix: Network


Decisions = tuple[Decision | None, ...]
"""By group."""


class Match(NamedTuple):
    """A prefix's word on the sources whose longest it is: the shorter ones around it have been asked already."""

    lists: tuple[Listed, ...]
    """Those that they are on, the strongest first; of each list the entry that ends last."""
    decisions: Decisions
    part: int
    """0; or the length of the prefix, if it is only a part of an IPv6 source: each part is then a source of its own."""
    later: tuple[Decisions, ...] = ()
    """After each of ``RuleSet.ends``."""

    @property
    def listed(self) -> Listed | None:
        """Return the entry that decides, until it ends."""
        return self.lists[0] if self.lists else None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Limits worked out for some interfaces."""

    limits: Limits
    groups: Mapping[Cell, int]
    """Cells of one group are never told apart by a rule."""
    matches: Mapping[Family, Mapping[Prefix, Match]]
    lengths: Mapping[Family, Sequence[int]]
    """The prefix lengths that occur, the longest first."""
    rules: tuple[Rule, ...]
    """Those of the limits, then those that come back when others end."""
    ends: tuple[float, ...] = ()
    """The times at which rules end, in seconds since the epoch."""

    def find(self, address: Address) -> Match | None:
        """Return what the longest prefix that holds ``address`` says."""
        family = FAMILIES_BY_VERSION[address.version]
        for length in self.lengths[family]:
            if found := self.matches[family].get((int(address) & _MASKS[family][length], length)):
                return found
        return None

    def listed(self, source: Network) -> Listed | None:
        """Return the list that decides on all of ``source``."""
        return next(iter(self.lists(source)), None)

    def lists(self, source: Network) -> tuple[Listed, ...]:
        """Return the lists that all of ``source`` is on, the strongest first."""
        family, address = FAMILIES_BY_VERSION[source.version], int(source.network_address)
        for length in self.lengths[family]:
            if length <= source.prefixlen and (
                found := self.matches[family].get((address & _MASKS[family][length], length))
            ):
                return found.lists
        return ()

    def part(self, address: Address) -> int:
        """Return 0; or the length of an IPv6 source that is not as long as all others.

        All nodes of a link have the prefix fe80::/64, so that each link-local address is a source of its own.
        """
        if isinstance(address, IPv4Address):
            return 0
        if address.is_link_local:
            return _BITS["ipv6"]
        match = self.find(address)
        return match.part if match else 0

    def source(self, address: Address) -> Network:
        """Return the source that ``address`` belongs to."""
        if isinstance(address, IPv4Address):
            return IPv4Network(address)
        return IPv6Network((address, self.part(address) or self.limits.ipv6_source_prefix), strict=False)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict on a source's packets, and the prefix that says so."""

    verdict: Verdict
    prefix: Network | None = None
    rule: Rule | None = None
    mode: LimitMode | None = None
    source: Network | None = None
    """The owner of the bucket; the prefix, if all of it shares one."""
    home: int | None = None
    """The group under which a source's own bucket stands in the kernel's table."""


def work_out(  # noqa: PLR0913 - what rules depend on
    limits: Limits,
    interfaces: Iterable[str],
    protected: Iterable[Network] = (),
    before: Mapping[Cell, int] = MappingProxyType({}),
    *,
    called: Mapping[str, str] = MappingProxyType({}),
    ends: Mapping[tuple[str, Network], float] = MappingProxyType({}),
    later: Mapping[float, tuple[Rule, ...]] = MappingProxyType({}),
) -> RuleSet:
    """Work out ``limits`` for ``interfaces``; ``protected`` sources pass whatever the rules say.

    ``ends`` are those of entries of ``allow`` and ``deny``, in seconds since the epoch. ``later`` are all rules as they
    are from such a time on, in the order of the times.

    Groups keep the numbers that their cells had ``before``, because sources have their buckets under them. ``called``
    has the interfaces' names by their altnames, which rules may use as well.

    Raises:
        ConfigError: the rules tell more groups apart than the kernel's tables hold.

    """
    phases = [limits.rules, *later.values()]
    index_of = {rule: index for index, rule in enumerate(dict.fromkeys(rule for rules in phases for rule in rules))}
    rules = [rule for rule in index_of if limits.mode_of(rule) != "off"]
    scopes = dict.fromkeys((rule.protocols, rule.interfaces) for rule in rules)
    named_scopes = [(protocols, [called.get(name, name) for name in names]) for protocols, names in scopes]
    groups, orders = numbered(named_scopes, interfaces, before)
    order_of = dict(zip(scopes, orders, strict=True))

    named: dict[Family, dict[Prefix, _Named]] = {family: {} for family in _BITS}
    denied = () if limits.mode == "off" else limits.deny
    lists = zip(("protected", "deny", "allow"), STRONGEST_FIRST, (protected, denied, limits.allow), strict=True)
    for name, verdict, networks in lists:
        for network in dict.fromkeys(networks):
            _at(named, network).lists.append(Listed(verdict, network, ends.get((name, network), math.inf)))
    for phase, rules_then in enumerate(phases):
        for rule in rules_then:
            if limits.mode_of(rule) == "off":
                continue
            for network in rule.prefixes:
                own = _at(named, network).rules.setdefault(phase, [])
                own.append((index_of[rule], order_of[rule.protocols, rule.interfaces]))

    parts = _split(named["ipv6"], limits.ipv6_source_prefix)
    undecided = (None,) * (1 + max(groups.values(), default=-1))
    return RuleSet(
        limits,
        groups,
        {
            family: _inherit(family, prefixes, parts, Match((), undecided, 0, (undecided,) * len(later)))
            for family, prefixes in named.items()
        },
        {family: sorted({length for _, length in prefixes}, reverse=True) for family, prefixes in named.items()},
        tuple(index_of),
        tuple(later),
    )


def explain(ruleset: RuleSet, address: Address, interface: str, traffic: str) -> Explanation:
    """Say what happens to ``traffic`` from ``address`` on ``interface``, one of those of the rule set."""
    match = ruleset.find(address)
    if match and match.listed:
        return Explanation(match.listed.verdict, match.listed.prefix)
    decision = match.decisions[ruleset.groups[interface, traffic]] if match else None
    if match is None or decision is None:
        return Explanation("unlimited")
    rule = ruleset.rules[decision.rule]
    source, home = decision.prefix, None
    if rule.bucket == "source":
        source = ruleset.source(address)
        home = [each and each.rule for each in match.decisions].index(decision.rule)
    return Explanation("limited", decision.prefix, rule, ruleset.limits.mode_of(rule), source, home)


@dataclass(slots=True)
class _Named:
    """The configuration's word on a prefix itself."""

    network: Network
    lists: list[Listed] = field(default_factory=list)
    rules: dict[int, list[tuple[int, Order]]] = field(default_factory=dict)
    """By how many ends have come, and index, in the order of the configuration."""


def _at(named: Mapping[Family, dict[Prefix, _Named]], network: Network) -> _Named:
    prefixes, prefix = named[FAMILIES_BY_VERSION[network.version]], (int(network.network_address), network.prefixlen)
    if prefix not in prefixes:
        prefixes[prefix] = _Named(network)
    return prefixes[prefix]


def _split(prefixes: dict[Prefix, _Named], source_bits: int) -> set[Prefix]:
    """Return the parts of sources that are told apart; add what remains of such a source."""
    parts = {prefix for prefix in prefixes if prefix[1] > source_bits}
    remainders = {(address & _MASKS["ipv6"][source_bits], source_bits) for address, _ in parts}
    for prefix in remainders - prefixes.keys():
        prefixes[prefix] = _Named(IPv6Network(prefix))
    return parts | remainders


def _inherit(
    family: Family, prefixes: Mapping[Prefix, _Named], parts: set[Prefix], undecided: Match
) -> dict[Prefix, Match]:
    """Let every prefix have what it leaves open from the next shorter one around it."""
    matches: dict[Prefix, Match] = {}
    around: list[tuple[int, Match]] = [(1 << _BITS[family], undecided)]
    """(Last address, match) of the prefixes that hold the current one, the longest last."""
    for prefix, own in sorted(prefixes.items(), key=lambda item: item[0]):
        address, length = prefix
        while around[-1][0] < address:
            around.pop()
        outer = around[-1][1]
        match = Match(
            _lists(outer.lists, own.lists),
            _decide(own, 0, outer.decisions),
            length if family == "ipv6" and prefix in parts else 0,
            tuple(_decide(own, phase, decisions) for phase, decisions in enumerate(outer.later, 1)),
        )
        matches[prefix] = match
        around.append((address | ~_MASKS[family][length] & _MASKS[family][-1], match))
    return matches


def _lists(outer: Sequence[Listed], own: Sequence[Listed]) -> tuple[Listed, ...]:
    """Return the entry of each list that ends last, the prefix's own rather than one around it."""
    if not own:
        return tuple(outer)
    last: dict[ListName, Listed] = {}
    for listed in (*outer, *own):
        if listed.verdict not in last or last[listed.verdict].until <= listed.until:
            last[listed.verdict] = listed
    return tuple(last[verdict] for verdict in STRONGEST_FIRST if verdict in last)


def _decide(own: _Named, phase: int, outer: Decisions) -> Decisions:
    """Return what a prefix decides for each group, which is what the next shorter one does unless it has rules."""
    if phase not in own.rules:
        return outer
    decisions = list(outer)
    best: dict[int, int] = {}
    for index, order in own.rules[phase]:
        for group, place in order:
            if group not in best or place < best[group]:
                best[group] = place
                decisions[group] = Decision(index, own.network)
    return tuple(decisions)
