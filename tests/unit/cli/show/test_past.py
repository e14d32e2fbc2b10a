"""Promises of cnf.cli.show.past, and of tables of the past: which minutes, their sums, and what is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from cnf.cli import main
from cnf.cli.api.replies import History, Timestamp
from cnf.cli.show.past import heading, notes
from tests.unit.cli.limit_samples import sources
from tests.unit.cli.samples import FLOW, NOTHING, flows
from tests.unit.cli.stand_in import StandIn

MINUTE = {"begin": Timestamp("2026-03-01T02:12:03Z"), "end": Timestamp("2026-03-01T02:13:03Z")}
PAST: Any = {
    **MINUTE,
    "seconds": 60.0,
    "blocks": [MINUTE],
    "damaged": 0,
    "complete": True,
    "flow_count": 7,
    "seen": {"ingress": {"packets": 1000, "bytes": 90_000}, "egress": NOTHING},
    "listed": {"ingress": {"packets": 900, "bytes": 80_000}, "egress": NOTHING},
    "dropped": {"ingress": NOTHING, "egress": NOTHING},
    "rest": {"ingress": {"packets": 100, "bytes": 10_000}, "egress": {"packets": -2, "bytes": -200}},
    "no_flow": {"ingress": {"packets": 40, "bytes": 2400}, "egress": NOTHING},
}


@pytest.fixture(autouse=True)
def _in_cet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be an hour ahead of UTC."""
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def past(**parts: Any) -> History:  # noqa: ANN401 - any part
    """Return what an answer says of the past."""
    history: Any = {**PAST, **parts}
    return cast("History", history)


def test_the_heading_has_the_times_in_local_time_with_its_zone() -> None:
    """A day or zone that is the same is said once; of several blocks, how many and how long."""
    assert heading(past()) == "2026-03-01 03:12:03 to 03:13:03 CET"
    over_midnight = past(begin="2026-03-01T22:59:00Z", end="2026-03-01T23:00:00Z")
    assert heading(over_midnight) == "2026-03-01 23:59:00 to 2026-03-02 00:00:00 CET"
    assert heading(past(blocks=[MINUTE] * 3, seconds=180.0)).endswith(": 3 blocks, 3m00s together")


def test_notes_have_all_and_the_rest() -> None:
    """What was counted beside the flows of the table is said; counts that flows have ahead are no rest."""
    assert [*notes(past())] == [
        "in all: received 90.0 kB in 1.0k packets",
        "in smaller or evicted flows: 7.6 kB in 60 packets",
        "in no flow, because not IP or malformed: 2.4 kB in 40 packets",
    ]
    assert [*notes(past(), rest=False)] == ["in all: received 90.0 kB in 1.0k packets"]
    assert [*notes(past(), rest=False, filtered=True)][1:] == [
        "the filter saw the largest flows only, and not 10.0 kB in 100 packets of others, or of none"
    ]
    both = past(seen={"ingress": NOTHING, "egress": {"packets": 1, "bytes": 60}}, rest=PAST["dropped"])
    assert [*notes(both)] == ["in all: sent 60 B in 1 packet"]


def test_notes_name_what_is_missing() -> None:
    """Gaps, damaged blocks and flows that were left out are said."""
    later = {"begin": "2026-03-01T02:20:00Z", "end": "2026-03-01T02:21:00Z"}
    text = "\n".join(notes(past(blocks=[MINUTE, later], damaged=2, complete=False)))
    assert "nothing from 2026-03-01 03:13:03 CET to 2026-03-01 03:20:00 CET: cnfd did not run" in text
    assert "2 blocks of that time cannot be read" in text
    assert "small ones were left out" in text


def shown(daemon: StandIn, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command shows of a minute."""
    assert main(["--socket", str(daemon.socket), *arguments, "--at", "2026-03-01 03:12"]) == 0
    _path, query = daemon.asked.get()
    assert (query["from"], query["to"]) == ("2026-03-01T02:12:00+00:00", "2026-03-01T02:13:00+00:00")
    return capsys.readouterr().out


def test_flows_of_the_past_are_shown_as_of_then(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The table is that of the present, with the minute above and the sums below."""
    daemon.say("/v1/flows", {**flows(FLOW), "history": past(begin="2026-03-01T11:58:57Z", end="2026-03-01T11:59:57Z")})
    lines = shown(daemon, capsys, "flows").splitlines()
    assert lines[0] == "2026-03-01 12:58:57 to 12:59:57 CET"
    assert "192.168.100.200:51234" in lines[2]
    assert " 0.5 s " in lines[2]  # idle at the end of the minute
    assert "drained" not in lines[3]
    assert lines[4].startswith("in all: ")
    daemon.say("/v1/flows", {**flows(), "total": 0, "matched": 0, "history": past()})
    assert shown(daemon, capsys, "flows").splitlines()[1] == "no flow"


def test_groups_of_the_past_end_with_what_is_in_none(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The last row is the rest; where groups are not made of flows, nobody knows how many these are."""
    sums = {"packets": 900, "bytes": 80_000, "dropped_packets": 0, "dropped_bytes": 0}
    rates = {"packets_per_second": 15.0, "bits_per_second": 10666.667, "share": 0.889}
    group: dict[str, object] = {"src_addr": "192.0.2.1", "flows": None, **sums, **rates}
    rest: dict[str, object] = {**group, "src_addr": None, "packets": 100, "bytes": 10_000, "share": 0.111}
    listing = {name: value for name, value in flows().items() if name != "flows"}
    totals = {"packets": 900, "bytes": 80_000}
    reply = {**listing, "matched": 1, "total": 1, "totals": totals, "groups": [group, rest], "flows_matched": None}
    daemon.say("/v1/flows", {**reply, "history": past()})
    _, _, first, last, *below = shown(daemon, capsys, "flows", "--by", "src").splitlines()
    assert first.split()[:3] == ["192.0.2.1", "-", "900"]
    assert last.split()[:3] == ["(rest)", "-", "100"]
    assert below == ["1 group, 80.0 kB", "in all: received 90.0 kB in 1.0k packets"]


def test_what_no_line_has_is_said_beside_them(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and CSV have flows alone; what is in none of them goes to stderr."""
    daemon.say("/v1/flows", {**flows(FLOW), "history": past()})
    assert main(["--socket", str(daemon.socket), "flows", "--at", "2026-03-01 03:12", "-o", "json"]) == 0
    assert capsys.readouterr().err == (
        "cnfctl: in smaller or evicted flows: 7.6 kB in 60 packets\n"
        "cnfctl: in no flow, because not IP or malformed: 2.4 kB in 40 packets\n"
    )


def test_sources_of_the_past(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody was held back then, that is said."""
    daemon.say("/v1/limits/sources", {**sources(), "history": past()})
    lines = shown(daemon, capsys, "limits", "sources").splitlines()
    assert lines[:2] == ["2026-03-01 03:12:03 to 03:13:03 CET", "no source was over a limit"]


def test_no_history_is_told_in_local_time(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """What cnfd says in UTC is shown in local time."""
    error = "no history of 2026-03-01T02:12:00Z to 2026-03-01T02:13:00Z: it goes on"
    daemon.say("/v1/flows", {"error": error, "exit_status": 69}, status=503)
    assert main(["--socket", str(daemon.socket), "flows", "--at", "2026-03-01 03:12"]) == 69
    assert capsys.readouterr().err == (
        "cnfctl: no history of 2026-03-01 03:12:00 CET to 2026-03-01 03:13:00 CET: it goes on\n"
    )


def test_the_past_is_not_watched(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """It does not change."""
    assert main(["--socket", str(daemon.socket), "flows", "--at", "03:12", "--watch"]) == 64
    assert "the past does not change" in capsys.readouterr().err
