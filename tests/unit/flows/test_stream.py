"""Records are numbered once, over all daemons, and each sink gets all of them in their order."""

from __future__ import annotations

import math

import numpy as np

from cnf.abi import Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.config import Settings
from cnf.flows.records import FLOW_RECORD
from cnf.flows.snapshot import Snapshot
from cnf.flows.stream import RecordBatch, Stream
from tests.unit.samples import CLOCK, NAMES


class Kept:
    """A sink that keeps everything."""

    def __init__(self, active: float = math.inf) -> None:
        """Have flows that go on recorded after ``active`` seconds."""
        self.batches: list[RecordBatch] = []
        self._active = active

    def active(self, clock: WallClock) -> float:
        """Return what the test has said."""
        assert clock is CLOCK
        return self._active

    def put(self, batch: RecordBatch) -> None:
        """Keep a batch."""
        self.batches.append(batch)

    def apply(self, settings: Settings) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def snapshot() -> Snapshot:
    """Return one without flows."""
    return Snapshot(CLOCK, 0.0, {}, {}, {}, {}, NAMES)


def records(ipv4: int, ipv6: int) -> dict[Family, Records]:
    """Return so many records."""
    return {"ipv4": np.zeros(ipv4, FLOW_RECORD["ipv4"]), "ipv6": np.zeros(ipv6, FLOW_RECORD["ipv6"])}


def test_numbers_go_on_from_drain_to_drain_and_daemon_to_daemon() -> None:
    """The first record of a batch follows the last one of the batch before, also in another daemon."""
    first, second, sink = Stream(), Stream(), Kept()
    first.sinks = second.sinks = [sink]
    first.end(snapshot(), records(3, 2))
    first.send()
    first.end(snapshot(), records(0, 0))
    first.end(snapshot(), records(1, 0))
    first.send()
    second.take_over(first.hand_over())
    second.end(snapshot(), records(0, 4))
    second.send()
    assert [(batch.first, batch.end) for batch in sink.batches] == [(1, 6), (6, 6), (6, 7), (7, 11)]


def test_a_batch_waits_until_it_is_sent() -> None:
    """The next daemon knows of the numbers before anyone has a record."""
    stream, sink = Stream(), Kept()
    stream.sinks.append(sink)
    stream.end(snapshot(), records(5, 0))
    assert (sink.batches, stream.hand_over()["next"]) == ([], 6)
    stream.send()
    stream.send()
    assert len(sink.batches) == 1


def test_what_is_due_is_what_the_most_eager_sink_asks_for() -> None:
    """Without a sink, flows that go on are in no record."""
    stream = Stream()
    assert stream.begin(CLOCK, 0).active == math.inf
    stream.sinks += [Kept(60.0), Kept(), Kept(5.0)]
    due = stream.begin(CLOCK, 0, "stopped")
    assert (due.active, due.whole, len(due.events)) == (5.0, "stopped", 0)
