"""Promises of cnf.limits.confirmation: what waits for a confirmation, until when, and what comes back without one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.errors import UsageError
from cnf.limits.changes import read_change
from cnf.limits.confirmation import Pending, RunTime
from cnf.limits.overrides import Effective
from cnf.limits.table import Limits, Network
from tests.unit.rule_sets import networks

FILE = Limits()
BEFORE = Effective(Limits(deny=networks("192.0.2.0/24")))
START = RunTime(BEFORE)
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


def test_change_without_a_time_stays() -> None:
    """What nobody wants to be confirmed waits for nothing."""
    state = enforced(100, confirm=None)
    assert state == RunTime(Effective(Limits(mode="enforce", deny=networks("192.0.2.0/24"))))
    assert state.at(1e9) is state


def test_change_is_in_effect_while_it_waits() -> None:
    """A change with a time holds at once, and tells how long it waits, for whom and what it is."""
    state = enforced(100, confirm=60)
    assert state.effective.limits.mode == "enforce"
    assert state.pending == Pending(BEFORE, 160, "root", ("mode enforce",))
    assert [state.pending.seconds_left(now) for now in (100, 159.5, 161)] == [60, 0.5, 0]


def test_silence_brings_back_what_was_before() -> None:
    """At the deadline, and not before, the previous rules come back."""
    state = enforced(100, confirm=60)
    assert state.at(159.9) is state
    assert state.at(160) == START


def test_confirmed_change_stays() -> None:
    """After a confirmation nothing waits."""
    waiting = enforced(100, confirm=60)
    state = after(waiting, 159.9, "confirm")
    assert state == RunTime(waiting.effective)
    assert state.at(1e9) is state
    assert confirmed(waiting, 159.9) == ("confirm mode enforce",)


def test_later_changes_wait_with_it() -> None:
    """One confirmation is for all, and so is the lack of one; only a new time sets the deadline anew."""
    state = after(enforced(100, confirm=60), 110, "deny_add", "uid 7", prefix="::/0")
    words = ("mode enforce", "deny add ::/0")
    assert state.pending == Pending(BEFORE, 160, "uid 7", words)
    assert state.at(160) == START

    longer = after(state, 150, "reset", confirm=30)
    assert longer.pending == Pending(BEFORE, 180, "root", (*words, "reset"))
    assert longer.at(179) is longer
    assert longer.at(180) == START
    assert confirmed(longer, 179) == ("confirm mode enforce", "confirm deny add ::/0", "confirm reset")


def test_refused_change_leaves_what_waits_alone() -> None:
    """A mistake in a later change neither confirms nor prolongs the first."""
    state = enforced(100, confirm=60)
    with pytest.raises(UsageError, match="already has"):
        after(state, 110, "deny_add", prefix="192.0.2.0/24", confirm=600)
    assert state.pending
    assert state.pending.deadline == 160


def test_confirmation_that_comes_too_late_is_told_so() -> None:
    """Nobody believes to have confirmed what has been undone, even if the owner has not yet looked at the clock."""
    state = enforced(100, confirm=60)
    for late in (state, state.at(160), START):
        with pytest.raises(UsageError, match="nothing waits for a confirmation"):
            after(late, 160, "confirm")


def test_change_after_the_deadline_does_not_build_on_what_is_undone() -> None:
    """A change that comes before the owner has looked at the clock is one to the previous rules."""
    state = after(enforced(100, confirm=60), 160, "deny_add", prefix="::/0")
    assert state == RunTime(Effective(Limits(deny=networks("192.0.2.0/24", "::/0"))))


def test_protection_ends_with_the_confirmation() -> None:
    """Even a change that does not wait protects its author until it is confirmed."""
    state = after(START, 100, "mode", mode="enforce", ssh_connection=PEER)
    assert state.pending is None
    assert state.effective.protected == networks("198.51.100.7")
    assert confirmed(state, 1e9) == ("protect 198.51.100.7 no more",)
    assert after(state, 1e9, "confirm").effective.protected == ()


def test_protection_goes_with_the_change_that_is_undone() -> None:
    """What comes back is what was before, with whom it protected."""
    state = after(START, 100, "mode", mode="enforce", ssh_connection=PEER, confirm=60)
    assert state.effective.protected == networks("198.51.100.7")
    assert state.at(160) == START


Step = tuple[dict[str, object], int | None, int]
STEPS = st.tuples(
    st.sampled_from([{"op": "reset"}, {"op": "mode", "mode": "off"}, {"op": "mode", "mode": "enforce"}]),
    st.none() | st.integers(1, 20),
    st.integers(0, 10),
)


@given(st.lists(STEPS, min_size=1))
def test_without_a_confirmation_nothing_that_waited_is_left(
    steps: list[tuple[dict[str, object], int | None, int]],
) -> None:
    """However changes follow each other, what was in effect when nothing waited is what silence brings back."""
    state, settled, now = START, START, 0.0
    for body, confirm, gap in steps:
        now += gap
        state, _ = state.after(read_change(body | {"confirm": confirm}), FILE, "root", now)
        if state.pending is None:
            settled = state
        else:
            assert state.pending.before == settled.effective
            assert state.pending.deadline > now
    assert state.at(now + 20) == settled


def test_protection_ends_with_the_session() -> None:
    """Who was logged in and is not any more is protected no more, nor after a roll-back; others are until confirmed."""
    state = after(
        RunTime(Effective(FILE, protected=networks("198.51.100.8"))), 0, "reset", ssh_connection=PEER, confirm=60
    )
    here, gone = (networks("198.51.100.7", "203.0.113.1"), networks("203.0.113.1"))

    present = logged_in(state, here)
    assert present.effective.protected == networks("198.51.100.8", "198.51.100.7")
    assert logged_in(present, here) == present
    changed = after(present, 1, "mode", mode="enforce")
    ended = logged_in(changed, gone)
    assert ended.effective.protected == networks("198.51.100.8")
    assert logged_in(ended, ()) == ended
    both = RunTime(Effective(FILE, protected=networks("198.51.100.7")), Pending(present.effective, 60, "root", ()))
    assert logged_in(logged_in(both, here), gone).at(60).effective.protected == networks("198.51.100.8")


def test_protection_that_was_confirmed_away_stays_so() -> None:
    """A confirmation ends it for those who are logged in as well."""
    state = logged_in(after(START, 0, "mode", mode="enforce", ssh_connection=PEER), networks("198.51.100.7"))
    confirmed = after(state, 1, "confirm")
    assert (confirmed.effective.protected, confirmed.effective.sessions) == ((), ())
    assert logged_in(confirmed, networks("198.51.100.7")) == confirmed
