"""The limits in effect, and their difference to the file, which is all that is saved of changes at run time. Pure.

What has been changed back, or has meanwhile been written into the file, is the file's again.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Final, Self

from attrs import evolve, frozen

from cnf.limits import rule_ends
from cnf.limits.entries import Entry, kept
from cnf.limits.rule_ends import RuleEnd
from cnf.limits.table import NAME, PREFIX, PREFIX_LIST, RULE, LimitMode, Limits, Network, Rule
from cnf.readers import array, choice, refusal, table

Networks = tuple[Network, ...]


def _address(value: object, path: str) -> Network:
    prefix: Network = PREFIX(value, path)
    if prefix.num_addresses != 1:
        raise refusal(path, "a single address", value)
    return prefix


_RULES: Final = array("an array of rules", RULE, noun="rule")
_NAMES: Final = array("an array of rules' names", NAME)
_ENTRIES: Final = array("an array of entries", table(Entry))
_RULE_ENDS: Final = array("an array of rules' ends", table(RuleEnd))
_ADDRESSES: Final = array("an array of addresses", _address)


@frozen
class Overrides:
    """The changes made at run time. One that has lost its object in the file changes nothing."""

    mode: Annotated[LimitMode | None, choice(LimitMode), "overrides limits.mode"] = None
    allow_added: Annotated[tuple[Network, ...], PREFIX_LIST, "not in the file"] = ()
    allow_removed: Annotated[tuple[Network, ...], PREFIX_LIST, "of the file"] = ()
    deny_added: Annotated[tuple[Network, ...], PREFIX_LIST, "not in the file"] = ()
    deny_removed: Annotated[tuple[Network, ...], PREFIX_LIST, "of the file"] = ()
    rules: Annotated[tuple[Rule, ...], _RULES, "each in the place of the file's of that name, else at the end"] = ()
    removed: Annotated[tuple[str, ...], _NAMES, "rules of the file that are gone"] = ()
    entries: Annotated[tuple[Entry, ...], _ENTRIES, "what is known of entries that were added"] = ()
    rule_ends: Annotated[tuple[RuleEnd, ...], _RULE_ENDS, "of rules that were set until a time"] = ()
    protected: Annotated[tuple[Network, ...], _ADDRESSES, "pass whatever the rules say, until confirmed"] = ()
    sessions: Annotated[tuple[Network, ...], _ADDRESSES, "those of them from where somebody is logged in"] = ()


@frozen
class Effective:
    """The limits in effect, and the sources that pass whatever the limits say."""

    limits: Limits
    protected: Networks = ()
    sessions: Networks = ()
    """The part of ``protected`` from where somebody is logged in."""
    entries: tuple[Entry, ...] = ()
    """What is known of the entries of ``allow`` and ``deny`` that the file has not."""
    rule_ends: tuple[RuleEnd, ...] = ()

    @property
    def ends(self) -> dict[tuple[str, Network], float]:
        """Return when entries end, in seconds since the epoch, by list and prefix; of those that do."""
        return {(each.list, each.prefix): each.end for each in self.entries if each.until}

    @property
    def next_end(self) -> float:
        """Return when the next entry or rule ends, in seconds since the epoch."""
        return min([math.inf, *(each.end for each in self.entries), *(each.end for each in self.rule_ends)])

    def later(self, file: Limits) -> dict[float, tuple[Rule, ...]]:
        """Return the rules as they will be after each of their ends, in order."""
        moments = sorted({each.end for each in self.rule_ends})
        return {moment: self._rules_at(moment, file) for moment in moments}

    def _rules_at(self, now: float, file: Limits) -> tuple[Rule, ...]:
        return rule_ends.ended(self.limits.rules, (each for each in self.rule_ends if each.end <= now), file)

    def ended(self, now: float, file: Limits) -> Self:
        """Return the same without the entries that have ended ``now``, and with the rules of ``file`` after theirs."""
        if self.next_end > now:
            return self
        over = [each for each in self.entries if each.end <= now]
        allow, deny = (tuple(each.prefix for each in over if each.list == name) for name in ("allow", "deny"))
        limits = evolve(
            self.limits,
            allow=without(self.limits.allow, allow),
            deny=without(self.limits.deny, deny),
            rules=self._rules_at(now, file),
        )
        return evolve(
            self,
            limits=limits,
            entries=tuple(each for each in self.entries if each.end > now),
            rule_ends=tuple(each for each in self.rule_ends if each.end > now),
        )

    def protecting(self, clients: Iterable[Network]) -> Self:
        """Return the same with ``clients`` protected, too."""
        return evolve(self, protected=tuple(dict.fromkeys((*self.protected, *clients))))

    def logged_in(self, sessions: Networks) -> Self:
        """Return the same without those who had a session that is not among ``sessions`` any more."""
        protected = without(self.protected, without(self.sessions, sessions))
        return evolve(self, protected=protected, sessions=tuple(each for each in protected if each in sessions))


def apply(file: Limits, overrides: Overrides) -> Effective:
    """Return the limits of ``file`` as changed at run time."""
    changed = {rule.name: rule for rule in overrides.rules}
    gone = set(overrides.removed) - changed.keys()
    rules = {rule.name: rule for rule in file.rules if rule.name not in gone} | changed
    limits = evolve(
        file,
        mode=overrides.mode or file.mode,
        allow=_merged(file.allow, overrides.allow_added, overrides.allow_removed),
        deny=_merged(file.deny, overrides.deny_added, overrides.deny_removed),
        rules=tuple(rules.values()),
    )
    entries, ends = kept(overrides.entries, limits, file), rule_ends.kept(overrides.rule_ends, limits, file)
    return Effective(limits, overrides.protected, overrides.sessions, entries, ends)


def difference(file: Limits, effective: Effective) -> Overrides:
    """Return the overrides that make what is in effect of ``file``."""
    limits = effective.limits
    rules = {rule.name: rule for rule in file.rules}
    names = {rule.name for rule in limits.rules}
    return Overrides(
        mode=limits.mode if limits.mode != file.mode else None,
        allow_added=without(limits.allow, file.allow),
        allow_removed=without(file.allow, limits.allow),
        deny_added=without(limits.deny, file.deny),
        deny_removed=without(file.deny, limits.deny),
        rules=tuple(rule for rule in limits.rules if rules.get(rule.name) != rule),
        removed=tuple(name for name in rules if name not in names),
        entries=effective.entries,
        rule_ends=effective.rule_ends,
        protected=effective.protected,
        sessions=effective.sessions,
    )


def _merged(networks: Networks, added: Networks, removed: Networks) -> Networks:
    return without(networks, removed) + without(added, networks)


def without(networks: Networks, others: Networks) -> Networks:
    """Return ``networks`` without those that are among ``others``."""
    gone = set(others)
    return tuple(network for network in networks if network not in gone)
