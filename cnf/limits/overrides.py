"""What was changed at run time, relative to the file. Pure.

A change is worked out on the limits in effect. What is kept of it is the difference to the file, and no more: what has
been changed back, or has meanwhile been written into the file, is the file's again.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, TypeVar

from attrs import evolve, frozen

from cnf.limits.table import NAME, PREFIX, PREFIX_LIST, RULE, LimitMode, Limits, Network, Rule
from cnf.readers import array, choice, refusal

Origin = Literal["file", "runtime"]
Networks = tuple[Network, ...]
_Key = TypeVar("_Key", str, Network)


def _address(value: object, path: str) -> Network:
    prefix: Network = PREFIX(value, path)
    if prefix.num_addresses != 1:
        raise refusal(path, "a single address", value)
    return prefix


_RULES: Final = array("an array of rules", RULE, noun="rule")
_NAMES: Final = array("an array of rules' names", NAME)
_ADDRESSES: Final = array("an array of addresses", _address)


@frozen
class Overrides:
    """What was changed at run time. What has lost its object in the file changes nothing."""

    mode: Annotated[LimitMode | None, choice(LimitMode), "overrides limits.mode"] = None
    allow_added: Annotated[tuple[Network, ...], PREFIX_LIST, "not in the file"] = ()
    allow_removed: Annotated[tuple[Network, ...], PREFIX_LIST, "of the file"] = ()
    deny_added: Annotated[tuple[Network, ...], PREFIX_LIST, "not in the file"] = ()
    deny_removed: Annotated[tuple[Network, ...], PREFIX_LIST, "of the file"] = ()
    rules: Annotated[tuple[Rule, ...], _RULES, "each in the place of the file's of that name, else at the end"] = ()
    removed: Annotated[tuple[str, ...], _NAMES, "rules of the file that are gone"] = ()
    protected: Annotated[tuple[Network, ...], _ADDRESSES, "pass whatever the rules say, until confirmed"] = ()
    sessions: Annotated[tuple[Network, ...], _ADDRESSES, "those of them from where somebody is logged in"] = ()


@frozen
class Effective:
    """The limits in effect, and where each part comes from."""

    limits: Limits
    overrides: Overrides
    """Those that differ from the file."""
    mode_origin: Origin
    rule_origins: Mapping[str, Origin]
    allow_origins: Mapping[Network, Origin]
    deny_origins: Mapping[Network, Origin]


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
    kept = difference(file, limits, overrides.protected, overrides.sessions)
    return Effective(
        limits,
        kept,
        "runtime" if kept.mode else "file",
        _origins(rules, [rule.name for rule in kept.rules]),
        _origins(limits.allow, kept.allow_added),
        _origins(limits.deny, kept.deny_added),
    )


def difference(file: Limits, limits: Limits, protected: Networks = (), sessions: Networks = ()) -> Overrides:
    """Return the overrides that make ``limits`` of ``file``."""
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
        protected=tuple(dict.fromkeys(protected)),
        sessions=sessions,
    )


def _merged(networks: Networks, added: Networks, removed: Networks) -> Networks:
    gone = set(removed)
    return *(network for network in networks if network not in gone), *without(added, networks)


def without(networks: Networks, others: Networks) -> Networks:
    """Return ``networks`` without those that are among ``others``."""
    gone = set(others)
    return tuple(network for network in networks if network not in gone)


def _origins(everything: Iterable[_Key], changed: Iterable[_Key]) -> dict[_Key, Origin]:
    new = set(changed)
    return {each: "runtime" if each in new else "file" for each in everything}
