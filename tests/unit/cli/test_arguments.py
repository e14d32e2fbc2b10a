"""Times of the command line become times that the daemon understands."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from cnf.cli import arguments
from cnf.cli.arguments import lasting, until


@pytest.mark.parametrize(("text", "least", "most"), [("1s", 1, 3), ("1h", 3600, 3602), ("100ms", 0.1, 2)])
def test_a_duration_is_over_no_sooner_than_it_says(text: str, least: float, most: float) -> None:
    """Its end is in whole seconds."""
    now = datetime.now(UTC)
    end = datetime.fromisoformat(lasting(text))
    assert timedelta(seconds=least) <= end - now <= timedelta(seconds=most)


@pytest.mark.parametrize("seconds", [-90, 90])
def test_a_time_of_day_comes_within_a_day(seconds: int) -> None:
    """It is local time; one that is over today is tomorrow's."""
    now = datetime.now().astimezone()
    asked = now + timedelta(seconds=seconds)
    end = datetime.fromisoformat(until(f"{asked:%H:%M:%S}"))
    assert timedelta(0) < end - now <= timedelta(days=1)
    assert f"{end.astimezone():%H:%M:%S}" == f"{asked:%H:%M:%S}"


@pytest.mark.parametrize("text", ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00"])
def test_a_date_and_time_is_taken_as_it_is(text: str) -> None:
    """With its zone."""
    assert until(text) == "2026-03-01T12:00:00Z"


@pytest.mark.parametrize(
    ("now", "clock", "end"),
    [
        ("2026-03-28T22:00Z", "12:00", "2026-03-29T10:00:00Z"),  # clocks go forward that night
        ("2026-10-24T21:00Z", "12:00", "2026-10-25T11:00:00Z"),  # and back
        ("2026-10-25T00:45Z", "02:30", "2026-10-25T01:30:00Z"),  # they show it once more
        ("2026-10-25T01:10Z", "02:30", "2026-10-25T01:30:00Z"),
        ("2026-10-25T01:45Z", "02:30", "2026-10-26T01:30:00Z"),
        ("2026-03-28T22:30Z", "23:30", "2026-03-29T21:30:00Z"),  # it is that time now
    ],
)
def test_a_time_of_day_is_what_clocks_here_will_show(
    now: str, clock: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a night in which they are changed."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    at_that_time = SimpleNamespace(
        now=datetime.fromisoformat(now).astimezone, combine=datetime.combine, fromtimestamp=datetime.fromtimestamp
    )
    monkeypatch.setattr(arguments, "datetime", at_that_time)
    try:
        assert until(clock) == end
    finally:
        monkeypatch.undo()
        time.tzset()
