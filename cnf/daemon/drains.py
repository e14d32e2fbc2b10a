"""A drain: what it reads, and who gets to know what it has found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.daemon.handover import Handover
from cnf.errors import CnfError
from cnf.flows.drain import Tracker
from cnf.flows.snapshot import Snapshot
from cnf.flows.stream import Stream, Whole
from cnf.flows.top import FlowSeries
from cnf.server.instruments import Instruments
from cnf.server.live import Live
from cnf.server.state import State


@dataclass(frozen=True, slots=True)
class Drains:
    """Read the tables, and publish what they held."""

    state: State
    live: Live
    tracker: Tracker
    stream: Stream
    series: FlowSeries
    handover: Handover
    instruments: Instruments
    _log: FilteringBoundLogger = field(default_factory=structlog.get_logger)

    def drain(self, late: float = 0.0, whole: Whole = None) -> None:
        """Drain, ``late`` seconds after it was due, and record all flows if ``whole``; a failure is published."""
        with self.live.draining:
            try:
                snapshot = self._read(whole)
            except CnfError as error:
                self.instruments.drain_errors.inc()
                self.state.drain_errors += 1
                self.state.last_error = str(error)
                self._log.error("drain failed", error=str(error))
            else:
                self._publish(snapshot, late)

    def _read(self, whole: Whole) -> Snapshot:
        snapshot = self.tracker.drain(whole)
        if self.live.limiter:
            self.live.limiter.drain(snapshot.clock)
        if self.live.events is None:
            return snapshot
        finished = self.live.events.finished.shown(snapshot.clock, self.state.settings.flows.idle_timeout)
        return replace(snapshot, finished=finished)

    def _publish(self, snapshot: Snapshot, late: float) -> None:
        self.instruments.drain_duration.observe(snapshot.duration)
        self.series.update(snapshot, self.state.settings.metrics.top_flows)
        self.handover.note()  # first: nobody sees a count that the next daemon would not know of
        self.state.publish(snapshot, self.series.values)
        self.stream.send()
        if self.state.settings.export.ipfix:
            self.handover.note()  # the numbers that exporters have given to what they were just handed
        self._log.debug(
            "drained",
            flows=sum(map(len, snapshot.flows.values())),
            seconds=round(snapshot.duration, 4),
            late=round(late, 4),
        )
