"""What the status page says of flow records."""

from __future__ import annotations

from typing import Final

from cnf.cli.api.replies import Exporter, Records, Timestamp
from cnf.cli.export.glance import glance
from cnf.cli.show.table import Style
from cnf.cli.status import page
from tests.unit.cli.samples import STATUS

SENDING: Final[Exporter] = {
    "exporter": "192.0.2.9:4739",
    "records": 1_234_567,
    "bytes": 98_765_432,
    "lost": 0,
    "waiting": 321,
    "failing": False,
    "last_error": None,
}
REFUSED: Final[Exporter] = {
    **SENDING,
    "exporter": "json",
    "lost": 12,
    "failing": True,
    "last_error": {
        "at": Timestamp("2026-03-01T11:59:00.000000Z"),
        "reason": "no_space",
        "error": "/srv/flows: No space left on device",
        "remedy": "make room: it is tried again",
    },
}
RECORDS: Final[Records] = {
    "stream": 7,
    "made": 1_300_000,
    "lost_packets": 0,
    "lost_bytes": 0,
    "exporters": [SENDING, REFUSED],
    "history": {
        "folder": "/var/lib/cnf/history",
        "oldest": Timestamp("2026-02-28T12:00:00.000000Z"),
        "bytes": 13_000_000,
        "errors": 0,
    },
}
SHOWN: Final = """\
EXPORTER          RECORDS    BYTES  LOST  WAITING
192.0.2.9:4739  1,234,567  98.8 MB     0      321
json            1,234,567  98.8 MB    12      321
! not sent, 2026-03-01 11:59:00 UTC: /srv/flows: No space left on device (make room: it is tried again)
1,300,000 flow records made
history since 2026-02-28 12:00:00 UTC, 13.0 MB in /var/lib/cnf/history
"""


def text_of(records: Records) -> str:
    """Return the part without colour."""
    return "".join(f"{line}\n" for line in glance(records, None, Style(coloured=False)))


def test_each_exporter_and_what_it_cannot_send() -> None:
    """With the remedy; an error that is over is in the JSON only."""
    assert text_of(RECORDS) == SHOWN
    over: Exporter = {**REFUSED, "failing": False}
    assert "!" not in text_of({**RECORDS, "exporters": [over]})


def test_what_is_in_no_record_is_a_warning() -> None:
    """So is a minute that could not be written."""
    shown = text_of({**RECORDS, "lost_packets": 1, "lost_bytes": 100, "exporters": []})
    assert shown.startswith("1,300,000 flow records made\n! 1 packet (100 B) of finished flows are in no record")
    assert RECORDS["history"] is not None
    shown = text_of({**RECORDS, "history": {**RECORDS["history"], "oldest": None, "errors": 2}})
    assert "history of no minute yet, " in shown
    assert "! history: 2 minutes could not be written when due (journalctl -u cnfd)\n" in shown
    assert "history" not in text_of({**RECORDS, "history": None})


def test_it_stands_before_the_drain() -> None:
    """On the page; without records nothing is there."""
    lines = list(page({**STATUS, "records": RECORDS}, None, Style(coloured=False)))
    assert lines[-2] == ""
    assert lines[-3].startswith("history since ")
    assert not any("flow record" in line for line in page(STATUS, None, Style(coloured=False)))
