"""What flow records add to the cycle over a million flows: of those that end, of those that go on, and of all.

Run it with ``python -m bench.recording``. Each figure is the median of drains of two tables in turn, one of which is
recorded.
"""

from __future__ import annotations

import math
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import attrs

from bench import wire
from bench.subjects import BARE, MAX_ENTRIES, build
from bench.table import FLOWS, Filled, around
from cnf.clock import WallClock
from cnf.config import Settings
from cnf.datapath.blueprint import Blueprint
from cnf.flows.stream import RecordBatch, Stream
from cnf.flows.top import FlowSeries
from cnf.kernel.hooks import HOOKS
from cnf.process import log
from cnf.process.gc_tuning import return_large_blocks

ENDING: Final = FLOWS // 10
ROUNDS: Final = 7


class Sink:
    """Count the records."""

    def __init__(self) -> None:
        """Have flows that go on in no record."""
        self.seconds = math.inf
        self.records = 0

    def active(self, _clock: WallClock) -> float:
        """Return what the round is about."""
        return self.seconds

    def put(self, batch: RecordBatch) -> None:
        """Count them."""
        self.records += sum(map(len, batch.records.values()))

    def apply(self, settings: Settings) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def tables(stream: Stream) -> Iterator[tuple[Filled, Filled]]:
    """Fill a table that is not recorded, and one whose records ``stream`` gets."""
    return_large_blocks()
    with ExitStack() as stack:
        plans = [Blueprint(MAX_ENTRIES, hooks=HOOKS, flow_records=records) for records in (False, True)]
        bare, plain, recorded = build([BARE, *plans], stack)
        filled = around(plain, bare.programs["send"], stack), around(recorded, bare.programs["send"], stack, stream)
        for table in filled:
            with table.on_the_wire():
                table.touch(FLOWS)
        yield filled


def main() -> None:
    """Print the ratios."""
    log.configure("error", "console", sys.stderr)
    wire.make()
    sink, stream = Sink(), Stream()
    stream.sinks.append(sink)
    with tables(stream) as both:
        series = [FlowSeries() for _ in both]

        def cycle(number: int) -> float:
            table, started = both[number], time.thread_time()
            series[number].update(table.tracker.drain(), table.settings.metrics.top_flows)
            if number:
                stream.send()
            return time.thread_time() - started

        def ending(number: int) -> float:
            table, started = both[number], time.monotonic()
            with table.on_the_wire():
                table.touch(FLOWS - ENDING)
                table.tracker.apply(attrs.evolve(table.settings.flows, idle_timeout=time.monotonic() - started))
                seconds = cycle(number)
                table.tracker.apply(table.settings.flows)
                table.touch(ENDING)
            cycle(number)
            return seconds

        def resting(number: int) -> float:
            return cycle(number)

        def changed(number: int) -> float:
            with both[number].on_the_wire():
                both[number].touch(FLOWS)
            return cycle(number)

        for _ in range(2):
            for number in (0, 1):
                cycle(number)
        for what, run, seconds in (
            ("nothing to record", resting, math.inf),
            (f"{ENDING:,} flows end", ending, math.inf),
            ("flows that go on are due in an hour", resting, 3600.0),
            ("flows that go on have been recorded lately", resting, 10.0),
            ("all flows go on, and are recorded", changed, 0.0),
        ):
            if what.startswith("flows that go on have"):
                sink.seconds = 0.0
                changed(1)
                sink.seconds = 10.0  # all are older
            else:
                sink.seconds = seconds
            before, taken = sink.records, [[run(number) for number in (0, 1)] for _ in range(ROUNDS)]
            plain, recorded = (statistics.median(each) for each in zip(*taken, strict=True))
            records = (sink.records - before) // ROUNDS
            print(f"{what}: {plain:.3f} s, {recorded:.3f} s with {records:,} records: {recorded / plain:.2f}")
            print(
                f"  peak of resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB", flush=True
            )


if __name__ == "__main__":
    main()
