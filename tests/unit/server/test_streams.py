"""A stream tells all there is and then what comes, and what it could not tell."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np

from cnf.abi import EVENT, EVENT_KINDS
from cnf.counts import Count
from cnf.events.log import Batch, Context, EventLog
from cnf.events.reader import EventReader
from cnf.export.lines import CHUNK, Lines
from cnf.export.record_log import RecordLog
from cnf.server import streams
from tests.unit.record_batches import batch, many
from tests.unit.samples import CLOCK, Flow

STARTED = "2026-03-01T10:00:00.000000Z"
NOTHING = {direction: {"packets": 0, "bytes": 0} for direction in ("ingress", "egress")}


class Read:
    """A stream, read as a client would."""

    def __init__(self, log: RecordLog, after: int = 0, expression: str = "", *, follow: bool = True) -> None:
        """Begin."""
        self._blocks = streams.records(log, Lines(expression), after, STARTED, follow=follow)

    def __call__(self) -> list[Any]:
        """Return, of what there is, the numbers of records, and what is said of the stream."""
        found: list[Any] = []
        for block in self._blocks:
            if not block:
                break
            assert block.endswith(b"\n")
            found += [each.get("seq") or each["stream"] for each in map(json.loads, block.splitlines())]
        return found


def about(at: int, last: int, missed: int = 0, lost: int = 0) -> dict[str, Any]:
    """Return what is said of a stream; ``lost`` received packets of 100 bytes."""
    losses = NOTHING | {"ingress": {"packets": lost, "bytes": 100 * lost}}
    return {"id": 7, "started": STARTED, "at": at, "last": last, "missed": missed, "lost": losses}


def test_records_come_as_they_are_made() -> None:
    """First those that are kept, then each new one, in blocks; nothing is said twice."""
    log = RecordLog(7)
    read = Read(log)
    assert read() == [about(0, 0)]
    assert read() == []
    log.put(many(1, 2 * CHUNK + 3))
    log.put(many(2 * CHUNK + 4, 1))
    assert read() == [*range(1, 2 * CHUNK + 5)]
    log.put(many(2 * CHUNK + 5, 0))
    assert read() == []
    assert Read(log, 2 * CHUNK + 2)() == [about(2 * CHUNK + 2, 2 * CHUNK + 4), 2 * CHUNK + 3, 2 * CHUNK + 4]
    assert Read(log, 10_000)() == [about(10_000, 2 * CHUNK + 4)]


def test_without_following_it_ends() -> None:
    """It has the records that were there when it was asked for, also where a daemon before has made the latest."""
    log = RecordLog(7)
    log.put(many(11, 4))
    read = Read(log, 12, follow=False)
    assert read() == [about(12, 14), 13, 14]
    log.put(many(15, 1))
    assert read() == []
    assert Read(log, 15, follow=False)() == [about(15, 15)]
    empty = RecordLog(7)
    empty.put(many(11, 0))
    assert Read(empty, 3, follow=False)() == [about(3, 10), about(10, 10, missed=7)]


def test_a_follower_that_falls_behind_knows_what_it_has_missed() -> None:
    """What is kept no more when it goes on is said, with how many, where they are missing."""
    log = RecordLog(7, most=10)
    log.put(many(1, 4))
    read = Read(log)
    assert read() == [about(0, 4), 1, 2, 3, 4]
    log.put(many(5, 8))
    log.put(many(13, 8))
    assert read() == [about(10, 20, missed=6), *range(11, 21)]


def test_a_batch_that_goes_while_it_is_read_is_missed_from_there() -> None:
    """A block of a batch does not hold the rest of it."""
    log = RecordLog(7, most=10)
    log.put(many(1, 3 * CHUNK))
    read = streams.records(log, Lines(""), 0, STARTED, follow=True)
    assert next(read).count(b"\n") == 1
    assert next(read).count(b"\n") == CHUNK
    log.put(many(3 * CHUNK + 1, 5))
    assert json.loads(next(read))["stream"] == about(3 * CHUNK - 5, 3 * CHUNK + 5, missed=2 * CHUNK - 5)
    assert next(read).count(b"\n") == 10 - 5


def test_where_a_filter_leaves_out_it_is_said_how_far_it_is() -> None:
    """A client that comes again goes on after what it has not matched."""
    log = RecordLog(7)
    log.put(batch(1, Flow(), Flow(dst_port=53), Flow()))
    read = Read(log, expression="port 53")
    assert read() == [about(0, 3), 2, about(3, 3)]
    assert read() == []
    log.put(batch(4, Flow(), Flow()))
    assert read() == [about(5, 5)]
    assert Read(log, 2, "port 53", follow=False)() == [about(2, 5), about(5, 5)]


def test_losses_are_said() -> None:
    """As a sum, once for each change, when there is nothing else to tell."""
    log = RecordLog(7)
    log.put(many(1, 1))
    read = Read(log)
    read()
    log.put(batch(2, Flow(), lost={"ingress": Count(3, 300), "egress": Count()}))
    assert read() == [2, about(2, 2, lost=3)]
    assert read() == []
    log.put(batch(3, lost={"ingress": Count(2, 200), "egress": Count()}))
    assert read() == [about(2, 2, lost=5)]
    assert Read(log, 2)() == [about(2, 2, lost=5)]


class Reader:
    """What a stream of events asks of their reader."""

    ring_id = 5

    def __init__(self) -> None:
        """Have no event."""
        self.log = EventLog(10)
        self._lost = 0

    def lost(self) -> dict[str, int]:
        """Return what found the ring full."""
        return {"first_drop": self._lost}

    def tell(self, first: int, count: int, lost: int = 0) -> None:
        """Have so many events come, and so many be lost."""
        events = np.zeros(count, EVENT)
        events["kind"] = EVENT_KINDS.index("rule_generation")
        self.log.append(Batch(first, events, Context(CLOCK, {}, None)))
        self._lost += lost


def test_events_come_as_they_happen() -> None:
    """Old ones and new ones, with what is kept no more, and what was lost for good."""
    reader = Reader()
    blocks = streams.events(cast("EventReader", reader), 2, STARTED)

    def read() -> list[Any]:
        found: list[Any] = []
        while block := next(blocks):
            found += [each.get("seq") or each["stream"] for each in map(json.loads, block.splitlines())]
        return found

    def about(at: int, last: int, missed: int = 0, lost: int = 0) -> dict[str, Any]:
        return {"id": 5, "started": STARTED, "at": at, "last": last, "missed": missed, "lost": {"first_drop": lost}}

    reader.tell(1, 4)
    assert read() == [about(2, 4), 3, 4]
    assert read() == []
    reader.tell(5, 25, lost=6)
    assert read() == [about(19, 29, missed=15), *range(20, 30), about(29, 29, lost=6)]
    assert read() == []
