"""The history: a sink of flow records that has a block written each minute, by a thread of its own."""

from __future__ import annotations

import contextlib
import math
import queue
import secrets
import threading
import time
from dataclasses import replace
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.clock import WallClock
from cnf.config import Settings
from cnf.datapath.handover_map import Document
from cnf.errors import CnfError
from cnf.flows.stream import RecordBatch
from cnf.history.block import Sums
from cnf.history.minute import MOST
from cnf.history.writer import Drained, Writer
from cnf.limiter.limiter import Limiter
from cnf.recording import History as HistorySettings

MINUTE: Final = 60.0
"""Seconds of a block, by the wall clock: it ends with the first drain of another minute than it began in."""
WAITING: Final = 64
"""Drains that wait for the thread, at most."""
PATIENCE: Final = 5.0
"""Seconds that the end of the daemon waits for the latest block."""


class History:
    """Keep what each minute had. A failure costs minutes, and never a drain.

    The counts of a block are the increase of all counters since the latest block that was written, by this daemon or by
    one before it that had the same maps. So no packet is in no block, and none in two.
    """

    def __init__(self, settings: HistorySettings, started: float, *, kept: bool) -> None:
        """Keep what ``settings`` say; the daemon has ``started`` then, with maps that were ``kept``, or new ones."""
        self.limiter: Limiter | None = None
        """None if there is none."""
        self._maps = secrets.randbits(63)
        self._began = None if kept else round(started * 1e9)
        """When the maps have begun to count, in ns since the epoch; None if nobody knows."""
        self._settings = settings
        self._minute = None if self._began is None else self._began // round(MINUTE * 1e9)
        """In which the latest block has ended; None where the first drain ends one."""
        self._tasks: queue.Queue[Drained | None] = queue.Queue(WAITING)
        self._writer: Writer | None = None
        self._thread: threading.Thread | None = None
        self._late = 0
        self._left_out = False
        """Whether the records of the latest drain have found no room."""
        self._log: FilteringBoundLogger = structlog.get_logger()

    # What the main thread does with it.

    def hand_over(self) -> Document:
        """Return what the next daemon must know: whose counts the blocks have."""
        return {"maps": self._maps, "began": self._began}

    def take_over(self, document: Document | None) -> None:
        """Go on from what ``hand_over()`` returned."""
        if document:
            began = document["began"]
            self._maps, self._began = int(document["maps"]), None if began is None else int(began)

    def apply(self, settings: Settings) -> None:
        """Keep what ``settings`` say, from now on."""
        self._settings = settings.history
        if self._writer:
            self._writer.settings = settings.history

    def active(self, clock: WallClock) -> float:
        """Have every flow recorded at the first drain, and at each that ends a block."""
        return 0.0 if self._settings.keep and self._minute_of(clock) != self._minute else math.inf

    def put(self, batch: RecordBatch) -> None:
        """Take the records of a drain, and, where a block ends, its counters."""
        if not self._settings.keep:
            return
        drained = Drained(batch, None, complete=not self._left_out)
        if batch.whole or self._minute_of(batch.clock) != self._minute:
            try:
                drained = replace(drained, **self._ended(batch))
            except CnfError as error:
                self._log.warning("history waits for the next drain", error=str(error))
        if not drained.sums and self._minute is None:
            return
        with self._tasks.mutex:
            rows = sum(len(records) for task in self._tasks.queue if task for records in task.batch.records.values())
        if rows > MOST:  # the disk hangs
            drained = replace(drained, batch=replace(batch, records={}), complete=False)
        try:
            self._tasks.put_nowait(drained)
        except queue.Full:
            self._late += 1
            self._left_out = True
            return
        self._left_out = False
        if drained.sums:
            self._minute = self._minute_of(batch.clock)
        if self._thread is None:
            self._start()

    def close(self) -> None:
        """Wait for what is being written, but not for a disk that hangs."""
        if self._thread is None:
            return
        until = time.monotonic() + PATIENCE
        with contextlib.suppress(queue.Full):
            self._tasks.put(None, timeout=PATIENCE)
        self._thread.join(max(until - time.monotonic(), 0.0))
        if self._thread.is_alive():
            error = f"{self._settings.folder}: not done within {PATIENCE:.0f} s"
            self._log.warning("history not written", error=error, remedy="look at the disk")

    # What others ask, from their threads.

    @property
    def is_on(self) -> bool:
        """Whether minutes are kept."""
        return bool(self._settings.keep)

    @property
    def folder(self) -> str:
        """Where blocks are."""
        return self._settings.folder

    @property
    def bytes(self) -> int:
        """What all blocks take."""
        return self._writer.files.bytes if self._writer and self._writer.files else 0

    @property
    def oldest(self) -> float | None:
        """When the earliest block begins, in seconds since the epoch; None if there is none."""
        oldest = self._writer.files.oldest if self._writer and self._writer.files else None
        return None if oldest is None else oldest / 1e9

    @property
    def write_errors(self) -> int:
        """Blocks that could not be written when they were due."""
        return self._late + (self._writer.errors if self._writer else 0)

    def _ended(self, batch: RecordBatch) -> dict[str, Any]:
        """Return what else a drain has that ends a block. Raises MapError."""
        limiter = self.limiter
        rules = limiter.counts() if limiter else {}
        held = (limiter, limiter.sources) if limiter and limiter.sources else None
        return {"sums": Sums(batch.received, rules), "held": held}

    @staticmethod
    def _minute_of(clock: WallClock) -> int:
        return clock.now.realtime // round(MINUTE * 1e9)

    def _start(self) -> None:
        self._writer = Writer(self._settings, self._maps, self._began)
        self._thread = threading.Thread(target=self._run, args=(self._writer,), name="history", daemon=True)
        self._thread.start()

    def _run(self, writer: Writer) -> None:
        while (drained := self._tasks.get()) is not None:
            try:
                writer.take(drained)
            except Exception as error:  # noqa: BLE001 - whatever it is, later minutes must be written
                writer.errors += 1
                self._log.error("history failed", error=repr(error))
