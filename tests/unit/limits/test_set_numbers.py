"""The numbers of sets: kept as long as a set is there, and not given to another one at once."""

from __future__ import annotations

from typing import Final

from cnf.limits.set_numbers import SetKey, SetsInKernel, set_place
from cnf.limits.table import Limits, PrefixSet

A: Final[SetKey] = ("a", "deny")
B: Final[SetKey] = ("b", "allow")
C: Final[SetKey] = ("c", "deny")


def test_a_set_keeps_its_number() -> None:
    """A number that was in use is free for the next but one."""
    first = SetsInKernel().followed_by([A, B])
    second = first.followed_by([B, C])
    third = second.followed_by([C, A])
    assert (first.bank, first.numbers) == (1, {A: 0, B: 1})
    assert (second.bank, second.numbers) == (2, {B: 1, C: 2})
    assert (third.bank, third.numbers) == (1, {C: 2, A: 0})
    assert third.followed_by([]) == SetsInKernel()


def test_settings_are_what_the_limits_say() -> None:
    """By each set's mode, or else that of the limits; a set that is not in the kernel yet is left out."""
    there = SetsInKernel(2, {A: 0, B: 5, C: 9})
    sets = (
        PrefixSet("a", "/f", "deny", "enforce"),
        PrefixSet("b", "/f", "allow", "enforce"),
        PrefixSet("c", "/f", "deny"),
        PrefixSet("d", "/f", "deny"),
    )
    assert there.settings(Limits(sets=sets)) == {
        "sets": 2,
        "sets_allow": 1 << 5,
        "sets_deny": 1,
        "sets_shadow": 1 << 9,
    }
    assert there.settings(Limits(mode="off", sets=sets[2:]))["sets"] == 0


def test_each_number_has_a_place_of_its_own() -> None:
    """Below 64, as the counters are."""
    assert sorted(map(set_place, range(64))) == [*range(64)]
