"""What was changed at run time is the difference to the file."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from cnf.limits.changes import read_change
from cnf.limits.overrides import Effective, Overrides, apply, difference
from cnf.limits.table import Limits
from tests.unit.changing import EMPTY, FILE, changes, limits, set_rule
from tests.unit.rule_sets import MODES, PREFIXES, networks, rule, rule_sets


@st.composite
def overrides_of(draw: st.DrawFn, other: Limits) -> Overrides:
    """Draw overrides with the rules and lists of ``other`` limits, which need not be those that the file has."""
    lists = st.lists(st.sampled_from([*other.allow, *other.deny]) if other.allow + other.deny else PREFIXES)
    return Overrides(
        mode=draw(st.none() | MODES),
        allow_added=tuple(draw(lists)),
        allow_removed=tuple(draw(lists)),
        deny_added=tuple(draw(lists)),
        deny_removed=tuple(draw(lists)),
        rules=other.rules,
        removed=tuple(draw(st.lists(st.sampled_from([f"r{index}" for index in range(8)])))),
        protected=draw(st.just(networks("198.51.100.7")) | st.just(())),
    )


@st.composite
def files_with_overrides(draw: st.DrawFn) -> tuple[Limits, Overrides]:
    """Draw the file's limits, and overrides of some of their parts and of some that the file does not have."""
    file, (other, _) = draw(rule_sets())[0], draw(rule_sets())
    known = [each for each in file.rules if draw(st.booleans())]
    own = tuple({each.name: each for each in (*other.rules, *known)}.values())
    lists = attrs.evolve(other, rules=own, allow=other.allow + file.allow, deny=other.deny + file.deny)
    return file, draw(overrides_of(lists))


# What is in effect


def test_without_a_change_the_file_is_in_effect() -> None:
    """Nothing is added, and nothing is to be saved."""
    found = apply(FILE, EMPTY)
    assert found == Effective(FILE)
    assert difference(FILE, found) == EMPTY


def test_the_difference_names_each_part() -> None:
    """What was changed or added at run time is told from what the file says; what is gone is named."""
    overrides = changes(
        {"op": "mode", "mode": "enforce"},
        {"op": "allow_add", "prefix": "fd00::/8"},
        {"op": "deny_remove", "prefix": "192.0.2.0/24"},
        {"op": "remove", "name": "dns"},
        set_rule("default", packets_per_second=1),
    )
    assert limits(overrides).deny == networks("2001:db8::/32")
    assert overrides == Overrides(
        mode="enforce",
        allow_added=networks("fd00::/8"),
        deny_removed=networks("192.0.2.0/24"),
        rules=(attrs.evolve(FILE.rules[0], packets_per_second=1),),
        removed=("dns",),
    )


def test_changed_rule_keeps_its_place_and_a_new_one_goes_to_the_end() -> None:
    """The order, which decides between equals, is the file's."""
    overrides = changes(
        set_rule("new", prefixes=["::/0"], bits_per_second="1G"),
        set_rule("default", packets_per_second=1),
        set_rule("new", packets_per_second=1),
    )
    assert [each.name for each in limits(overrides).rules] == ["default", "dns", "new"]


def test_what_was_removed_comes_back_to_its_place() -> None:
    """A restart, which goes by the difference alone, would put it there, too."""
    found = Effective(FILE)
    for body in (
        {"op": "remove", "name": "default"},
        set_rule("default", prefixes=["::/0"], packets_per_second=1),
        {"op": "deny_remove", "prefix": "192.0.2.0/24"},
        {"op": "deny_add", "prefix": "192.0.2.0/24"},
    ):
        found, _ = read_change(body).after(found, FILE)
    assert [each.name for each in found.limits.rules] == ["default", "dns"]
    assert found.limits.deny == FILE.deny


def test_override_without_an_object_is_harmless() -> None:
    """The file may have lost what was removed, and may have got what was added."""
    file = Limits(mode="enforce", allow=networks("10.0.0.0/8"), rules=(rule("dns", "::/0"),))
    overrides = Overrides(
        mode="enforce",
        allow_added=file.allow,
        deny_removed=networks("192.0.2.0/24"),
        rules=file.rules,
        removed=("default",),
    )
    found = apply(file, overrides)
    assert found == Effective(file)
    assert difference(file, found) == EMPTY


@given(files_with_overrides())
def test_the_difference_to_the_file_is_all_that_counts(drawn: tuple[Limits, Overrides]) -> None:
    """Overrides less what they do not change have the same effect, and cannot become less."""
    file, overrides = drawn
    found = apply(file, overrides)
    less = difference(file, found)
    assert apply(file, less) == found
    assert difference(file, apply(file, less)) == less


@given(rule_sets(), rule_sets())
def test_any_limits_can_be_made_of_any_file(file: tuple[Limits, Any], wanted: tuple[Limits, Any]) -> None:
    """The overrides hold all that tells the wanted limits from the file's."""
    made = apply(file[0], difference(file[0], Effective(wanted[0]))).limits
    assert made.mode == wanted[0].mode
    assert set(made.allow) == set(wanted[0].allow)
    assert set(made.deny) == set(wanted[0].deny)
    assert {each.name: each for each in made.rules} == {each.name: each for each in wanted[0].rules}
