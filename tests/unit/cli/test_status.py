"""The status page."""

from __future__ import annotations

import json

import pytest

from cnf.cli import main
from cnf.cli.api.replies import Drain, Interface, Limiter, SentTally, Status, Tally, Timestamp
from cnf.cli.show.table import Style
from cnf.cli.status import page
from tests.unit.cli.limit_samples import FULL, LIMITER, PENDING
from tests.unit.cli.samples import ATTACHED, MISSING, REFUSED, STATUS, sent_tally, table, tally
from tests.unit.cli.stand_in import StandIn

PAGE = """\
cnfd 0.1.0  pid 4242, up 3h05m (since 2026-03-01 08:55:00 UTC)
Linux 6.18.0, BCC 0.31.0, /etc/cnf/cnf.toml
receiving 123 Mbit/s, 12.3k packets/s; sending 2.3 Mbit/s, 346 packets/s

INTERFACE  STATE     MODE    EGRESS  ASKED  PROGRAM    PACKETS   BYTES    COVERAGE  SENT PACKETS  SENT BYTES
eth0       attached  native  tc      auto       117  1,234,567  988 MB  100.0 %, -       345,678      235 MB
ens5       missing   -       -       auto         -          0     0 B           -             0         0 B
ens6       refused   -       -       auto         -          0     0 B           -             0         0 B
! ens5: no such interface; attached when it appears
! ens6: the foreign XDP program 9 is on it

FLOWS  ENTRIES  CAPACITY  FILL                  CREATED  EXPIRED  EVICTED  ERRORS
ipv4   123,456   524,288  [##--------]  23.5 %     124k     1.0k        0       0
ipv6       678   524,288  [----------]   0.1 %     1.7k     1.0k        0       0

LEDGER         RECEIVED        BYTES     SENT        BYTES
live          1,233,507  987,653,261  345,678  234,567,890
expired           1,000        1,000        0            0
evicted               0            0        0            0
non_ip               60           60        0            0
malformed             0            0        0            0
dropped               0            0        0            0
insert_error          0            0        0            0
sum           1,234,567  987,654,321  345,678  234,567,890
all           1,234,567  987,654,321  345,678  234,567,890
balanced: every packet stands in exactly one state

drained 1.2 s ago in 12.3 ms; every 5 s
"""


def text_of(status: Status, width: int | None = None) -> str:
    """Return the page without colour."""
    return "".join(f"{line}\n" for line in page(status, width, Style(coloured=False)))


def test_whole_page() -> None:
    """The page shows daemon, interfaces, flow tables, ledger and drain, and what wants a look beside it."""
    assert text_of({**STATUS, "interfaces": [ATTACHED, MISSING, REFUSED]}) == PAGE


def test_page_fits_80_columns() -> None:
    """On 80 columns no line is longer; a warning goes on below."""
    refused: Interface = {**REFUSED, "error": "words " * 30}
    text = text_of({**STATUS, "interfaces": [ATTACHED, refused]}, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "\n! ens6: words words" in text
    assert "\n  words words" in text


def test_what_is_wrong_with_an_attached_interface() -> None:
    """An interface that is attached may have an error, and a warning; both stand below the table."""
    attached: Interface = {**ATTACHED, "error": "native was refused", "warning": "packets are counted twice"}
    text = text_of({**STATUS, "interfaces": [attached]})
    assert "\n! eth0: native was refused\n! eth0: packets are counted twice\n" in text


def test_nothing_is_said_of_what_is_not_sent() -> None:
    """Where nothing that goes out was counted, there is no column of it, and no rate."""
    nothing: dict[str, SentTally] = {"packets": sent_tally(0), "bytes": sent_tally(0)}
    silent: Status = {
        **STATUS,
        "sent_ledger": nothing,
        "sent_rates": {"packets_per_second": 0.0, "bits_per_second": 0.0},
    }
    text = text_of(silent)
    assert "\nreceiving 123 Mbit/s, 12.3k packets/s\n" in text
    assert "\nLEDGER         RECEIVED        BYTES\n" in text


def test_coverage() -> None:
    """The share of the driver's packets stands by direction, and one that is low is warned of."""
    received, sent = ATTACHED["directions"]
    low: Interface = {**ATTACHED, "directions": [received, {**sent, "coverage": 0.52}]}
    text = text_of({**STATUS, "interfaces": [low]})
    assert "  100.0 %, 52.0 %  " in text
    assert "\n! eth0: of what its driver counts as sent, 52.0 % was seen (docs/operations.md, coverage)\n" in text


@pytest.mark.parametrize(
    ("entries", "evicted", "warning"),
    [
        (235_929, 0, None),
        (
            235_930,
            0,
            "! ipv4: 235,930 flows in a table for 262,144, some will be evicted (set flows.max_entries = 524288)",
        ),
        (10, 1_234, "! ipv4: 1,234 flows were evicted (set flows.max_entries = 524288)"),
        (10, 2, "! ipv4: 2 flows were evicted (set flows.max_entries = 524288)"),
        (10, 1, None),
    ],
)
def test_full_table(entries: int, evicted: int, warning: str | None) -> None:
    """From 90 % on, or once more flows than one of 1,000 were evicted, the page says which size to set."""
    text = text_of({**STATUS, "flow_table": {"ipv4": table(entries, evicted=evicted)}})
    assert "ipv6" not in text
    assert warning in text.splitlines() if warning else "!" not in text


def test_failed_inserts() -> None:
    """Flows that found no place are said."""
    text = text_of({**STATUS, "flow_table": {"ipv4": {**table(1), "insert_errors": 7}}})
    assert "! ipv4: 7 inserts failed\n" in text


SINCE = Timestamp("2026-03-01T12:00:00Z")
LIMITED = """
limiter in mode off, 1 rule, generation 7
! the limiter is off: only rules with a mode of their own are applied, and
  nothing is denied (cnfctl limits mode shadow)
! undone in 41 s unless confirmed: set default packets_per_second=100, by uid 0,
  pid 4711 (cnfctl limits confirm 3)
! set feed: /feed: line 2: no prefix: "x" (what was read before stays, since
  2026-03-01 12:00:00 UTC)
! protected, whatever the rules say, until confirmed or logged out: 192.0.2.7/32
  (cnfctl limits confirm)
SOURCES  ENTRIES  CAPACITY  FILL                  EVICTED  ERRORS
ipv4     262,144   524,288  [#####-----]  50.0 %    12.3k       3
! ipv4: 12,345 sources were evicted (set limits.max_sources = 524288)
! ipv4: 3 inserts failed

LEDGER """


def test_limiter() -> None:
    """The page says the limiter's mode, what waits to be confirmed, what files are wrong, and what its tables lose."""
    limiter: Limiter = {
        **LIMITER,
        "mode": "off",
        "pending": [PENDING],
        "sources": {"ipv4": FULL},
        "protected": ["192.0.2.7/32"],
        "set_errors": [{"name": "feed", "file": "/feed", "error": 'line 2: no prefix: "x"', "since": SINCE}],
    }
    assert LIMITED in text_of({**STATUS, "limiter": limiter}, 80)
    quiet = text_of({**STATUS, "limiter": LIMITER})
    assert "\n\nlimiter in mode shadow, 1 rule, generation 7\nSOURCES " in quiet
    assert "!" not in quiet


def test_unbalanced_ledger() -> None:
    """A difference is the packets that passed while the drain ran, whichever side saw them first."""
    for difference in (12, -12):
        ledger: dict[str, Tally] = {
            "packets": tally(5_000, difference=difference),
            "bytes": tally(90_000, difference=60 * difference),
        }
        text = text_of({**STATUS, "ledger": ledger})
        assert f"\nsum              {5_000 - difference:,}  {90_000 - 60 * difference:,}  345,678" in text
        assert "12 packets (720 bytes) passed during the drain\n" in text


@pytest.mark.parametrize(
    ("drain", "text"),
    [
        ({"duration_seconds": None}, "not drained yet; every 5 s\n"),
        ({"age_seconds": 15.1}, "! the drain is overdue: all numbers are as old as it (journalctl -u cnfd)\n"),
        ({"errors": 2, "last_error": "map flows4: EPERM"}, "! 2 drains failed, the latest: map flows4: EPERM\n"),
        ({"errors": 1}, "! 1 drain failed\n"),
    ],
)
def test_drain(drain: Drain, text: str) -> None:
    """A drain that did not happen, is late or failed is said."""
    assert text_of({**STATUS, "drain": {**STATUS["drain"], **drain}}).endswith(text)


def test_before_the_first_drain() -> None:
    """A daemon that has not drained yet has a page without flow tables and ledger."""
    text = text_of({**STATUS, "flow_table": {}, "ledger": {}, "drain": {**STATUS["drain"], "duration_seconds": None}})
    assert text.splitlines()[4:] == [*PAGE.splitlines()[4:6], "", "not drained yet; every 5 s"]


def test_names_cannot_control_the_terminal() -> None:
    """Names and errors from outside are shown with their control characters escaped."""
    hostile: Interface = {**REFUSED, "name": "a\x1b[2Jb", "error": "\x9b31m"}
    text = text_of({**STATUS, "interfaces": [hostile]})
    assert text.replace("\n", "").isprintable()
    assert r"! a\x1b[2Jb: \x9b31m" in text


def test_command(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The command shows the page, or the daemon's own words as JSON; a missing interface is no failure of it."""
    daemon.say("/v1/status", {**STATUS, "interfaces": [ATTACHED, MISSING, REFUSED]})
    assert main(["--socket", str(daemon.socket), "status"]) == 0
    assert capsys.readouterr().out == PAGE
    assert main(["--socket", str(daemon.socket), "status", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["interfaces"][1] == MISSING
