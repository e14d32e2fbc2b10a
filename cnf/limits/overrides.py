"""The limits in effect, and their difference to the file, which is all that is saved of changes at run time. Pure.

What has been changed back, or has meanwhile been written into the file, is the file's again.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Self

from attrs import evolve, frozen

from cnf.limits.entries import Entry, kept
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

    @property
    def ends(self) -> dict[tuple[str, Network], float]:
        """Return when entries end, in seconds since the epoch, by list and prefix; of those that do."""
        return {(each.list, each.prefix): each.end for each in self.entries if each.until}

    def ended(self, now: float) -> Self:
        """Return the same without the entries that have ended ``now``."""
        over = [each for each in self.entries if each.end <= now]
        if not over:
            return self
        allow, deny = (tuple(each.prefix for each in over if each.list == name) for name in ("allow", "deny"))
        limits = evolve(self.limits, allow=without(self.limits.allow, allow), deny=without(self.limits.deny, deny))
        return evolve(self, limits=limits, entries=tuple(each for each in self.entries if each not in over))

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
    entries = kept(overrides.entries, limits, file)
    return Effective(limits, overrides.protected, overrides.sessions, entries)


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
        protected=effective.protected,
        sessions=effective.sessions,
    )


def _merged(networks: Networks, added: Networks, removed: Networks) -> Networks:
    return without(networks, removed) + without(added, networks)


def without(networks: Networks, others: Networks) -> Networks:
    """Return ``networks`` without those that are among ``others``."""
    gone = set(others)
    return tuple(network for network in networks if network not in gone)
