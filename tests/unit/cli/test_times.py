"""Promises of cnf.cli.times: a time is what people mean by it, in local time, and cnfd is asked in UTC."""

from __future__ import annotations

import argparse
import time as clock
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from cnf.cli.times import asked, time
from cnf.errors import UsageError

NOW = datetime(2026, 3, 29, 4, 30, tzinfo=UTC)
"""In Berlin, summer time has begun three hours and a half ago: it is 06:30."""


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be where clocks change."""
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("06:12", "2026-03-29T04:12"),
        ("6:12", "2026-03-29T04:12"),
        ("06:30", "2026-03-29T04:30"),
        ("06:31", "2026-03-28T05:31"),  # yesterday, in winter time
        ("yesterday 03:12", "2026-03-28T02:12"),
        ("today 01:12", "2026-03-29T00:12"),
        ("2026-03-01 03:12", "2026-03-01T02:12"),
        ("2026-07-01T03:12", "2026-07-01T01:12"),
        ("2026-03-01T03:12:00Z", "2026-03-01T03:12"),
        ("2026-03-01 03:12+05:30", "2026-02-28T21:42"),
        ("03:12Z", "2026-03-29T03:12"),
        ("2h ago", "2026-03-29T02:30"),
        ("90 m ago", "2026-03-29T03:00"),
        ("1d ago", "2026-03-28T04:30"),
        ("60s ago", "2026-03-29T04:29"),
        (" 06:12 ", "2026-03-29T04:12"),
    ],
)
def test_a_time_is_the_latest_such_one(text: str, expected: str) -> None:
    """Without a day it is the latest time of day that has been; without a zone it is local."""
    assert time(text).moment(NOW) == datetime.fromisoformat(f"{expected}:00+00:00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "25:00",
        "03:60",
        "03:12:61",
        "2026-02-30 03:12",
        "noon",
        "tomorrow 03:12",
        "-1:00",
        "1w ago",
        "9999999d ago",
    ],
)
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    """A refusal says how times are written."""
    with pytest.raises(argparse.ArgumentTypeError, match="a time such as 03:12, 'yesterday 03:12'"):
        time(text)


def query(at: str | None = None, begin: str | None = None, end: str | None = None) -> dict[str, str]:
    """Return what cnfd is asked for."""
    texts = {"at": at, "begin": begin, "end": end}
    return asked(argparse.Namespace(**{name: text and time(text) for name, text in texts.items()}))


def test_a_minute_or_a_second() -> None:
    """A time without seconds is that minute; with seconds, that second."""
    assert query("2026-03-01T03:12Z") == {"from": "2026-03-01T03:12:00+00:00", "to": "2026-03-01T03:13:00+00:00"}
    assert query("2026-03-01T03:12:07Z") == {"from": "2026-03-01T03:12:07+00:00", "to": "2026-03-01T03:12:08+00:00"}


def test_a_span() -> None:
    """The end is the first such time behind the beginning, also over midnight; without one, it is now."""
    assert query(None, "2026-03-01 23:50Z", "00:10Z") == {
        "from": "2026-03-01T23:50:00+00:00",
        "to": "2026-03-02T00:10:00+00:00",
    }
    before = datetime.now(UTC)
    assert before <= datetime.fromisoformat(query(None, "2026-03-01 23:50Z")["to"]) <= datetime.now(UTC)


def test_the_present_asks_for_no_time() -> None:
    """Without a time, the query has none."""
    assert query() == {}


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (("03:12", "03:00", None), "--at is one minute: expected without --from and --to"),
        ((None, None, "03:00"), "--to expects --from"),
        ((None, "2026-03-02 00:00", "2026-03-01 00:00"), "--from is not before --to"),
        ((None, "0s ago", "00:00:00"), "--from is not before --to"),
        (("2100-01-01 00:00", None, None), "2100-01-01 00:00:00 CET is still to come"),
    ],
)
def test_times_that_do_not_go_together_are_refused(times: tuple[str | None, ...], message: str) -> None:
    """A mistake is told before cnfd is asked."""
    with pytest.raises(UsageError, match=message):
        query(*times)
