"""Lines that come too often are left out and counted, those of other kinds are not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cnf.process.repeats import BURST, MOST_KINDS, PER_SECOND, Repeats


def test_a_flood_is_a_burst_and_then_a_trickle() -> None:
    """Of 40,000 lines in 4 seconds, a hundred and four are written, and those after the burst say how many were not."""
    repeats = Repeats()
    answers = [repeats.admit("flood", second / 10_000) for second in range(40_001)]
    assert answers[:BURST] == [0] * BURST
    late = [answer for answer in answers[BURST:] if answer is not None]
    assert len(late) == 4 * PER_SECOND
    assert sum(late) + len(late) + BURST == len(answers)


def test_others_are_let_through_beside_a_flood() -> None:
    """A flood of one kind of line takes nothing from another."""
    repeats = Repeats()
    for _ in range(10 * BURST):
        repeats.admit(("connection not accepted", ""), 5.0)
    assert repeats.admit(("xdp attached", "eth0"), 5.0) == 0
    assert repeats.admit(("xdp attached", "eth1"), 5.0) == 0


def test_after_a_pause_a_burst_is_written_again() -> None:
    """Once a kind has not come for long enough, so many of it are written at once as at first, and no more."""
    repeats = Repeats()
    for _ in range(10 * BURST):
        repeats.admit("kind", 0.0)
    later = [repeats.admit("kind", 1e6) for _ in range(2 * BURST)]
    assert later == [9 * BURST, *[0] * (BURST - 1), *[None] * BURST]


def test_kinds_without_end_cost_no_memory() -> None:
    """The kinds that came last are remembered, whatever number there were."""
    repeats = Repeats()
    for _ in range(BURST):
        repeats.admit("first", 0.0)
    for number in range(MOST_KINDS - 1):
        repeats.admit(number, 0.0)
    assert repeats.admit("first", 0.0) is None
    for number in range(MOST_KINDS, 3 * MOST_KINDS):
        repeats.admit(number, 0.0)
    assert repeats.admit("first", 0.0) == 0


@given(st.lists(st.floats(0, 10), max_size=400))
def test_never_more_than_burst_and_rate(gaps: list[float]) -> None:
    """However lines come, no more are written than a burst and one a second, and none is counted twice."""
    repeats, now, written, counted = Repeats(), 0.0, 0, 0
    for gap in gaps:
        now += gap
        left_out = repeats.admit("kind", now)
        if left_out is not None:
            written += 1
            counted += 1 + left_out
        assert written <= BURST + now * PER_SECOND
    assert counted <= len(gaps)
