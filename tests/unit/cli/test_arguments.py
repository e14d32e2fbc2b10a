"""Times of the command line become times that the daemon understands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

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
