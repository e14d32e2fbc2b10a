"""The exporters to all IPFIX collectors: they follow reloads, and their sequence numbers a restart."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from cnf.clock import WallClock
from cnf.config import Settings
from cnf.export.counters import ExportCounters
from cnf.export.ipfix_exporter import IpfixExporter
from cnf.export.selection import Path
from cnf.flows.stream import RecordBatch

PATIENCE: Final = 2.0
"""Seconds that an exporter has for what is queued, when it is removed or the daemon stops."""


MOST_FORMER: Final = 32
"""Ways of the export's packets that are remembered after a reload."""


class IpfixExporters:
    """A sink of records that hands them to an exporter for each ``[[export.ipfix]]`` table."""

    def __init__(self, settings: Settings) -> None:
        """Have the exporters of ``settings``; threads begin with the first records."""
        self._exporters: dict[str, IpfixExporter] = {}
        self._sequences: dict[str, int] = {}
        """Numbers of the next flow record by stream, also of streams that a reload has ended."""
        self._former: deque[Path] = deque(maxlen=MOST_FORMER)
        """Ways of the packets of exporters that a reload has ended: flows that are still there have them."""
        self.apply(settings)

    def active(self, clock: WallClock) -> float:
        """Return the shortest time that a collector has a flow go on without a record, in seconds."""
        return min((each.active(clock) for each in self._exporters.values()), default=math.inf)

    def put(self, batch: RecordBatch) -> None:
        """Queue the records of a drain for all collectors."""
        for exporter in self._exporters.values():
            exporter.put(batch)

    def apply(self, settings: Settings) -> None:
        """Add, change and remove exporters; one that stays keeps its queue and its numbers."""
        wanted = {options.collector: options for options in settings.export.ipfix}
        for collector in self._exporters.keys() - wanted.keys():
            exporter = self._exporters.pop(collector)
            self._sequences[exporter.stream] = exporter.sequence
            self._former += exporter.paths
            exporter.end(PATIENCE)
        for collector, options in wanted.items():
            there = self._exporters.get(collector)
            if there is None:
                there = self._exporters[collector] = IpfixExporter(options, settings.flows.drain_interval, self._paths)
                there.sequence = self._sequences.pop(there.stream, 0)
            elif there.options != options:
                there.apply(options)
            there.interval = settings.flows.drain_interval

    def close(self) -> None:
        """Send what is queued, for a bounded time."""
        for exporter in self._exporters.values():
            exporter.end(PATIENCE)
        for exporter in self._exporters.values():
            exporter.join()

    def counters(self) -> Iterator[ExportCounters]:
        """Yield the counters of each exporter."""
        for exporter in tuple(self._exporters.values()):
            yield exporter.counters

    def hand_over(self) -> dict[str, Any]:
        """Return the numbers that the next daemon goes on with."""
        return self._sequences | {each.stream: each.sequence for each in self._exporters.values()}

    def take_over(self, document: dict[str, Any] | None) -> None:
        """Go on with the numbers of ``hand_over()``."""
        self._sequences = {stream: int(sequence) for stream, sequence in (document or {}).items()}
        for exporter in self._exporters.values():
            exporter.sequence = self._sequences.pop(exporter.stream, 0)

    def _paths(self) -> tuple[Path, ...]:
        return (*self._former, *(path for each in self._exporters.values() for path in each.paths))
