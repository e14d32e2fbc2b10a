"""How the lists read: who is denied and what that has dropped, and who is allowed."""

from __future__ import annotations

from typing import Final

from cnf.cli.api.limit_replies import DeniedPrefix
from cnf.cli.api.replies import Timestamp
from cnf.cli.limits.lists import allowed_lines, denied_lines
from cnf.cli.show.table import Style
from tests.unit.cli.limit_samples import CHANGED, DENIED_PREFIX
from tests.unit.cli.samples import NOW

PLAIN: Final = Style(coloured=False)
QUIET: Final[DeniedPrefix] = {
    **DENIED_PREFIX,
    "prefix": "2001:db8::/32",
    "origin": "runtime",
    "packets": 0,
    "bytes": 0,
    "packets_per_second": 0.0,
    "bits_per_second": 0.0,
    "first_seen": None,
    "last_seen": None,
    "sending": False,
}


def test_denied() -> None:
    """On 80 columns all is there; who sends most now comes first, and what has not come has no time."""
    assert denied_lines([QUIET, DENIED_PREFIX], 80, PLAIN, NOW) == [
        "PREFIX           ORIGIN        DROPPED        RATE  PKT/S      FIRST     LAST",
        "198.51.100.0/24  file     243k 14.6 MB  576 kbit/s   1.2k  1h00m ago  1 s ago",
        "2001:db8::/32    runtime     0     0 B     0 bit/s      0          -        -",
    ]


def test_allowed() -> None:
    """Who is allowed is not counted apart."""
    assert allowed_lines(CHANGED["allow"], 80, PLAIN, NOW)[:2] == ["PREFIX        ORIGIN", "10.0.0.0/8    file"]


def test_entries_of_run_time() -> None:
    """What was added until a time has what is left, and a reason; who did it is shown where there is room."""
    entry: DeniedPrefix = {
        **QUIET,
        "who": "uid 0, pid 7",
        "since": Timestamp("2026-03-01T11:00:00Z"),
        "until": Timestamp("2026-03-01T13:05:00Z"),
        "reason": "scans",
    }
    title, row, other = denied_lines([DENIED_PREFIX, entry], 80, PLAIN, NOW)
    assert {"LEFT", "DROPPED", "RATE", "LAST", "REASON"} <= {*title.split()}
    place = title.index("LEFT") + len("LEFT")
    assert [line[:place].split()[-1] for line in (row, other)] == ["-", "1h05m"]
    assert [line.split()[-1] for line in (row, other)] == ["-", "scans"]
    assert "uid 0, pid 7" in denied_lines([entry], None, PLAIN, NOW)[1]


def test_empty_lists() -> None:
    """An empty list is said to be one."""
    assert (denied_lines([], 80, PLAIN, NOW), allowed_lines([], 80, PLAIN, NOW)) == (
        ["nobody is denied"],
        ["nobody is allowed"],
    )
