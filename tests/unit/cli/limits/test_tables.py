"""How limits, and the sources they hold back, read at every width."""

from __future__ import annotations

import re

import pytest

from cnf.cli.api.limit_replies import Limits, Listed, Rule, Source, Sources
from cnf.cli.api.replies import Timestamp
from cnf.cli.limits.tables import page, source_lines
from cnf.cli.show.table import Style
from tests.unit.cli.limit_samples import (
    CHANGED,
    DEFAULT,
    FORGOTTEN,
    LIMITS,
    LOUD,
    NO_ENTRY,
    PENDING,
    SHADOW,
    SHARED,
    SOURCE,
    SOURCE6,
    sources,
)
from tests.unit.cli.samples import NOW

PLAIN = Style(coloured=False)

AT_80 = """\
mode enforce (runtime), generation 9, what cannot be read is dropped
! undone in 41 s unless confirmed: set default packets_per_second=100, by uid 0,
  pid 4711 (cnfctl limits confirm 3)
! undone in 4m50s unless confirmed: mode enforce, by uid 0, pid 4711 (cnfctl
  limits confirm 5)
! protected, whatever the rules say, until confirmed or logged out: 192.0.2.7/32
  (cnfctl limits confirm)

NAME     ORIGIN   MODE     PREFIXES   RATE                  LIMITED  WOULD LIMIT
default  file     enforce  0.0.…::/0  10 k packe… 1 Gbit/s     4.3k            0
loud     runtime  shadow   192.… +12  1 packet/s                  0          678

allow (file): 10.0.0.0/8, fd00::/8
allow (runtime): 192.0.2.9/32
deny (file): 198.51.100.0/24
denied so far: 243k packets dropped (14.6 MB) (by prefix: cnfctl limits deny)
removed from the file's rules: quiet (all that was changed at run time goes back
  to the file with: cnfctl limits reset)

SOURCES  ENTRIES  CAPACITY  FILL                  EVICTED  ERRORS
ipv4     262,144   524,288  [#####-----]  50.0 %    12.3k       3
ipv6       1,234   524,288  [----------]   0.2 %        0       0
! ipv4: 12,345 sources were evicted (set limits.max_sources = 524288)
! ipv4: 3 inserts failed
"""
UNCHANGED_AT_80 = """\
mode enforce (file), generation 7

NAME     MODE     PREFIXES         RATE                      PASSED  LIMITED
default  enforce  0.0.0.0/0, ::/0  10 k packets/s, 1 Gbit/s    8.1M     4.3k

SOURCES  ENTRIES  CAPACITY  FILL                  EVICTED  ERRORS
ipv4       1,234   524,288  [----------]   0.2 %        0       0
"""
RULES = """\
NAME     ORIGIN   MODE     PREFIXES          RATE                      BURST               BUCKET  PROTOCOLS
default  file     enforce  0.0.0.0/0, ::/0   10 k packets/s, 1 Gbit/s  20 k packets, 4 MB  source  -
loud     runtime  shadow   192.0.2.0/24 +12  1 packet/s                1 packet            prefix  tcp_syn, udp
"""
COUNTED = """\
  PASSED  LIMITED  WOULD LIMIT
    8.1M     4.3k            0
      77        0          678
"""
RULES_AT_200 = [
    f"{rule:{max(map(len, RULES.splitlines()))}}{counted}"
    for rule, counted in zip(RULES.splitlines(), COUNTED.splitlines(), strict=True)
]
SOURCES_AT_80 = """\
SOURCE               RULE    VERDICT          DROPPED    WOULD DROP         RATE
192.0.2.66/32        def…lt  limited      678 90.1 kB     0     0 B  20.0 kbit/s
2001:db8:…5678::/64  def…lt  would limit    0     0 B  205k 20.5 MB  20.0 kbit/s
192.0.2.0/24 shared  loud    passed         0     0 B     0     0 B  20.0 kbit/s
192.0.2.1/32         -       passed         0     0 B     0     0 B  20.0 kbit/s
4 of 1,234 sources by dropped; drained 1.2 s ago
"""
SENT = """\
SOURCE                   RULE     VERDICT             PASSED      DROPPED    WOULD DROP
192.0.2.66/32            default  limited      12.3k  1.2 MB  678 90.1 kB     0     0 B
2001:db8:1234:5678::/64  default  would limit  12.3k  1.2 MB    0     0 B  205k 20.5 MB
192.0.2.0/24 shared      loud     passed       12.3k  1.2 MB    0     0 B     0     0 B
192.0.2.1/32             -        passed       12.3k  1.2 MB    0     0 B     0     0 B
"""
RATES = """\
         RATE  PKT/S       TOKENS  LAST OVER
  20.0 kbit/s     25  0.5  1.2 kB    3 s ago
  20.0 kbit/s     25       1.2 kB    3 s ago
  20.0 kbit/s     25            1          -
  20.0 kbit/s     25            -          -
"""
SOURCES_AT_200 = "".join(
    [
        *(f"{sent}{rates}\n" for sent, rates in zip(SENT.splitlines(), RATES.splitlines(), strict=True)),
        "4 of 1,234 sources by dropped; drained 1.2 s ago\n",
    ]
)


def text_of(limits: Limits, width: int | None = None) -> str:
    """Return the page without colour."""
    return "".join(f"{line}\n" for line in page(limits, width, PLAIN, NOW))


def sources_text(reply: Sources, width: int | None = None) -> str:
    """Return the table of sources without colour."""
    return "".join(f"{line}\n" for line in source_lines(reply, width=width, style=PLAIN, now=NOW, sort="dropped"))


@pytest.mark.parametrize(("limits", "text"), [(CHANGED, AT_80), (LIMITS, UNCHANGED_AT_80)])
def test_page_at_80(limits: Limits, text: str) -> None:
    """On 80 columns what a rule did comes before what it covers, and its origin once one is not the file's."""
    assert text_of(limits, 80) == text


@pytest.mark.parametrize("width", [200, None])
def test_page_at_200(width: int | None) -> None:
    """On 200 columns, and in a pipe, there is all of a rule and a line for each warning."""
    lines = text_of(CHANGED, width).splitlines()
    change = "set default packets_per_second=100, by uid 0, pid 4711"
    assert lines[1] == f"! undone in 41 s unless confirmed: {change} (cnfctl limits confirm 3)"
    assert lines[5:8] == RULES_AT_200


def test_columns() -> None:
    """What no rule has, protocols, interfaces or a kind of verdict, has no column."""

    def optional(rule: Rule) -> set[str]:
        titles = re.split(r" {2,}", text_of({**LIMITS, "rules": [DEFAULT, rule]}).splitlines()[2])
        return {"PROTOCOLS", "INTERFACES", "WOULD LIMIT"}.intersection(titles)

    assert optional(DEFAULT) == set()
    assert optional({**DEFAULT, "protocols": ["udp"], "interfaces": ["eth*"]}) == {"PROTOCOLS", "INTERFACES"}
    assert optional({**DEFAULT, "mode": "shadow"}) == {"WOULD LIMIT"}
    assert optional({**DEFAULT, "would_limit": {"packets": 1, "bytes": 60}}) == {"WOULD LIMIT"}
    assert "  LIMITED" not in text_of({**LIMITS, "rules": [LOUD]})
    assert "  LIMITED" in text_of({**LIMITS, "rules": [{**LOUD, "limited": {"packets": 1, "bytes": 60}}]})


def test_nothing_limited() -> None:
    """A daemon without a rule says how to add one; one that is off says how to switch it on."""
    lines = text_of({**LIMITS, "mode": "off", "rules": []}).splitlines()
    assert lines[1].startswith("! the limiter is off: ")
    assert lines[1].endswith("(cnfctl limits mode shadow)")
    assert lines[3] == "no rule (add one: cnfctl limits set NAME --prefix PREFIX --packets-per-second N)"


def test_long_lists() -> None:
    """A list of thousands does not flood the terminal: it shows the first, and says how many there are more."""
    prefixes = (f"10.{i // 256}.{i % 256}.0/24" for i in range(2_050))
    listed: list[Listed] = [{"prefix": prefix, "origin": "file", **NO_ENTRY} for prefix in prefixes]
    line = next(line for line in text_of({**LIMITS, "allow": listed}).splitlines() if line.startswith("allow"))
    assert line.endswith(", 10.0.49.0/24 and 2,000 more (-o json has all)")


def test_names_cannot_control_the_terminal() -> None:
    """Names from outside are shown with their control characters escaped."""
    bad = "a\x1b[2J\x9bb"
    hostile: Limits = {
        **CHANGED,
        "mode": bad,
        "mode_origin": bad,
        "unreadable": "drop",
        "protected": [bad],
        "pending": [{**PENDING, "who": bad}],
        "removed": [bad],
        "allow": [{"prefix": bad, "origin": bad, **NO_ENTRY}],
        "rules": [{**DEFAULT, "name": bad, "interfaces": [bad]}],
    }
    assert text_of(hostile).replace("\n", "").isprintable()
    stranger: Source = {**SOURCE, "rule": bad}
    assert sources_text(sources(stranger)).replace("\n", "").isprintable()


@pytest.mark.parametrize(("width", "text"), [(80, SOURCES_AT_80), (200, SOURCES_AT_200), (None, SOURCES_AT_200)])
def test_sources(width: int | None, text: str) -> None:
    """On 80 columns IPv6 and the rule's name give way and the tokens are left out; on 200 all is there."""
    assert sources_text(sources(SOURCE, SOURCE6, SHARED, FORGOTTEN, total=1_234), width) == text


def test_sources_summary() -> None:
    """The last line says of how many sources those are; without any, when there may be some."""
    assert sources_text(sources(SOURCE)).splitlines()[-1] == "1 source; drained 1.2 s ago"
    assert sources_text(sources(), 80) == (
        "no source has a bucket yet; what comes in shows after the next drain, every 5 s\n"
    )


def test_sources_that_have_only_been_dropped_or_only_been_spared() -> None:
    """A column of nothing but what no rule's mode can do is left out."""
    assert "WOULD DROP" not in sources_text(sources(SOURCE))
    assert "  DROPPED" not in sources_text(sources(SHADOW))


def test_denied_prefixes_are_rows() -> None:
    """They stand among the sources, with no rule, and with the rate that they send at."""
    by_deny: Source = {**SOURCE, "rule": None, "mode": None, "verdict": "denied", "packets": 0}
    denied: Source = {**by_deny, "source": "198.51.100.0/24"}
    title, row, _ = sources_text(sources(denied)).splitlines()
    assert re.split(r" {2,}", title)[:5] == ["SOURCE", "RULE", "VERDICT", "DROPPED", "RATE"]
    assert re.split(r" {2,}", row)[:3] == ["198.51.100.0/24", "-", "denied"]


def test_nobody_who_was_held_back() -> None:
    """Where nobody was over a limit, the line says how many were not, and how to see them."""
    assert sources_text(sources(buckets=3), 80) == (
        "nobody was held back, of 3 sources with a bucket (--all shows them)\n"
    )


def test_a_rule_that_ends_has_what_is_left() -> None:
    """And what it is set for; where no rule ends, nothing of that is shown."""
    ends: Rule = {**LOUD, "until": Timestamp("2026-03-01T13:05:00Z"), "reason": "flood"}
    head, first, second, *_ = text_of({**CHANGED, "rules": [DEFAULT, ends]}).partition("NAME")[2].splitlines()
    assert ("LEFT" in head, "REASON" in head) == (True, True)
    assert ("1h05m" in second, "flood" in second, "1h05m" in first) == (True, True, False)
    assert "LEFT" not in text_of(CHANGED)
