"""A rule set as the kernel's limiter holds it: the structs of abi.h for a bank, and the numbers of its rules. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, NamedTuple, TypeVar

import numpy as np

from cnf.abi import (
    ENFORCE,
    FOR_EVER,
    LIMIT4_PREFIX,
    LIMIT6_PREFIX,
    LIMIT_GROUPS,
    LIMIT_MATCH,
    LIMIT_POLICY,
    LIMIT_RULE,
    NO_END,
    RULE_ENDS,
    TRAFFIC,
    Family,
)
from cnf.arrays import Records
from cnf.errors import ConfigError, Problem
from cnf.limits.ruleset import Decisions, Match, Prefix, RuleSet
from cnf.limits.table import BucketKind, Network, Rule, denied_room
from cnf.limits.token_bucket import Meter, words

BANK_BITS: Final = 32

KeyT = TypeVar("KeyT")


class Parameters(NamedTuple):
    """All that makes a rule's bucket: a rule that keeps it keeps its number, and its sources their tokens."""

    name: str
    packets: Meter | None
    octets: Meter | None
    bucket: BucketKind


def parameters(rule: Rule) -> Parameters:
    """Return what makes the rule's bucket."""
    return Parameters(rule.name, rule.packets, rule.octets, rule.bucket)


@dataclass(frozen=True)
class Numbers(Generic[KeyT]):
    """Numbers given to keys for as long as sets hold them, and never again. Place = number modulo ``capacity``.

    A place that one set leaves is taken by the next but one at the earliest: at a switch, both sets are in use.
    """

    capacity: int
    """A power of two."""
    numbers: Mapping[KeyT, int] = field(default_factory=dict)
    last: int = 0

    def place(self, key: KeyT) -> int:
        """Return where the key's struct has its place."""
        return self.numbers[key] % self.capacity

    def renewed(self, keys: Iterable[KeyT]) -> Numbers[KeyT]:
        """Return the numbers of the next set.

        Raises:
            ConfigError: there are not enough places, or no more numbers.

        """
        wanted = dict.fromkeys(keys)
        numbers = {key: self.numbers[key] for key in wanted if key in self.numbers}
        busy = {number % self.capacity for number in self.numbers.values()}
        fresh = [key for key in wanted if key not in numbers]
        if len(busy) + len(fresh) > self.capacity:
            raise _too_small(f"{len(busy)} places in use and {len(fresh)} wanted", self.capacity)
        last = self.last
        for key in fresh:
            last += 1
            while last % self.capacity in busy:
                last += 1
            numbers[key] = last
        if last >= ENFORCE:
            remedy = "stop the daemon, cnfctl detach, start it again"
            message = f"all {ENFORCE - 1} numbers have been given to rules"
            raise ConfigError("limits", [Problem("limits.rules", message)], remedy)
        return Numbers(self.capacity, numbers, last)

    def fresh(self, before: Numbers[KeyT]) -> list[KeyT]:
        """Return the keys that were given their number since ``before``."""
        return [key for key in self.numbers if key not in before.numbers]


@dataclass(frozen=True, slots=True)
class Numbering:
    """The numbers of a rule set: each rule's, and each shared bucket's by its rule's number and its prefix."""

    rules: Numbers[Parameters]
    shared: Numbers[tuple[int, Network]]
    denied: Mapping[Network, int] = field(default_factory=dict)
    """The places of the entries of ``deny``; one that is free is given again by the next set but one."""


def no_rules(capacity: int) -> Numbering:
    """Return the numbering before the first rule set, for tables of ``capacity`` rules."""
    return Numbering(Numbers(capacity), Numbers(capacity))


@dataclass(frozen=True, slots=True)
class Bank:
    """All that is to be written for a rule set; ``numbering`` is for the ``lay_out()`` after it."""

    numbering: Numbering
    rule_places: Sequence[int]
    """Where the fresh rules go, and where counting starts at 0."""
    rules: Records
    """LIMIT_RULE, one for each of these places; all other rules are where they were."""
    shared_places: Sequence[int]
    """The fresh shared buckets: to be zeroed, which fills them."""
    denied_places: Sequence[int]
    """The fresh entries of ``deny``, whose counting starts at 0."""
    policies: Records
    """LIMIT_POLICY, shape (policies, LIMIT_GROUPS)."""
    prefixes: Mapping[Family, tuple[Records, Records]]
    """LIMIT4_PREFIX or LIMIT6_PREFIX, with bank 0, and LIMIT_MATCH."""
    groups: Mapping[str, Records]
    """By interface: a group (u32) for each of TRAFFIC; "" stands for interfaces without a slot."""
    source6_mask: Records
    """Two u64 in network byte order."""
    drop_unreadable: bool
    ends: Sequence[int]
    """The jiffies at which rules end, RULE_ENDS of them."""

    @property
    def passes_all(self) -> bool:
        """Whether no packet is limited or dropped: then there is nothing to look up for one."""
        denied = any(matches["deny_until"].any() for _keys, matches in self.prefixes.values())
        return not self.drop_unreadable and not denied and not self.policies["rule"].any()


def lay_out(
    ruleset: RuleSet, before: Numbering, prefixes: int, tick_ns: int, jiffy: Callable[[float], int] = int
) -> Bank:
    """Lay a rule set out, after the one with the numbering ``before``, for tables of ``prefixes`` prefixes a family.

    ``jiffy`` is when a time comes, which is given in seconds since the epoch.

    Raises:
        ConfigError: it does not fit the tables.

    """
    rules = ruleset.rules
    most = max(map(len, ruleset.matches.values()))
    if most > prefixes:
        raise _too_small(f"{most} prefixes", prefixes)
    buckets = [parameters(rule) for rule in rules]
    numbers = before.rules.renewed(buckets)
    shared = before.shared.renewed(
        (numbers.numbers[bucket], prefix)
        for bucket, rule in zip(buckets, rules, strict=True)
        if rule.bucket == "prefix"
        for prefix in rule.prefixes
    )
    fresh = numbers.fresh(before.rules)
    denied = _denied(ruleset.limits.deny, before.denied, denied_room(prefixes))
    policies = _Policies(ruleset, [numbers.numbers[bucket] for bucket in buckets], shared)
    tables = {
        family: _prefixes(family, matches, policies, denied, jiffy) for family, matches in ruleset.matches.items()
    }
    if len(policies.rows) > numbers.capacity:
        raise _too_small(f"{len(policies.rows)} combinations of rules", numbers.capacity)
    return Bank(
        numbering=Numbering(numbers, shared, denied),
        rule_places=[numbers.place(bucket) for bucket in fresh],
        rules=np.array([words(bucket.packets, bucket.octets, tick_ns) for bucket in fresh], LIMIT_RULE),
        shared_places=[shared.place(key) for key in shared.fresh(before.shared)],
        denied_places=[place for prefix, place in denied.items() if prefix not in before.denied],
        policies=policies.records(),
        prefixes=tables,
        groups=_groups(ruleset),
        source6_mask=_source6_mask(ruleset.limits.ipv6_source_prefix),
        drop_unreadable=ruleset.limits.drop_unreadable,
        ends=[*map(jiffy, ruleset.ends)] + [NO_END] * (RULE_ENDS - len(ruleset.ends)),
    )


def _denied(networks: Iterable[Network], before: Mapping[Network, int], room: int) -> dict[Network, int]:
    """Return the place of each entry of ``deny``: the one it had ``before``, else the lowest that is free."""
    wanted = dict.fromkeys(networks)
    busy = set(before.values())
    fresh = [network for network in wanted if network not in before]
    if len(busy) + len(fresh) > room:
        raise _too_small(f"{len(busy)} prefixes in limits.deny and {len(fresh)} more", room)
    free = (place for place in range(room) if place not in busy)
    return {network: before[network] for network in wanted if network in before} | dict(zip(fresh, free, strict=False))


_Row = tuple[tuple[int, ...], tuple[int, ...]]
"""What a policy has for each group, rules and shared buckets."""


class _Policies:
    """The policies of a bank."""

    def __init__(self, ruleset: RuleSet, numbers: list[int], shared: Numbers[tuple[int, Network]]) -> None:
        """Start without one."""
        limits = ruleset.limits
        self.rows: list[_Row] = []
        self._first: dict[tuple[_Row, ...], int] = {}
        self._numbers = numbers
        self._rules = [
            number | ENFORCE if limits.mode_of(rule) == "enforce" else number
            for number, rule in zip(numbers, ruleset.rules, strict=True)
        ]
        self._is_shared = [rule.bucket == "prefix" for rule in ruleset.rules]
        self._shared = shared

    def find(self, match: Match) -> tuple[int, bool]:
        """Return the index of a match's policy, and whether others follow it there, one for each end of rules."""
        now, *later = map(self._row, (match.decisions, *match.later))
        changes = any(row != now for row in later)
        rows = (now, *later) if changes else (now,)
        if rows not in self._first:
            self._first[rows] = len(self.rows)
            self.rows += rows
        return self._first[rows], changes

    def _row(self, decisions: Decisions) -> _Row:
        rules = tuple(self._rules[each.rule] if each else 0 for each in decisions)
        shared = tuple(
            1 + self._shared.place((self._numbers[each.rule], each.prefix))
            if each and self._is_shared[each.rule]
            else 0
            for each in decisions
        )
        return rules, shared

    def records(self) -> Records:
        """Return them as ``LIMIT_POLICY``, shape (policies, LIMIT_GROUPS)."""
        records = np.zeros((len(self.rows), LIMIT_GROUPS), LIMIT_POLICY)
        if self.rows:
            rules, shared = (np.array(rows, np.uint32) for rows in zip(*self.rows, strict=True))
            groups = rules.shape[1]
            records["rule"][:, :groups], records["shared"][:, :groups] = rules, shared
            records["home"][:, :groups] = [[row.index(rule) for rule in row] for row, _ in self.rows]
        return records


def _prefixes(
    family: Family,
    matches: Mapping[Prefix, Match],
    policies: _Policies,
    denied: Mapping[Network, int],
    jiffy: Callable[[float], int],
) -> tuple[Records, Records]:
    keys = np.zeros(len(matches), LIMIT4_PREFIX if family == "ipv4" else LIMIT6_PREFIX)
    octets = keys.dtype["addr"].itemsize
    addresses = b"".join(address.to_bytes(octets, "big") for address, _ in matches)
    keys["length"] = [BANK_BITS + length for _, length in matches]
    keys["addr"] = np.frombuffer(addresses, "<u4").reshape(keys["addr"].shape)

    values = [_match(match, policies, denied, jiffy) for match in matches.values()]
    return keys, np.array(values, LIMIT_MATCH)


def _match(
    match: Match, policies: _Policies, denied: Mapping[Network, int], jiffy: Callable[[float], int]
) -> tuple[int, int, int, int, int, int]:
    """Return the fields of ``struct limit_match``."""
    ends = {each.verdict: FOR_EVER if each.until == math.inf else jiffy(each.until) for each in match.lists}
    if "protected" in ends:
        return 0, match.part, 0, 0, 0, FOR_EVER
    policy, changes = (0, False) if FOR_EVER in ends.values() else policies.find(match)
    place = denied[match.lists[0].prefix] if "denied" in ends else 0
    return policy, match.part, place, changes, ends.get("denied", 0), ends.get("allowed", 0)


def _groups(ruleset: RuleSet) -> dict[str, Records]:
    groups: dict[str, Records] = {}
    for (interface, traffic), group in ruleset.groups.items():
        groups.setdefault(interface, np.zeros(len(TRAFFIC), np.uint32))[TRAFFIC.index(traffic)] = group
    return groups


def _source6_mask(length: int) -> Records:
    return np.frombuffer(((1 << 128) - (1 << 128 - length)).to_bytes(16, "big"), "<u8")


def _too_small(got: str, room: int) -> ConfigError:
    message = f"too low: the limiter was started with room for {room}, got {got}"
    return ConfigError("limits", [Problem("limits.max_rules", message)], "raise it and restart the daemon")
