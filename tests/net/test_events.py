"""``cnfctl events`` follows what the program tells of, through a reload and a restart, and knows what it missed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from signal import SIGHUP, SIGINT, SIGKILL
from typing import Any, Final

import pytest

from cnf.clock import tick_ns
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, Daemon
from tests.net.rations import QUICK, enforce, packet, ration
from tests.net.wait import wait_for

N0: Final = ({"name": "n0"},)
FEW: Final = enforce(
    ration("few", 10, ["10.0.0.0/8", "2001:db8::/32"]), ration("shared", 10, ["192.0.2.0/24"], bucket="prefix")
)

pytestmark = pytest.mark.usefixtures("folder")


class Follower:
    """A running ``cnfctl events -o jsonl``."""

    def __init__(self, daemon: Daemon, *arguments: str) -> None:
        """Start it, with files for what it writes: a pipe would be full one day."""
        self._output, self._notes = daemon.config.with_name("events"), daemon.config.with_name("notes")
        with self._output.open("wb") as output, self._notes.open("wb") as notes:
            command = (*CNFCTL, "--socket", str(daemon.socket), "events", "-o", "jsonl", *arguments)
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=notes)

    def events(self, count: int) -> list[dict[str, Any]]:
        """Return what it has shown, once there are ``count`` events."""
        wait_for(lambda: len(self._lines()) >= count, f"{count} events")
        return [json.loads(line) for line in self._lines()]

    def notes(self, count: int) -> list[str]:
        """Return what else it has said, once there are ``count`` lines."""
        wait_for(lambda: len(self._notes.read_text(encoding="utf-8").splitlines()) >= count, f"{count} notes")
        return self._notes.read_text(encoding="utf-8").splitlines()

    def _lines(self) -> list[str]:
        text = self._output.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()


@contextmanager
def following(daemon: Daemon, *arguments: str) -> Iterator[Follower]:
    """Follow for the length of the block; ^C is a good end."""
    follower = Follower(daemon, *arguments)
    try:
        yield follower
        follower.process.send_signal(SIGINT)
        assert follower.process.wait(10) == 0
    finally:
        follower.process.kill()
        follower.process.wait()


def what(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the events without their times."""
    fields = ("source", "address", "rule", "interface", "generation")
    return [(each["seq"], each["event"], *(each[field] for field in fields if field in each)) for each in events]


def test_first_drops_and_rule_sets_are_told_as_they_happen(node: Node) -> None:
    """The first packet that sees a rule set is an event, and so is each source's first drop, once, with its rule."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FEW, flows=QUICK).start()
    began = datetime.now(UTC)

    with following(daemon) as follower:
        wire.send([packet("10.0.0.1")] * 12 + [packet("10.0.0.2")] * 10)
        follower.events(2)
        wire.send([packet("2001:db8::1:5")] * 11 + [packet("192.0.2.7")] * 15 + [packet("192.0.2.8")] * 5)
        follower.events(4)
        daemon.reload(N0, limits=enforce(ration("few", 20, ["10.0.0.0/8"])), flows=QUICK)
        wire.send([packet("10.0.0.1")])
        events = follower.events(5)

    assert what(events) == [
        (1, "rule_generation", 1),
        (2, "first_drop", "10.0.0.1", "10.0.0.1", "few", "n0"),
        (3, "first_drop", "2001:db8::/64", "2001:db8::1:5", "few", "n0"),
        (4, "first_drop", "192.0.2.0/24", "192.0.2.7", "shared", "n0"),
        (5, "rule_generation", 2),
    ]
    times = [datetime.fromisoformat(event["time"]) for event in events]
    tick = timedelta(seconds=tick_ns() / 1e9)  # what a stamp is true to
    assert all(later > earlier - tick for earlier, later in pairwise(times))
    assert abs((times[0] - began).total_seconds()) < 10
    assert daemon.scrape().by("kind", "cnf_events_lost_total") == {}


def test_a_shadow_rule_tells_of_no_drop(node: Node) -> None:
    """What would only have been dropped is none."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits={**FEW, "mode": "shadow"}, flows=QUICK).start()
    wire.send([packet("10.0.0.1")] * 30)
    daemon.settle(30)

    assert what(json.loads(daemon.control("/v1/events").body)["events"]) == [(1, "rule_generation", 1)]


def test_a_killed_daemon_is_followed_by_one_that_goes_on(node: Node) -> None:
    """What happens while no daemon runs waits in the ring; numbers go on, and the follower says what came between."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FEW, flows=QUICK).start()
    with following(daemon) as follower:
        wire.send([packet("10.0.0.1")] * 12)
        follower.events(2)
        daemon.signal(SIGKILL)
        daemon.ended()
        wire.send([packet("10.0.0.2")] * 12)
        follower.notes(1)
        daemon.start()
        wire.send([packet("10.0.0.3")] * 12)
        wait_for(lambda: follower.events(4)[-1].get("source") == "10.0.0.3", "the third source's first drop")
        events = follower.events(4)
        notes = follower.notes(2)

    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5][: len(events)]
    assert [event["source"] for event in events if event["event"] == "first_drop"] == [
        f"10.0.0.{number}" for number in (1, 2, 3)
    ]
    assert notes[0].startswith("cnfctl: cnfd is not running, or still starting: ")
    assert notes[1:] == ["cnfctl: cnfd was restarted, and goes on with the events that came meanwhile"]
    with following(daemon, "--since", "2") as follower:
        assert [event["seq"] for event in follower.events(len(events) - 2)] == [event["seq"] for event in events[2:]]


def test_a_new_ring_is_said_to_be_one(node: Node) -> None:
    """After a stop that took everything back, events are numbered anew, and the follower shows them from the first."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FEW, flows=QUICK).start()
    with following(daemon) as follower:
        wire.send([packet("10.0.0.1")] * 12)
        follower.events(2)
        daemon.stop()
        follower.notes(1)
        daemon.start()
        wire.send([packet("10.0.0.2")] * 12)
        events = follower.events(4)
        notes = follower.notes(2)

    assert [event["seq"] for event in events] == [1, 2, 1, 2]
    assert notes[1] == (
        "cnfctl: cnfd was restarted, and numbers events anew; events after the last one shown may be missing"
    )


def test_what_the_ring_had_no_room_for_is_counted(node: Node) -> None:
    """While nobody reads, 2,047 events wait; each one more is lost, and counted by its kind."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=FEW, flows=QUICK).start()
    daemon.signal(SIGKILL)
    daemon.ended()
    sources = [f"10.1.{number >> 8}.{number & 255}" for number in range(2100)]
    wire.send(packet(source) for source in sources for _ in range(11))
    daemon.start()
    daemon.settle(11 * len(sources))

    assert daemon.scrape().by("kind", "cnf_events_lost_total") == {"first_drop": 2100 + 1 - 2047}
    answer = json.loads(daemon.control("/v1/events?after=0").body)
    assert answer["lost"] == {"first_drop": 54, "rule_generation": 0, "flow_evicted": 0, "flow_expired": 0}
    assert [event["seq"] for event in answer["events"]] == [*range(1, 1001)]


def test_following_ends_with_its_reader(node: Node) -> None:
    """A pipe that nobody reads any more ends it, whether there are events or not, as a good end."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FEW, flows=QUICK).start()
    reading, writing = os.pipe()
    command = (*CNFCTL, "--socket", str(daemon.socket), "events")
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        os.close(reading)
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_question_that_cannot_be_understood_is_refused(node: Node) -> None:
    """A number that is none is a usage error, with what was expected."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=FEW, flows=QUICK).start()

    answer = daemon.control("/v1/events?after=soon")

    assert (answer.status, json.loads(answer.body)["exit_status"]) == (400, 64)


def test_the_option_is_fixed_at_the_start(node: Node) -> None:
    """A reload that asks for evicted records, or for another table, says that it takes a restart."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    daemon.configure(N0, flows={"table": "lru_hash"})
    daemon.signal(SIGHUP)
    daemon.wait_for_event("reloaded")

    assert [event["key"] for event in daemon.events("changes at a restart only")] == ["flows.table"]
