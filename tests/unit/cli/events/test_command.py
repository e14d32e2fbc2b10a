"""The command ``cnfctl events``: what it shows of each event, what it asks for, and what it says of those it missed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any, Final

import pytest

from cnf.cli import main
from cnf.cli.api.client import Client
from cnf.cli.api.event_replies import Event
from cnf.cli.api.replies import Timestamp
from cnf.cli.events.command import EventFollower
from cnf.cli.events.lines import event_line
from cnf.cli.show.table import Style
from cnf.errors import UnavailableError
from tests.unit.cli.samples import DNS6, FLOW, PING
from tests.unit.cli.stand_in import Answer, StandIn

TIME: Final = Timestamp("2026-03-01T11:59:56.500000Z")
STARTED: Final = "2026-03-01T10:00:00.000000Z"
DROP: Final = {
    "source": "192.0.2.66",
    "address": "192.0.2.66",
    "rule": "default",
    "denied": False,
    "set": None,
    "interface": "eth0",
}


def event(seq: int, kind: str = "rule_generation", **fields: object) -> dict[str, Any]:
    """Return an event."""
    return {"seq": seq, "time": TIME, "event": kind, **(fields or {"generation": seq})}


def answer(*lines: dict[str, Any]) -> Answer:
    """Return what the daemon answers until the connection ends."""
    return Answer("".join(json.dumps(line) + "\n" for line in lines).encode())


def about(at: int, *, ring: int = 5, missed: int = 0, started: str = STARTED, **lost: int) -> dict[str, Any]:
    """Return a line about the stream."""
    about = {"id": ring, "started": started, "at": at, "last": 100, "missed": missed, "lost": {"first_drop": 0} | lost}
    return {"stream": about}


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (event(1, generation=4), "rule set      generation 4 in force"),
        (event(2, "first_drop", **DROP), "first drop    192.0.2.66 on eth0, by rule default"),
        (
            event(3, "first_drop", **DROP | {"source": "192.0.2.0/24", "rule": None, "interface": "a\x1bb"}),
            r"first drop    192.0.2.0/24 (192.0.2.66) on a\x1bb, by a rule that is gone",
        ),
        (
            event(3, "first_drop", **DROP | {"source": "192.0.2.0/24", "rule": None, "denied": True}),
            "first drop    192.0.2.0/24 (192.0.2.66) on eth0, denied",
        ),
        (
            event(3, "first_drop", **DROP | {"rule": None, "denied": True, "set": "feed"}),
            "first drop    192.0.2.66 on eth0, denied by the set feed",
        ),
        (
            event(4, "flow_evicted", **FLOW),
            "flow evicted  tcp 192.168.100.200:51234 > 10.0.0.1:443 on eth0, 8.1M packets, 9.9 GB",
        ),
        (
            event(5, "flow_evicted", **DNS6),
            f"flow evicted  udp [{DNS6['src_addr']}]:40000 > [2001:db8::1]:53 on ens5f0np0, 1.2k packets, 98.8 kB",
        ),
        (event(6, "flow_evicted", **PING), "flow evicted  icmp 10.0.0.7 > 10.0.0.1 on eth0, 12 packets, 1.2 kB"),
        (event(7, "big_bang", size=3), 'big_bang      {"size": 3}'),
    ],
)
def test_an_event_is_a_line(monkeypatch: pytest.MonkeyPatch, shown: Event, line: str) -> None:
    """When, in UTC wherever the machine is, what, and about whom; one of a newer daemon is shown as it is."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert event_line(shown, Style(coloured=False)) == f"2026-03-01 11:59:56.500 UTC  {line}"
    finally:
        monkeypatch.undo()
        time.tzset()


class Shown:
    """A follower, and what it writes."""

    def __init__(self, daemon: StandIn, capsys: pytest.CaptureFixture[str], since: int | None = None) -> None:
        """Ask the stand-in."""
        self._daemon, self._capsys = daemon, capsys
        self._follower = EventFollower(Client(str(daemon.socket)), since, "jsonl")

    def after(self, *lines: dict[str, Any]) -> tuple[list[int], list[str]]:
        """Return the numbers of the events, and the notes, that a connection with these lines makes it write."""
        self._daemon.answer("/v1/events", answer(*lines))
        self._follower.read(lambda _connection: None)
        written = self._capsys.readouterr()
        notes = [line.removeprefix("cnfctl: ") for line in written.err.splitlines()]
        return [json.loads(line)["seq"] for line in written.out.splitlines()], notes


def test_it_asks_for_what_is_new(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """First for the latest, or for those since the one named, then for those after the last one shown."""
    follower = Shown(daemon, capsys)
    assert follower.after(about(6), event(7), event(8)) == ([7, 8], [])
    assert follower.after(about(8)) == ([], [])
    follower.after(about(8))
    Shown(daemon, capsys, since=3).after(about(3))
    asked = [daemon.asked.get() for _ in range(4)]
    assert asked == [("/v1/events", {"follow": "1"} | each) for each in (
        {"top": "10"}, {"after": "8"}, {"after": "8"}, {"after": "3"},
    )]  # fmt: skip


def test_what_is_no_whole_line_is_asked_for_again(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """A connection that breaks in a line is no error, and what it has not brought whole is not shown."""
    daemon.answer("/v1/events", Answer(answer(about(0), event(1), event(2)).body[:-5], promised=10_000))
    follower = EventFollower(Client(str(daemon.socket)), 0, "jsonl")
    follower.read(lambda _connection: None)
    follower.read(lambda _connection: None)
    assert capsys.readouterr().out.count("\n") == 2
    assert [daemon.asked.get()[1]["after"] for _ in range(2)] == ["0", "1"]


def test_events_that_were_forgotten_are_said(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """How many were not shown comes before the events that follow."""
    follower = Shown(daemon, capsys, since=3)
    assert follower.after(about(3), about(6, missed=3), event(7)) == (
        [7], ["3 events not shown: the daemon keeps the latest ones only"],
    )  # fmt: skip
    assert follower.after(about(7), about(8, missed=1)) == (
        [], ["1 event not shown: the daemon keeps the latest ones only"],
    )  # fmt: skip
    assert follower.after(about(8), event(9)) == ([9], [])
    assert [daemon.asked.get()[1]["after"] for _ in range(3)] == ["3", "7", "8"]


def test_events_that_the_ring_had_no_room_for_are_said(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """What was lost before it looked is no news; what is lost from then on is, by kind."""
    follower = Shown(daemon, capsys)
    assert follower.after(about(0, first_drop=5)) == ([], [])
    assert follower.after(about(0, first_drop=5), about(0, first_drop=1005, flow_evicted=1)) == (
        [],
        [
            "1,000 first_drop events lost: the ring buffer was full",
            "1 flow_evicted event lost: the ring buffer was full",
        ],
    )
    assert follower.after(about(0, first_drop=1005, flow_evicted=1)) == ([], [])


def test_a_restart_is_said(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the ring has stayed, numbers go on; with another one everything in it is asked for."""
    follower = Shown(daemon, capsys)
    follower.after(about(6), event(7))
    assert follower.after(about(7, started="2026-03-01T11:00:00.000000Z"), event(8)) == (
        [8], ["cnfd was restarted, and goes on with the events that came meanwhile"],
    )  # fmt: skip
    assert follower.after(about(8, ring=6, started="2026-03-01T11:30:00.000000Z", first_drop=3), event(1)) == (
        [1], ["cnfd was restarted, and numbers events anew; events after the last one shown may be missing"],
    )  # fmt: skip
    assert [daemon.asked.get()[1] for _ in range(4)][-2:] == [
        {"after": "8", "follow": "1"}, {"after": "0", "follow": "1"},
    ]  # fmt: skip


def test_a_number_that_is_still_to_come_is_said(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for more than there ever was has a number of another ring, and gets all of this one."""
    follower = Shown(daemon, capsys, since=101)
    assert follower.after(about(101), event(1)) == (
        [1], ["the latest event is 100: events are numbered anew, and shown from the first"],
    )  # fmt: skip
    assert [daemon.asked.get()[1]["after"] for _ in range(2)] == ["101", "0"]


@pytest.mark.parametrize("line", [event(1, "first_drop", source="192.0.2.1"), {"stream": {"id": 5}}])
def test_an_answer_of_another_kind_is_refused(
    daemon: StandIn, capsys: pytest.CaptureFixture[str], line: dict[str, Any]
) -> None:
    """An event without the fields of its kind, or a line about the stream without its own, is no answer of cnfd."""
    with pytest.raises(UnavailableError, match="no answer of cnfd"):
        Shown(daemon, capsys).after(line)


def test_an_error_at_first_ends_it(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """What the daemon refuses at once is an error like any other."""
    daemon.say("/v1/events", {"error": "nothing has events", "exit_status": 78}, status=409)
    assert main(["--socket", str(daemon.socket), "events"]) == 78
    assert capfd.readouterr().err == "cnfctl: nothing has events\n"


@pytest.mark.parametrize(("output", "lines"), [("jsonl", 1), ("json", 6)])
def test_stream(daemon: StandIn, output: str, lines: int) -> None:
    """JSON is an object an event, on a line or indented; an error is said once and outlived."""
    daemon.answer("/v1/events", answer(about(0), event(1)))
    command = [sys.executable, "-m", "cnf.cli", "--socket", str(daemon.socket), "events", "-o", output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads("".join(process.stdout.readline() for _ in range(lines))) == event(1)
        daemon.say("/v1/events", {"error": "cnfd is starting", "exit_status": 69}, status=503)
        assert process.stderr.readline() == "cnfctl: cnfd is starting; trying again\n"
        daemon.answer("/v1/events", answer(about(1), event(2)))
        assert json.loads("".join(process.stdout.readline() for _ in range(lines))) == event(2)
        process.terminate()
        assert process.communicate()[1] == ""


@pytest.mark.parametrize("since", ["-1", "x", "1.5"])
def test_since_is_a_number(daemon: StandIn, capsys: pytest.CaptureFixture[str], since: str) -> None:
    """Anything else is refused with what was expected."""
    assert main(["--socket", str(daemon.socket), "events", f"--since={since}"]) == 64
    assert "a number from 0 on is expected" in capsys.readouterr().err
