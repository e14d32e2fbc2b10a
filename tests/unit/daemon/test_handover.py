"""What one daemon hands over to the next: a part that cannot be read takes no other with it."""

from __future__ import annotations

from typing import Any, cast

from structlog.testing import CapturedCall, CapturingLogger

from cnf.daemon.handover import Handover
from cnf.datapath.handover_map import HandoverMap, PartError


class Map:
    """The map, with what a previous daemon has written."""

    def __init__(self, **parts: dict[str, Any] | PartError) -> None:
        """Hold ``parts``; one that is an error cannot be read."""
        self.parts = parts

    def part(self, name: str) -> dict[str, Any] | None:
        """Return a part."""
        part = self.parts.get(name)
        if isinstance(part, PartError):
            raise part
        return part

    def put(self, **parts: dict[str, Any]) -> None:
        """Put them in place of those before."""
        self.parts |= parts


class Counter:
    """A part that counts."""

    count = 0
    taken: dict[str, Any] | None

    def hand_over(self) -> dict[str, Any]:
        """Return the count."""
        return {"count": self.count}

    def take_over(self, document: dict[str, Any] | None) -> None:
        """Go on from the count."""
        self.taken = document
        self.count = document["count"] + 0 if document else 0


def handover(kernel_map: Map, *, kept: bool = True) -> tuple[Handover, list[CapturedCall]]:
    """Return a daemon's handover by way of ``kernel_map``, and what it logs."""
    log = CapturingLogger()
    made = Handover(cast("HandoverMap", kernel_map), log, kept=kept)
    return made, log.calls


def test_the_next_daemon_goes_on() -> None:
    """What a part has noted is what the next daemon's goes on from."""
    there, tracker, series = Map(), Counter(), Counter()
    first, _calls = handover(there, kept=False)
    first.take(tracker=tracker, series=series)
    tracker.count, series.count = 5, 7
    first.note()

    tracker, series = Counter(), Counter()
    following, calls = handover(there)
    following.take(tracker=tracker, series=series)
    assert (tracker.count, series.count, calls) == (5, 7, [])


def test_what_was_not_kept_is_not_read() -> None:
    """Maps that were made anew say nothing of what the parts had counted."""
    tracker = Counter()
    fresh, _calls = handover(Map(tracker={"count": 5}), kept=False)
    fresh.take(tracker=tracker)
    assert tracker.count == 0


def test_a_part_that_was_never_written() -> None:
    """A daemon that was killed before its first drain has noted nothing: that is no error."""
    tracker = Counter()
    following, calls = handover(Map())
    following.take(tracker=tracker)
    assert (tracker.taken, calls) == ({}, [])


def test_a_part_that_cannot_be_read_is_discarded_alone() -> None:
    """A part of another version, or one that makes no sense, is named in the log; the others go on."""
    tracker, interfaces, series = Counter(), Counter(), Counter()
    there = Map(
        tracker=PartError("it is of version 2, and this cnfd reads 1"),
        interfaces={"count": "many"},
        series={"count": 7},
    )
    following, calls = handover(there)
    following.take(tracker=tracker, interfaces=interfaces, series=series)

    assert (tracker.taken, interfaces.taken, series.count) == (None, None, 7)
    assert [(call.method_name, call.kwargs["part"]) for call in calls] == [
        ("error", "tracker"),
        ("error", "interfaces"),
    ]
    assert calls[0].kwargs["error"] == "it is of version 2, and this cnfd reads 1"
    assert all(call.kwargs["effect"] for call in calls)
