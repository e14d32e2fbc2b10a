"""The records of a drain go out evenly, and never so many at once that a collector's buffer is full."""

from __future__ import annotations

import pytest

from cnf.export.pace import AT_ONCE, SHORTEST, Pace

PER_MESSAGE = 15


def sent(records: int, seconds: float, late: float = 0.0) -> list[float]:
    """Return when each message goes, where one takes no time; ``late`` passes before the first."""
    pace, now, times = Pace(records), late, []
    for _ in range(0, records, PER_MESSAGE):
        times.append(now)
        now += pace.after(PER_MESSAGE, now, seconds)
    return times


def most_within(times: list[float], seconds: float) -> int:
    """Return the most messages that go within any so many seconds."""
    return max(sum(first <= each < first + seconds for each in times[at : at + 2000]) for at, first in enumerate(times))


def test_few_messages_are_spread_over_the_time() -> None:
    """Each waits its share; after the last nothing is waited for."""
    assert sent(4 * PER_MESSAGE, 4.0) == pytest.approx([0, 1, 2, 3], abs=0.01)
    assert Pace(PER_MESSAGE).after(PER_MESSAGE, 0.0, 4.0) == 0


def test_many_messages_go_in_small_groups() -> None:
    """A million records in four seconds: no group fills a buffer, and all are in time."""
    times = sent(1_000_000, 4.0)

    assert times[-1] == pytest.approx(4.0, abs=0.01)
    assert most_within(times[::100] + times[:5000], 0.001) < 60


def test_what_is_late_catches_up_at_a_bounded_rate() -> None:
    """Behind its deadline a drain goes as fast as a collector can be trusted with, in small groups."""
    times = sent(100_000, 4.0, late=10.0)

    assert most_within(times, 1e-6) <= AT_ONCE + 14
    assert times[-1] - times[0] == pytest.approx(len(times) * SHORTEST, rel=0.05)


def test_what_was_held_up_is_made_up_for() -> None:
    """Three seconds in which nothing could be sent leave one for all."""
    times = sent(100_000, 4.0, late=3.0)

    assert times[-1] == pytest.approx(4.0, abs=0.01)


def test_a_deadline_that_comes_nearer_is_kept() -> None:
    """What was to wait for a thousand seconds goes at once when the daemon stops."""
    pace = Pace(10 * PER_MESSAGE)
    assert pace.after(PER_MESSAGE, 0.0, 1000.0) == pytest.approx(100)

    assert pace.after(PER_MESSAGE, 1.0, 1.0) < 0.002
