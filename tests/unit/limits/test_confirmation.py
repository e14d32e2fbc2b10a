"""Promises of cnf.limits.confirmation: what waits for a confirmation, until when, and what comes back without one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from cnf.errors import UsageError
from cnf.limits.changes import read_change
from cnf.limits.confirmation import RunTime, unchanged
from cnf.limits.overrides import Effective
from cnf.limits.table import Limits, Network, PrefixSet
from tests.unit.rule_sets import networks, rule

FILE = Limits()
BEFORE = Effective(Limits(deny=networks("192.0.2.0/24")))
START = unchanged(BEFORE)
PEER = "198.51.100.7 51234 192.0.2.1 22"


def after(state: RunTime, now: float, op: str, who: str = "root", **keys: object) -> RunTime:
    """Return the state after a change at the time ``now``."""
    return state.after(read_change({"op": op, **keys}), FILE, who, now)[0]


def enforced(now: float, confirm: float | None) -> RunTime:
    """Return the state after a change of mode."""
    return after(START, now, "mode", mode="enforce", confirm=confirm)


def logged_in(state: RunTime, sessions: tuple[Network, ...]) -> RunTime:
    """Return the state after a look at who is logged in."""
    return state.each(lambda effective: effective.logged_in(sessions))


def confirmed(state: RunTime, now: float) -> tuple[str, ...]:
    """Return what a confirmation at the time ``now`` confirms, in words."""
    return state.after(read_change({"op": "confirm"}), FILE, "root", now)[1]


def waits(state: RunTime) -> list[tuple[int, str, float | None]]:
    """Return the changes that wait, each with its number and until when."""
    return [(each.number, each.words, each.deadline) for each in state.pending]


def test_change_without_a_time_stays() -> None:
    """What nobody wants to be confirmed waits for nothing."""
    state = enforced(100, confirm=None)
    assert state == unchanged(Effective(Limits(mode="enforce", deny=networks("192.0.2.0/24"))))
    assert state.at(1e9, FILE) is state


def test_change_is_in_effect_while_it_waits() -> None:
    """A change with a time holds at once, and tells how long it waits, for whom and what it is."""
    state = enforced(100, confirm=60)
    assert state.effective.limits.mode == "enforce"
    (change,) = state.pending
    assert (change.number, change.who, change.words) == (1, "root", "mode enforce")
    assert [change.seconds_left(now) for now in (100, 159.5, 161)] == [60, 0.5, 0]


def test_silence_brings_back_what_was_before() -> None:
    """At the deadline, and not before, the previous rules come back."""
    state = enforced(100, confirm=60)
    assert state.at(159.9, FILE) is state
    undone = state.at(160, FILE)
    assert (undone.effective, undone.base, undone.changes) == (BEFORE, BEFORE, ())


def test_confirmed_change_stays() -> None:
    """After a confirmation nothing waits."""
    waiting = enforced(100, confirm=60)
    state = after(waiting, 159.9, "confirm")
    assert (state.effective, state.base, state.changes) == (waiting.effective, waiting.effective, ())
    assert state.at(1e9, FILE) is state
    assert confirmed(waiting, 159.9) == ("confirm mode enforce",)


def test_each_change_waits_for_itself() -> None:
    """A plain one in between waits for nothing, and stays when those before it are undone."""
    state = after(enforced(100, confirm=60), 110, "deny_add", "uid 7", prefix="::/0")
    assert waits(state) == [(1, "mode enforce", 160)]
    state = after(state, 120, "allow_add", prefix="::/0", confirm=10)
    assert waits(state) == [(1, "mode enforce", 160), (3, "allow add ::/0", 130)]
    limits = state.at(130, FILE).effective.limits
    assert (limits.mode, limits.allow, limits.deny) == ("enforce", (), networks("192.0.2.0/24", "::/0"))
    left = state.at(130, FILE).at(160, FILE)
    assert left.effective.limits == evolve(limits, mode="shadow")
    assert (left.base, left.changes) == (left.effective, ())


def test_one_of_several_is_confirmed() -> None:
    """The others go on waiting, and protection lasts until nothing does."""
    state = after(enforced(100, confirm=60), 100, "allow_add", prefix="::/0", confirm=60, ssh_connection=PEER)
    one = after(state, 101, "confirm", number=1)
    assert waits(one) == [(2, "allow add ::/0", 160)]
    assert one.effective == state.effective
    assert one.at(160, FILE).effective.limits == enforced(0, confirm=None).effective.limits
    assert state.after(read_change({"op": "confirm", "number": 2}), FILE, "root", 101)[1] == ("confirm allow add ::/0",)
    assert after(one, 102, "confirm").effective == evolve(state.effective, protected=())
    with pytest.raises(UsageError, match="no change 1 waits"):
        after(one, 102, "confirm", number=1)


def test_what_was_built_on_an_undone_change_goes_with_it() -> None:
    """A change that could not be made without it is as if it had been refused."""
    state = after(START, 100, "deny_add", prefix="::/0", confirm=60)
    state = after(after(state, 101, "deny_remove", prefix="::/0"), 102, "mode", mode="enforce")
    undone = state.at(160, FILE)
    assert undone.lost == ("deny remove ::/0",)
    assert undone.effective == evolve(BEFORE, limits=evolve(BEFORE.limits, mode="enforce"))


def test_refused_change_leaves_what_waits_alone() -> None:
    """A mistake in a later change neither confirms nor prolongs the first."""
    state = enforced(100, confirm=60)
    with pytest.raises(UsageError, match="already has"):
        after(state, 110, "deny_add", prefix="192.0.2.0/24", confirm=600)
    assert waits(state) == [(1, "mode enforce", 160)]


def test_confirmation_that_comes_too_late_is_told_so() -> None:
    """Nobody believes to have confirmed what has been undone, even if the owner has not yet looked at the clock."""
    state = enforced(100, confirm=60)
    for late in (state, state.at(160, FILE), START):
        with pytest.raises(UsageError, match="nothing waits for a confirmation"):
            after(late, 160, "confirm")


def test_change_after_the_deadline_does_not_build_on_what_is_undone() -> None:
    """A change that comes before the owner has looked at the clock is one to the previous rules."""
    state = after(enforced(100, confirm=60), 160, "deny_add", prefix="::/0")
    assert state.effective == Effective(Limits(deny=networks("192.0.2.0/24", "::/0")))
    assert state.changes == ()


def test_protection_ends_with_the_confirmation() -> None:
    """Even a change that does not wait protects its author until it is confirmed."""
    state = after(START, 100, "mode", mode="enforce", ssh_connection=PEER)
    assert state.pending == ()
    assert state.effective.protected == networks("198.51.100.7")
    assert confirmed(state, 1e9) == ("protect 198.51.100.7 no more",)
    assert after(state, 1e9, "confirm").effective.protected == ()


def test_protection_goes_with_the_change_that_is_undone() -> None:
    """What comes back is what was before, with whom it protected."""
    state = after(START, 100, "mode", mode="enforce", ssh_connection=PEER, confirm=60)
    assert state.effective.protected == networks("198.51.100.7")
    assert state.at(160, FILE).effective == BEFORE


BODIES: list[dict[str, object]] = [
    {"op": "reset"},
    {"op": "mode", "mode": "off"},
    {"op": "mode", "mode": "enforce"},
    {"op": "deny_add", "prefix": "::/0"},
    {"op": "deny_remove", "prefix": "::/0"},
    {"op": "allow_add", "prefix": "::/0"},
    {"op": "set", "rule": {"name": "r", "prefixes": ["::/0"], "packets_per_second": 1}},
    {"op": "set", "rule": {"name": "r", "mode": "off"}},
    {"op": "remove", "name": "r"},
]
STEPS = st.tuples(st.sampled_from(BODIES), st.none() | st.integers(1, 20), st.integers(0, 10))


@given(st.lists(STEPS, min_size=1, max_size=8))
def test_an_undone_change_is_as_if_it_had_never_been_made(
    steps: list[tuple[dict[str, object], int | None, int]],
) -> None:
    """However changes follow each other, what is left in the end is what the plain ones alone make of the start."""
    state, made, now = START, [], 0.0
    for body, confirm, gap in steps:
        now += gap
        change = read_change(body | {"confirm": confirm})
        with suppress(UsageError):
            state, _ = state.after(change, FILE, "root", now)
            made.append((change, confirm))
    alone = BEFORE
    for change, confirm in made:
        if confirm is None:
            with suppress(UsageError):
                alone, _ = change.after(alone, FILE)
    left = state.at(now + 20, FILE)
    assert (left.effective, left.base, left.changes) == (alone, alone, ())


def test_protection_ends_with_the_session() -> None:
    """Who was logged in and is not any more is protected no more, nor after a roll-back; others are until confirmed."""
    state = after(
        unchanged(Effective(FILE, protected=networks("198.51.100.8"))), 0, "reset", ssh_connection=PEER, confirm=60
    )
    here, gone = (networks("198.51.100.7", "203.0.113.1"), networks("203.0.113.1"))

    present = logged_in(state, here)
    assert present.effective.protected == networks("198.51.100.8", "198.51.100.7")
    assert logged_in(present, here) == present
    changed = after(present, 1, "mode", mode="enforce")
    ended = logged_in(changed, gone)
    assert ended.effective.protected == networks("198.51.100.8")
    assert logged_in(ended, ()) == ended
    assert ended.at(60, FILE).effective.protected == networks("198.51.100.8")


def test_protection_that_was_confirmed_away_stays_so() -> None:
    """A confirmation ends it for those who are logged in as well."""
    state = logged_in(after(START, 0, "mode", mode="enforce", ssh_connection=PEER), networks("198.51.100.7"))
    confirmed = after(state, 1, "confirm")
    assert (confirmed.effective.protected, confirmed.effective.sessions) == ((), ())
    assert logged_in(confirmed, networks("198.51.100.7")) == confirmed


def test_protection_from_a_set_outlasts_the_confirmation() -> None:
    """Of those who are logged in, whom a set denies is protected until the session ends; the words say so."""
    here = networks("198.51.100.7", "203.0.113.1")
    state = logged_in(unchanged(BEFORE).protecting(here), here)
    confirm, staying = read_change({"op": "confirm"}), here[:1]

    state, words = state.after(confirm, FILE, "root", 1, staying=staying)

    assert words == ("protect 198.51.100.7 still, a set denies it", "protect 203.0.113.1 no more")
    assert (state.effective.protected, state.base.protected) == (staying, staying)
    assert state.after(confirm, FILE, "root", 2, staying=staying) == (state, words[:1])
    assert logged_in(state, ()).effective.protected == ()


@pytest.mark.parametrize(
    ("limits", "protected"),
    [
        (Limits(), ()),
        (Limits(deny=networks("192.0.2.0/24")), networks("198.51.100.7")),
        (Limits(mode="enforce", rules=(rule("r", "::/0"),)), networks("198.51.100.7")),
        (Limits(mode="enforce", sets=(PrefixSet("s", "/s", "allow"),)), ()),
        (Limits(mode="enforce", sets=(PrefixSet("s", "/s", "deny"),)), networks("198.51.100.7")),
        (Limits(mode="shadow", rules=(rule("r", "::/0"),), sets=(PrefixSet("s", "/s", "deny"),)), ()),
    ],
)
def test_clients_are_protected_where_limits_drop_anything(limits: Limits, protected: tuple[Network, ...]) -> None:
    """They are from a list, a rule or a set that can drop their packets, before and after a roll-back."""
    state = unchanged(Effective(limits)).protecting(networks("198.51.100.7"))
    assert (state.effective.protected, state.base.protected) == (protected, protected)
