"""An exporter of flow records to one collector: a thread that sends what drains have queued, evenly over the time."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from cnf.abi import Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.export.biflows import Biflows, join
from cnf.export.collector import REASONS, Collector, SendError
from cnf.export.counters import ExportCounters
from cnf.export.ipfix import Message, Stream
from cnf.export.pace import SHARE, Pace
from cnf.export.selection import Path, Selection
from cnf.flows.stream import RecordBatch
from cnf.recording import Ipfix

QUEUE_BYTES: Final = 256_000_000
"""Of the records that wait; above that the oldest drain is dropped. The newest one always waits."""
RESOLVE_INTERVAL: Final = 60.0
"""Seconds from one look-up of the collector's name to the next."""
ANSWER_TIME: Final = 0.2
"""Seconds that a host, or a router, has to refuse the templates, before records follow them."""
RETRY: Final = 1.0
"""Seconds from one try to reach a collector to the next."""
MODULUS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Drain:
    """What one drain has queued."""

    options: Ipfix
    records: Mapping[Family, Records]
    biflows: Mapping[Family, Biflows]
    """Connections, with ``biflow = true``."""
    clock: WallClock
    sequence: int
    """Number of the first flow record."""
    names: Mapping[int, tuple[str, ...]]
    """Interfaces to name before."""
    templates: bool
    """Whether templates and all options go before."""
    deadline: float
    """When all is to be sent, by time.monotonic()."""

    @property
    def flows(self) -> int:
        """Return the number of flow records: one of both directions is one."""
        return sum(map(len, self.records.values())) + sum(len(each.forward) for each in self.biflows.values())

    @property
    def bytes(self) -> int:
        """Return the bytes that its records take."""
        joined = (each for biflows in self.biflows.values() for each in biflows)
        return sum(each.nbytes for each in (*self.records.values(), *joined))


class IpfixExporter:
    """A sink of records (``cnf.flows.stream.Sink``) that sends them to one collector.

    A flow record has its number from the moment that it is queued. What is not sent leaves a gap that the collector
    sees, and the next daemon goes on with the number after all that was queued, whatever had been sent of it.
    """

    def __init__(self, options: Ipfix, interval: float, own: Callable[[], Collection[Path]] = tuple) -> None:
        """Send to the collector of ``options``, evenly over ``interval`` seconds; the thread begins with records.

        ``own`` returns the paths of all exporters, whose packets are in no record that is sent.
        """
        self.interval = interval
        """Seconds from one drain to the next."""
        self.sequence = 0
        """Number of the next flow record that is queued."""
        self.counters = ExportCounters(options.collector, REASONS)
        self._options = options
        self._selection = Selection(options)
        self._own = own
        self._collector = Collector(options.collector)
        self._stream = Stream(options.domain, options.mtu)
        self._log = structlog.get_logger().bind(exporter=options.collector)
        self._queue: deque[Drain] = deque()
        self._queued = threading.Condition()
        self._named: Mapping[int, tuple[str, ...]] = {}
        self._templates_at = -1.0
        self._resolve_at = 0.0
        self._outage: SendError | None = None
        self._is_proven = False
        """Whether the collector's host had time to refuse something on this socket, and did not."""
        self._lost = 0
        """Records since the outage began."""
        self._unsent = 0
        """Records that there was no time for at the end."""
        self._end_by: float | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        if self._collector.is_numeric:  # at once, so that what a previous daemon has sent is left out, too
            with contextlib.suppress(SendError):
                self._collector.connect()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the ways of the packets that it sends, and has sent."""
        return self._collector.paths

    @property
    def stream(self) -> str:
        """Return the name of the stream that has its numbers: the collector and the observation domain."""
        return f"{self._options.collector} {self._options.domain}"

    @property
    def options(self) -> Ipfix:
        """Return what is configured."""
        return self._options

    def apply(self, options: Ipfix) -> None:
        """Have other options for the same collector; what is queued goes by those that were. Raises UsageError."""
        self._selection = Selection(options)
        if options.domain != self._options.domain:
            self.sequence = 0
        self._options = options
        self._templates_at = -1.0

    def active(self, clock: WallClock) -> float:  # noqa: ARG002 - as a Sink has it
        """Return the seconds that a flow may go on without a record."""
        return self._options.active_timeout

    def put(self, batch: RecordBatch) -> None:
        """Queue the records that are for this collector, and return."""
        now = batch.clock.now.monotonic / 1e9
        names = self._selection.names(batch)
        templates = now >= self._templates_at
        if templates:
            self._templates_at = now + self._options.template_interval
        records = self._selection.of(batch, self._own())
        alone, biflows = join(records) if self._options.biflow else (records, {})
        drain = Drain(
            self._options,
            alone,
            biflows,
            batch.clock,
            self.sequence,
            names if templates else dict(names.items() - self._named.items()),
            templates,
            time.monotonic() + SHARE * self.interval,
        )
        self._named = names
        self.sequence = (self.sequence + drain.flows) % MODULUS
        if not (drain.flows or drain.names or drain.templates):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"ipfix {self._collector.name}", daemon=True)
            self._thread.start()
        with self._queued:
            self._queue.append(drain)
            self.counters.wait(drain.flows)
            dropped = list(self._overflowing())
            self._queued.notify()
        lost = sum(each.flows for each in dropped)
        if lost:
            self.counters.wait(-lost)
            self.counters.lose(lost)
            self._log.warning("records lost: the exporter is behind", lost=lost)

    def end(self, patience: float) -> None:
        """Send what is queued, for at most ``patience`` seconds, and end; the rest is lost. Returns at once."""
        with self._queued:
            self._end_by = time.monotonic() + patience
            self._ending.set()
            self._queued.notify()
        if self._thread is None:
            self._collector.close()

    def join(self) -> None:
        """Wait for the end that ``end()`` has asked for."""
        if self._thread and self._end_by:
            self._thread.join(max(0.0, self._end_by - time.monotonic()) + ANSWER_TIME)

    def _overflowing(self) -> Iterator[Drain]:
        while len(self._queue) > 1 and sum(each.bytes for each in self._queue) > QUEUE_BYTES:
            yield self._queue.popleft()

    def _run(self) -> None:
        while drain := self._next():
            try:
                self._send_all(drain)
            except Exception as error:  # noqa: BLE001 - the next drain is worth another try
                self.counters.fail("other", repr(error))
                self._log.error("exporter failed", error=repr(error))
            self.counters.wait(-drain.flows)
        self._collector.close()
        if self._unsent:
            self._log.warning("records lost at the end", lost=self._unsent)

    def _next(self) -> Drain | None:
        """Return the drain to send next; None at the end."""
        with self._queued:
            self._queued.wait_for(lambda: self._queue or self._ending.is_set())
            return self._queue.popleft() if self._queue else None

    def _send_all(self, drain: Drain) -> None:
        """Send a drain's records by its deadline. What is refused, or cannot be sent by then, is lost."""
        left = drain.flows
        pace = Pace(left)
        try:
            self._begin(drain)
            for message in self._messages(drain) if self._reach(drain) else ():
                if self._is_over:
                    break
                left -= message.flows
                if not self._send(message, drain):
                    break
                now = time.monotonic()
                self._pause(pace.after(message.flows, now, now if self._ending.is_set() else drain.deadline))
        finally:
            self._lose(left)
            self._unsent += left if self._ending.is_set() else 0

    def _messages(self, drain: Drain) -> Iterator[Message]:
        stream, clock = self._stream, drain.clock
        stream.room = self._collector.room(drain.options.mtu)
        if drain.templates:
            yield from stream.templates(clock.seconds)
            yield from stream.sampling(clock)
        yield from stream.names(drain.names, clock)
        if drain.templates:
            yield from stream.exported(clock)
        for records in drain.records.values():
            yield from stream.flows(records, clock)
        for biflows in drain.biflows.values():
            yield from stream.biflows(biflows, clock)

    def _begin(self, drain: Drain) -> None:
        """Have the stream at the first record of a drain."""
        stream, options = self._stream, drain.options
        stream.domain, stream.sequence, stream.biflow = options.domain, drain.sequence, options.biflow

    def _send(self, message: Message, drain: Drain) -> bool:
        """Send a message, or lose it; return whether others can follow by the drain's deadline."""
        try:
            self._collector.send(message.octets)
        except SendError as error:
            self._lose(message.flows)
            if error.reason == "too_large":  # the kernel has learned what the path takes
                self._stream.room = self._collector.room(drain.options.mtu)
                self._warn(error)
                return True
            self._fail(error)
            return self._reach(drain)
        self.counters.sent(message.flows, len(message.octets))
        return True

    def _reach(self, drain: Drain) -> bool:
        """Try up to the drain's deadline whether the collector can be reached; return that."""
        while True:
            try:
                self._open()
                if not self._is_proven:
                    self._prove(drain)
                self._collector.check()
            except SendError as error:
                self._fail(error)
                if self._left(drain) < RETRY:
                    return False
                self._pause(RETRY)
            else:
                return True

    def _open(self) -> None:
        """Look up the name if it is time to, or if nothing can be sent, and have a socket to its address."""
        if self._is_proven and time.monotonic() < self._resolve_at:
            return
        self._resolve_at = time.monotonic() + RESOLVE_INTERVAL
        before = self._collector.path
        try:
            self._collector.connect(anew=self._outage is not None and self._outage.reason in ("unreachable", "other"))
        except SendError as error:
            if not self._is_proven:
                raise
            self._warn(error)  # the address that is known serves on
        if self._collector.path != before:
            self._is_proven = False

    def _prove(self, drain: Drain) -> None:
        """Send templates; raise SendError if they are refused before long.

        It may be in the midst of a drain: the stream's number stays.
        """
        self._stream.room = self._collector.room(drain.options.mtu)
        for message in self._stream.templates(drain.clock.seconds):
            self._collector.send(message.octets)
            self.counters.sent(0, len(message.octets))
        self._pause(min(ANSWER_TIME, max(0.0, self._left(drain))))
        self._collector.check()
        self._is_proven = True
        if self._outage:
            self._log.info("records sent again", lost=self._lost)
            self._outage, self._lost = None, 0
            self._templates_at = -1.0  # a collector that was started again knows of nothing

    def _fail(self, error: SendError) -> None:
        """Count an error after which nothing can be sent, and tell of it once."""
        self._is_proven = False
        if self._outage and self._outage.reason == error.reason:
            self._count(error)
        else:
            self._warn(error)
        self._outage = error

    def _warn(self, error: SendError) -> None:
        self._count(error)
        self._log.warning("records not sent", reason=error.reason, error=error.message, remedy=error.remedy)

    def _count(self, error: SendError) -> None:
        self.counters.fail(error.reason, error.message, error.remedy)

    def _lose(self, flows: int) -> None:
        self.counters.lose(flows)
        self._lost += flows

    @property
    def _is_over(self) -> bool:
        return self._end_by is not None and time.monotonic() >= self._end_by

    def _left(self, drain: Drain) -> float:
        """Return the seconds up to the drain's deadline, or to the end if that is earlier."""
        return min(drain.deadline, self._end_by or math.inf) - time.monotonic()

    def _pause(self, seconds: float) -> None:
        """Wait, but not through the beginning of the end."""
        if self._ending.is_set():
            time.sleep(seconds)
        else:
            self._ending.wait(seconds)
