"""The limits that are in force, as they were worked out, and what of them waits for a confirmation. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final, NamedTuple

from cnf.abi import ENFORCE
from cnf.counts import Count
from cnf.limiter.handover import Known
from cnf.limits.confirmation import RunTime
from cnf.limits.groups import OVERFLOW
from cnf.limits.layout import Parameters, parameters
from cnf.limits.overrides import Effective
from cnf.limits.prefixes import Prefixes
from cnf.limits.ruleset import Address, Explanation, RuleSet, Verdict, explain
from cnf.limits.table import LimitMode, Limits, Network, PrefixSet, Rule


class Dropper(NamedTuple):
    """The source that was limited, and the rule that did it; or the entry of ``deny``."""

    source: Network
    rule: str | None
    """None if the source is denied, or if the rule had gone before the event was read."""
    denied: bool = False
    set: str | None = None
    """The name of the set of prefixes that denies it."""


class SetInForce(NamedTuple):
    """A set of prefixes."""

    set: PrefixSet
    mode: LimitMode
    prefixes: Prefixes


class SetCounts(NamedTuple):
    """What a set has allowed or denied, what came while it was in shadow, and when it dropped last: 0 is never."""

    decided: Count = Count()
    in_shadow: Count = Count()
    last_drop: int = 0

    @property
    def sent(self) -> Count:
        """All that has come."""
        return self.decided.plus(self.in_shadow)


class InSet(NamedTuple):
    """A set that a source is in, and its longest prefix there."""

    set: PrefixSet
    mode: LimitMode
    prefix: Network

    @property
    def verdict(self) -> Verdict:
        """What the set says of the source."""
        return "denied" if self.set.action == "deny" else "allowed"


class Denied(NamedTuple):
    """What an entry of ``deny`` has dropped, and when in jiffies: 0 is never."""

    dropped: Count
    first_seen: int
    last_seen: int


NOTHING_DENIED: Final = Denied(Count(), 0, 0)


@dataclass(frozen=True, slots=True)
class InForce:
    """The limits in force since the latest switch."""

    file: Limits
    run_time: RunTime
    ruleset: RuleSet
    known: Known
    buckets: Mapping[int, Parameters]
    """All that makes a rule's bucket, by its number."""
    modes: Mapping[str, LimitMode]
    """By a rule's name."""
    generation: int
    sets: Sequence[SetInForce] = ()
    """In the order in which they decide, those in shadow last."""

    @property
    def effective(self) -> Effective:
        """Return the limits in effect."""
        return self.run_time.effective

    @property
    def protected(self) -> tuple[Network, ...]:
        """Return the addresses that pass whatever the rules say."""
        return self.effective.protected

    def number(self, rule: Rule) -> int:
        """Return the number that the rule has in the kernel."""
        return self.known.numbering.rules.numbers[parameters(rule)]

    def explain(self, address: Address, interface: str, traffic: str) -> Explanation:
        """Say what happens to ``traffic`` from ``address`` on ``interface``."""
        known = interface if (interface, traffic) in self.ruleset.groups else OVERFLOW
        return explain(self.ruleset, address, known, traffic)

    def dropper(self, number: int, address: Address) -> Dropper:
        """Return who was limited when the rule of this number dropped a packet from ``address``; 0: it was denied."""
        if not number:
            source = ip_network(address)
            listed, found = self.ruleset.listed(source), next(self.in_sets(source), None)
            if listed and listed.verdict == "denied":
                return Dropper(listed.prefix, None, denied=True)
            if found and found.set.action == "deny":
                return Dropper(found.prefix, None, denied=True, set=found.set.name)
            return Dropper(source, None, denied=True)
        name = self.buckets[number].name if number in self.buckets else None
        rule = next((rule for rule in self.effective.limits.rules if rule.name == name), None)
        if rule and rule.bucket == "prefix":
            prefixes = (prefix for prefix in rule.prefixes if address in prefix)
            return Dropper(max(prefixes, key=lambda prefix: prefix.prefixlen), name)
        return Dropper(self.ruleset.source(address), name)

    def in_sets(self, source: Network) -> Iterator[InSet]:
        """Yield the sets that all of ``source`` is in; the first decides, if its mode is enforce."""
        for each in self.sets:
            if prefix := each.prefixes.find(source):
                yield InSet(each.set, each.mode, prefix)

    def listed(self, source: Network) -> tuple[Verdict, str | None] | None:
        """Return what the lists and the sets say of all of ``source``, and the name of the set if one does."""
        if listed := self.ruleset.listed(source):
            return listed.verdict, None
        found = next(self.in_sets(source), None)
        return (found.verdict, found.set.name) if found and found.mode == "enforce" else None

    def is_denied_by_set(self, source: Network) -> bool:
        """Tell whether a set denies all of ``source``, or would if it were not protected."""
        lists = [each for each in self.ruleset.lists(source) if each.verdict != "protected"]
        found = next(self.in_sets(source), None)
        return not lists and found is not None and (found.mode, found.verdict) == ("enforce", "denied")

    def word(self, rule: Rule) -> int:
        """Return the rule as it stands in a source's decision: its number, and whether it drops."""
        return self.number(rule) | (ENFORCE if self.effective.limits.mode_of(rule) == "enforce" else 0)


class Look(NamedTuple):
    """The limits in force, and their counts, at one moment."""

    in_force: InForce
    counts: Mapping[str, Sequence[Count]]
    """As ``Limiter.counts()`` has them."""
