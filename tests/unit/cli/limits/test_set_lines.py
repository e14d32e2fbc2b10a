"""``cnfctl limits sets``: a row a set, and what is wrong with its file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cnf.cli.api.limit_replies import PrefixSet
from cnf.cli.api.replies import Timestamp
from cnf.cli.limits.lists import set_lines
from cnf.cli.show.table import Style
from cnf.units import moment

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE: Final = Timestamp((NOW - timedelta(hours=3)).isoformat())
FEED: Final[PrefixSet] = {
    "name": "feed",
    "file": "/var/lib/cnf/feed",
    "action": "deny",
    "mode": "enforce",
    "prefixes": 100_000,
    "loaded": Timestamp((NOW - timedelta(minutes=3)).isoformat()),
    "refused_lines": 0,
    "error": None,
    "error_since": None,
    "packets": 1200,
    "bytes": 90_000,
    "in_shadow": {"packets": 0, "bytes": 0},
}


def lines(*sets: PrefixSet, width: int | None = None) -> list[str]:
    """Return the page without bold."""
    return set_lines(sets, width, Style(coloured=False), NOW)


def test_a_set_is_a_row() -> None:
    """What came in shadow has a column if a set has any."""
    heading, row = lines(FEED)
    assert heading.split() == ["NAME", "ACTION", "MODE", "PREFIXES", "LOADED", "COUNTED", "REFUSED", "LINES", "FILE"]
    assert row.split()[:4] == ["feed", "deny", "enforce", "100k"]
    assert "IN SHADOW" in lines(FEED, {**FEED, "mode": "shadow"})[0]
    assert all(len(line) <= 60 for line in lines(FEED, width=60))


def test_errors_stand_below() -> None:
    """With the file, and since when; nothing of it reaches a terminal that is not printable."""
    error = 'line 2: no prefix: "x"\033[1m'
    assert lines({**FEED, "error": error, "loaded": None, "error_since": SINCE})[-1] == (
        f'feed: /var/lib/cnf/feed: line 2: no prefix: "x"\\x1b[1m (since {moment(NOW - timedelta(hours=3))})'
    )


def test_without_sets_it_says_how_to_have_one() -> None:
    """In a line."""
    assert lines() == ["there are no sets (add one: [[limits.sets]] in the configuration)"]
