"""What a daemon writes down of its rule sets is what the next one knows, on whichever side of the switch it is read."""

from __future__ import annotations

import json
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import VERDICTS
from cnf.counts import Count
from cnf.limiter.handover import Known, from_json, to_json
from cnf.limits.groups import Cell
from cnf.limits.layout import Numbering, Numbers, Parameters, no_rules
from cnf.limits.table import Network
from cnf.limits.token_bucket import Meter

CAPACITY = 64
GENERATION = 7
PREFIXES: list[Network] = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
meters = st.none() | st.builds(Meter, st.integers(1, 1 << 40), st.integers(1, 1 << 40))
buckets = st.builds(Parameters, st.sampled_from("abcdefgh"), meters, meters, st.sampled_from(["source", "prefix"]))
rule_sets = st.sets(buckets, max_size=8)
cells: st.SearchStrategy[Cell] = st.tuples(st.sampled_from(["", "eth0"]), st.sampled_from(["tcp", "udp"]))
groups = st.dictionaries(cells, st.integers(0, 15), max_size=4)
counts = st.lists(
    st.builds(Count, st.integers(0, 1 << 63), st.integers(0, 1 << 63)), min_size=len(VERDICTS), max_size=len(VERDICTS)
)
pasts = st.dictionaries(st.sampled_from("abcdefgh"), counts)
sets = st.tuples(rule_sets, groups, pasts)


def follow(before: Known, rules: set[Parameters], groups: dict[Cell, int], past: dict[str, list[Count]]) -> Known:
    """Return what is known after a switch to ``rules``, each with a shared bucket a prefix if it has shared ones."""
    numbers = before.numbering.rules.renewed(sorted(rules, key=repr))
    keys = [(numbers.numbers[rule], prefix) for rule in rules if rule.bucket == "prefix" for prefix in PREFIXES]
    return before.followed_by(Numbering(numbers, before.numbering.shared.renewed(keys)), groups, past, past)


def written(before: Known, after: Known, generation: int) -> Known:
    """Return what is read back of a switch to GENERATION where the kernel has ``generation``."""
    document = json.loads(json.dumps(to_json(GENERATION, before, after)))
    return from_json(document, generation, CAPACITY)


def first(rules: set[Parameters], groups: dict[Cell, int], past: dict[str, list[Count]]) -> Known:
    """Return what is known after the first switch."""
    return follow(Known(no_rules(CAPACITY)), rules, groups, past)


@given(sets, sets)
def test_after_the_switch_all_is_known_again(
    one: tuple[set[Parameters], dict[Cell, int], dict[str, list[Count]]],
    other: tuple[set[Parameters], dict[Cell, int], dict[str, list[Count]]],
) -> None:
    """Numbers, groups, past counts and what is fading are just those of the rule set that was switched to."""
    before = first(*one)
    after = follow(before, *other)

    assert written(before, after, GENERATION) == after


@given(sets, sets)
def test_before_the_switch_the_rules_are_those_before(
    one: tuple[set[Parameters], dict[Cell, int], dict[str, list[Count]]],
    other: tuple[set[Parameters], dict[Cell, int], dict[str, list[Count]]],
) -> None:
    """If it did not come to the switch, all is as it was, but for the numbers that were to be given."""
    before = first(*one)
    after = follow(before, *other)

    known = written(before, after, GENERATION - 1)

    numbering = known.numbering
    assert numbering.rules.numbers == before.numbering.rules.numbers
    assert numbering.shared.numbers == before.numbering.shared.numbers
    assert (known.groups, known.past, known.fading) == (before.groups, before.past, before.fading)
    assert (numbering.rules.last, numbering.shared.last) == (after.numbering.rules.last, after.numbering.shared.last)


@given(sets, sets, rule_sets)
def test_a_number_that_was_to_be_given_is_given_to_nobody_else(
    one: tuple[set[Parameters], dict[Cell, int], dict[str, list[Count]]],
    other: tuple[set[Parameters], dict[Cell, int], dict[str, list[Count]]],
    then: set[Parameters],
) -> None:
    """Whether it came to the switch or not: what is numbered next has numbers that no source's slot can hold."""
    before = first(*one)
    after = follow(before, *other)
    given_out = {*before.numbering.rules.numbers.values(), *after.numbering.rules.numbers.values()}

    for generation in (GENERATION - 1, GENERATION):
        known = written(before, after, generation)
        renewed = known.numbering.rules.renewed(sorted(then, key=repr))
        fresh = {renewed.numbers[rule] for rule in renewed.fresh(known.numbering.rules)}
        assert fresh.isdisjoint(given_out)


@given(rule_sets)
def test_a_first_rule_set_that_was_never_switched_to_is_not_known(rules: set[Parameters]) -> None:
    """Where no rule set was in force before, none is."""
    after = first(rules, {}, {})
    known = from_json(to_json(1, Known(no_rules(CAPACITY)), after), 0, CAPACITY)

    assert (known.numbering.rules.numbers, known.numbering.shared.numbers) == ({}, {})


def test_numbers_of_other_places_are_kept_apart() -> None:
    """The numbering goes on with the capacity that the tables have."""
    known = from_json(to_json(1, Known(no_rules(8)), Known(Numbering(Numbers(8), Numbers(8)))), 1, 8)

    assert known.numbering == no_rules(8)
