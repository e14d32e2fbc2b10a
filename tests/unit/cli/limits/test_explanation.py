"""What happens to an address's packets, in words."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import pytest

from cnf.cli.api.limit_replies import Case, DeniedPrefix, Explanation, Listed, Rates, Rule
from cnf.cli.api.replies import Timestamp
from cnf.cli.limits.explanation import page
from cnf.cli.show.table import Style
from tests.unit.cli.limit_samples import (
    CASE,
    DEFAULT,
    DENIED_PREFIX,
    LOUD,
    SHADOW,
    SHARED,
    SOURCE,
    UNLIMITED,
    explained,
)
from tests.unit.cli.samples import NOTHING, NOW

LAB: Final[Listed] = {
    "prefix": "192.0.2.0/24",
    "origin": "runtime",
    "who": "uid 0, pid 7",
    "since": Timestamp("2026-03-01T11:00:00Z"),
    "until": Timestamp((NOW + timedelta(minutes=10)).isoformat()),
    "reason": "lab",
}
AT_80 = """\
192.0.2.66 (tcp, udp): rule default (file) limits it to 10 k packets/s, 1 Gbit/s
  with bursts of 20 k packets, 4 MB, each source for itself. Why: of the
  prefixes that hold it, 0.0.0.0/0 is the longest with a rule for this traffic.
  The bucket of 192.0.2.66/32 holds 0.5 packets and 1.2 kB and is holding it
  back now: 12.3k packets within the limit (1.2 MB), 678 packets dropped
  (90.1 kB), the latest 3 s ago.

192.0.2.66 (icmp): passes, as no rule limits it. Why: no prefix that holds it
  has a rule for this traffic.

its largest flows, with 678 packets dropped (90.1 kB) while they were there:
SOURCE            DESTINATION   PROTO  INFO   PKTS    BYTES  DROPPED        RATE
192.0.2.66:51234  10.0.0.1:443  tcp    SAP    8.1M   9.9 GB      678  123 Mbit/s
"""
SHADOWED = "205k packets would have been dropped (20.5 MB)"
PASSED = "12.3k packets within the limit (1.2 MB)"
LOUD_LIMIT = "1 packet/s with bursts of 1 packet, all of its prefix together"


def lines_of(reply: Explanation, width: int | None = None, *, coloured: bool = False) -> list[str]:
    """Return the lines of the page."""
    return list(page(reply, width, Style(coloured=coloured), NOW))


def answer(case: Case) -> str:
    """Return the one paragraph about ``case``, without the address."""
    return lines_of(explained(case))[0].removeprefix("192.0.2.66: ")


def test_whole_page() -> None:
    """On 80 columns there is a paragraph for each case, then the flows."""
    assert "".join(f"{line}\n" for line in lines_of(explained(CASE, UNLIMITED), 80)) == AT_80


def test_wider_and_coloured() -> None:
    """On 200 columns a paragraph has fewer lines, in a pipe one; on a terminal the address stands out."""
    paragraph = " ".join(line.strip() for line in AT_80.splitlines()[:6])
    assert lines_of(explained(CASE, UNLIMITED))[0] == paragraph
    wide = lines_of(explained(CASE, UNLIMITED), 200, coloured=True)
    assert wide[0].startswith("\x1b[1m192.0.2.66\x1b[m (tcp, udp): rule default (file) limits it")
    assert max(map(len, wide[:5])) <= 200 + len("\x1b[1m\x1b[m")
    assert wide[3] == ""


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (
            {**UNLIMITED, "verdict": "protected", "prefix": "192.0.2.66/32"},
            "passes, whatever the rules say, as it is protected until cnfctl limits confirm, or its session ends. ",
        ),
        (
            {**UNLIMITED, "verdict": "denied", "prefix": "192.0.2.0/24", "origin": "file"},
            "its packets are dropped, as 192.0.2.0/24 is denied (by the file). Why: ",
        ),
        (
            {**UNLIMITED, "verdict": "allowed", "prefix": "192.0.2.0/24", "origin": "runtime"},
            "passes without limit, as 192.0.2.0/24 is allowed (at run time). Why: ",
        ),
        (
            {**UNLIMITED, "verdict": "allowed", "prefix": "192.0.2.0/24", "origin": "runtime", "allow_entry": LAB},
            "passes without limit, as 192.0.2.0/24 is allowed (at run time, for another 10m00s: lab). Why: ",
        ),
        ({**CASE, "verdict": "off", "rule": LOUD}, "passes, as rule loud (runtime) is off. Why: "),
        ({**UNLIMITED, "verdict": "off"}, "passes, as the limiter is off. Why: "),
        ({**UNLIMITED, "verdict": "delayed"}, "delayed. Why: "),
        (
            {**CASE, "rule": LOUD},
            f"rule loud (runtime) would limit it to {LOUD_LIMIT}, but is in shadow: nothing is dropped. Why: ",
        ),
    ],
)
def test_verdict(case: Case, text: str) -> None:
    """The first sentence says what happens, and how to change it where that is not a matter of rules."""
    assert answer(case).startswith(text)


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ({**CASE, "bucket": None}, " Its bucket is full."),
        (
            {**CASE, "bucket": SHARED},
            f" The shared bucket of 192.0.2.0/24 holds 1 packet: {PASSED}, nothing would have been dropped.",
        ),
        (
            {**CASE, "bucket": {**SHADOW, "tokens_packets": None}},
            f" holds 1.2 kB and would hold it back now: {PASSED}, {SHADOWED}, the latest 3 s ago.",
        ),
        (
            {**CASE, "bucket": {**SHADOW, "mode": "enforce", "verdict": "passed", "last_drop": None}},
            f" holds 0.5 packets and 1.2 kB: {PASSED}, nothing dropped, {SHADOWED}, the latest 3 s ago.",
        ),
        (
            {**CASE, "bucket": {**SOURCE, "would_drop_packets": 205_000, "would_drop_bytes": 20_500_000}},
            f" is holding it back now: {PASSED}, 678 packets dropped (90.1 kB), the latest 3 s ago, {SHADOWED}.",
        ),
        (
            {**CASE, "bucket": {**SOURCE, "tokens_packets": None, "tokens_bytes": None}},
            f" of 192.0.2.66/32 is holding it back now: {PASSED}, 678 packets dropped (90.1 kB), the latest 3 s ago.",
        ),
    ],
)
def test_bucket(case: Case, text: str) -> None:
    """The last sentence says what the bucket holds and did: what was dropped, and what shadow has let pass."""
    assert answer(case).endswith(text)


NOTHING_CAME: Final[DeniedPrefix] = {**DENIED_PREFIX, "packets": 0, "bytes": 0, "first_seen": None, "last_seen": None}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (
            DENIED_PREFIX,
            " 243k packets dropped (14.6 MB), the first 1h00m ago, the latest 1 s ago: it still sends, 576 kbit/s.",
        ),
        ({**DENIED_PREFIX, "sending": False}, ", the latest 1 s ago: nothing since."),
        (NOTHING_CAME, " Nothing has come from there since."),
    ],
)
def test_what_is_denied_is_told_since_when_and_how_much(entry: DeniedPrefix, text: str) -> None:
    """Of an address that is denied, the last sentence is about all of the prefix, and whether it still sends."""
    assert answer({**UNLIMITED, "verdict": "denied", "prefix": "198.51.100.0/24", "entry": entry}).endswith(text)


@pytest.mark.parametrize(
    ("left_open", "text"),
    [
        ([], "with bursts of 20 k packets, 65.536 kB, each source"),
        (
            ["burst_packets"],
            "with bursts of 20 k packets, 65.536 kB (burst_packets left open: a second's worth), each source",
        ),
        (
            ["burst_packets", "burst_bytes"],
            "(burst_packets and burst_bytes left open: a second's worth, but at least 64 KiB), each source",
        ),
    ],
)
def test_bursts_that_nobody_has_set(left_open: list[str], text: str) -> None:
    """A burst that was left open is shown as it is, with where it comes from."""
    rule: Rule = {**DEFAULT, "burst_bytes": 65_536, "bursts_left_open": left_open}
    assert text in answer({**CASE, "rule": rule})


def test_which_traffic() -> None:
    """Protocols and interfaces are named where they tell cases apart, or were asked for."""
    wan: Case = {**CASE, "interfaces": ["eth1", "wan0"]}
    assert [line.split(": ")[0] for line in lines_of(explained(CASE, wan))[::2][:2]] == [
        "192.0.2.66 (on eth0)",
        "192.0.2.66 (on eth1, wan0)",
    ]
    asked: Case = {**CASE, "protocols": ["udp"]}
    assert lines_of(explained(asked, protocol="udp"))[0].startswith("192.0.2.66 (udp): ")
    both = explained(asked, protocol="udp", interface="eth0")
    assert lines_of(both)[0].startswith("192.0.2.66 (udp on eth0): ")


def test_flows() -> None:
    """Flows that lost nothing, and no flow at all, are said in a line."""
    assert (
        lines_of({**explained(CASE), "dropped": NOTHING})[2]
        == "its largest flows, with nothing dropped while they were there:"
    )
    assert lines_of({**explained(CASE), "flows": []})[2:] == ["no flow of it (a packet that is dropped makes none)"]


def test_names_cannot_control_the_terminal() -> None:
    """Whatever the daemon's names and reasons hold is shown, not obeyed."""
    hostile: Case = {**CASE, "reason": "a\x1b[2Jb", "interfaces": ["\x9b31m"]}
    text = "".join(lines_of(explained(hostile, interface="x"), 80))
    assert text.isprintable()
    assert r"a\x1b[2Jb" in text


def test_what_is_denied_until_a_time_says_how_long_and_what_for() -> None:
    """Who asks why packets are lost need not ask a second time when that ends, and who wanted it."""
    entry: DeniedPrefix = {**DENIED_PREFIX, "until": Timestamp("2026-03-01T14:44:00Z"), "reason": "flood"}
    case: Case = {**UNLIMITED, "verdict": "denied", "prefix": "198.51.100.0/24", "origin": "runtime", "entry": entry}
    assert "as 198.51.100.0/24 is denied (at run time, for another 2h44m: flood)." in answer(case)


@pytest.mark.parametrize(
    ("after", "then"),
    [
        (Rates(packets_per_second=10, burst_packets=10, bits_per_second=None, burst_bytes=None), "it goes back to 10"),
        (None, "it is gone."),
    ],
)
def test_a_rule_that_ends_says_when_and_what_comes_then(after: Rates | None, then: str) -> None:
    """With what it is set for."""
    end = {"until": Timestamp("2026-03-01T14:44:00Z"), "after": after, "reason": "reflection"}
    rule: Rule = {**DEFAULT, **end}  # type: ignore[typeddict-item]
    assert f" That is so for another 2h44m (reflection), then {then}" in answer({**CASE, "rule": rule})
