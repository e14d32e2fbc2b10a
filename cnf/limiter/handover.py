"""The handover of the rule sets in the kernel to the next daemon, as JSON. Pure.

It is written before a switch, and says what is so before and after it: the kernel's generation tells whether the switch
has taken place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from types import MappingProxyType
from typing import Any

from cnf.counts import Count
from cnf.limits.groups import Cell
from cnf.limits.layout import Numbering, Numbers, Parameters
from cnf.limits.set_numbers import SetKey
from cnf.limits.token_bucket import Meter


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of the rule sets so far."""

    numbering: Numbering
    groups: Mapping[Cell, int] = field(default_factory=dict)
    past: Mapping[str, Sequence[Count]] = field(default_factory=dict)
    """Counts of rules under numbers that are in force no more, by name."""
    fading: Mapping[Parameters, int] = field(default_factory=dict)
    """Numbers in force until the latest switch; packets under way may still count there. Not in ``past``."""
    sets: Mapping[SetKey, int] = field(default_factory=dict)
    """The numbers of the sets of prefixes that go with the rule set."""

    def followed_by(
        self,
        numbering: Numbering,
        groups: Mapping[Cell, int],
        past: Mapping[str, Sequence[Count]],
        names: Collection[str],
        sets: Mapping[SetKey, int] = MappingProxyType({}),
    ) -> Known:
        """Return what is known after a switch.

        ``past`` has what was fading; of it, what rules of other ``names`` have counted is forgotten: those of the rules
        in force, and of the rules that come back if nobody confirms the switch.
        """
        numbers = self.numbering.rules.numbers
        gone = numbers.keys() - numbering.rules.numbers.keys()
        past = {name: counts for name, counts in past.items() if name in names}
        return Known(numbering, groups, past, {bucket: numbers[bucket] for bucket in gone}, sets)


def to_json(generation: int, before: Known, after: Known) -> dict[str, Any]:
    """Return what to remember of the switch to ``generation``, from ``before`` to ``after``."""
    return {"generation": generation, "before": _known_row(before), "after": _known_row(after)}


def from_json(document: Mapping[str, Any], generation: int, capacity: int) -> Known:
    """Return what is known where the kernel's generation is ``generation``, and tables have ``capacity`` rules."""
    before, after = (_known(document[moment], capacity) for moment in ("before", "after"))
    if generation >= document["generation"]:
        return after
    # It did not come to the switch. What it was to give numbers has lost them, but they are given to nobody else.
    rules, shared = before.numbering.rules, before.numbering.shared
    last_rule, last_shared = after.numbering.rules.last, after.numbering.shared.last
    return replace(before, numbering=Numbering(replace(rules, last=last_rule), replace(shared, last=last_shared)))


def _known_row(known: Known) -> dict[str, Any]:
    rules, shared = known.numbering.rules, known.numbering.shared
    return {
        "rules": [_rule_row(bucket, number) for bucket, number in rules.numbers.items()],
        "last_rule": rules.last,
        "shared": [[rule, str(prefix), number] for (rule, prefix), number in shared.numbers.items()],
        "last_shared": shared.last,
        "groups": [[*cell, number] for cell, number in known.groups.items()],
        "past": {name: [list(count) for count in counts] for name, counts in known.past.items()},
        "fading": [_rule_row(bucket, number) for bucket, number in known.fading.items()],
        "sets": [[*key, number] for key, number in known.sets.items()],
    }


def _known(row: Mapping[str, Any], capacity: int) -> Known:
    shared = {(rule, ip_network(prefix)): number for rule, prefix, number in row["shared"]}
    return Known(
        Numbering(
            Numbers(capacity, dict(map(_rule, row["rules"])), row["last_rule"]),
            Numbers(capacity, shared, row["last_shared"]),
        ),
        {(interface, traffic): number for interface, traffic, number in row["groups"]},
        {name: [Count(*count) for count in counts] for name, counts in row["past"].items()},
        dict(map(_rule, row["fading"])),
        {(name, action): number for name, action, number in row["sets"]},
    )


def _rule_row(bucket: Parameters, number: int) -> list[Any]:
    return [bucket.name, bucket.packets, bucket.octets, bucket.bucket, number]


def _rule(row: Sequence[Any]) -> tuple[Parameters, int]:
    name, packets, octets, bucket, number = row
    return Parameters(name, packets and Meter(*packets), octets and Meter(*octets), bucket), number
