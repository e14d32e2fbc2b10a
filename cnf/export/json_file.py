"""``[export.json]``: a file with a line for each flow record. A thread writes it, so that no drain waits for a disk."""

from __future__ import annotations

import errno
import math
import queue
import threading
import time
from pathlib import Path
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.clock import WallClock
from cnf.config import Settings
from cnf.export.counters import ExportCounters
from cnf.export.line_file import LineFile
from cnf.export.lines import CHUNK, Lines
from cnf.flows.stream import RecordBatch
from cnf.recording import JsonLines

MOST_WAITING: Final = 200_000
"""Records that wait to be written: at most 20 MB, unless one drain alone has made more."""
RETRY: Final = 1.0
"""Seconds from one attempt to the next, while the file cannot be written."""
FAREWELL: Final = 3.0
"""Seconds that are left at the end for what waits."""
OTHER: Final = "other"
REASONS: Final = ("no_space", "no_folder", "no_permission", OTHER)
_BY_ERRNO: Final = {
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.ENOENT: "no_folder",
    errno.ENOTDIR: "no_folder",
    errno.EACCES: "no_permission",
    errno.EPERM: "no_permission",
    errno.EROFS: "no_permission",
}


class JsonFile:
    """A sink that appends to a file. What is not of the thread is for the main thread."""

    def __init__(self, settings: Settings) -> None:
        """Write as ``settings`` say, which may be nowhere."""
        self.counters = ExportCounters("json", REASONS)
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._waiting: queue.SimpleQueue[RecordBatch | JsonLines | None] = queue.SimpleQueue()
        """Records, settings for those that come after, and None for the end."""
        self._again = threading.Event()
        """Set where it makes sense to try again at once."""
        self._deadline: float | None = None
        """The end of the time that is left; None until the end begins."""
        self._thread: threading.Thread | None = None
        self._used = JsonLines()
        self._ahead = False
        """Whether the settings in use are to come in ``_waiting`` yet."""
        self._file = LineFile("", 0)
        self._lines = Lines("")
        self._failing = False
        self.apply(settings)

    def shown(self) -> tuple[ExportCounters, ...]:
        """Return the counters, if there has been a file."""
        return (self.counters,) if self._thread else ()

    def active(self, clock: WallClock) -> float:  # noqa: ARG002 - a sink as the others are
        """Return how long a flow that goes on may be without a record."""
        return self._wanted.active_timeout if self._wanted.file else math.inf

    def put(self, batch: RecordBatch) -> None:
        """Have the records of a drain written; if too many wait, they are lost."""
        records = batch.end - batch.first
        if not self._wanted.file or not records:
            return
        if not self.counters.waiting or self.counters.waiting + records <= MOST_WAITING:
            self.counters.wait(records)
            self._waiting.put(batch)
        else:
            self._lose(Lines(self._wanted.filter).count(batch, batch.first))

    def apply(self, settings: Settings) -> None:
        """Go on with the file that ``settings`` name, opened anew."""
        self._wanted = settings.export.json
        if self._wanted.file and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="export.json", daemon=True)
            self._thread.start()
        self._waiting.put(self._wanted)
        self._again.set()

    def close(self) -> None:
        """Write what waits, as far as that can be done in a short time."""
        if self._thread:
            self._deadline = time.monotonic() + FAREWELL
            self._waiting.put(None)
            self._again.set()
            self._thread.join(FAREWELL + RETRY)

    # --- The thread ---

    def _run(self) -> None:
        while self._deadline is None or not self._waiting.empty():
            match self._waiting.get():
                case RecordBatch() as batch:
                    self._try_to_write(batch)
                    self.counters.wait(batch.first - batch.end)
                case JsonLines() as settings if self._ahead:
                    self._ahead = settings is not self._used
                case JsonLines() as settings:
                    self._use(settings)
                case None:
                    pass
        self._file.close()

    def _use(self, settings: JsonLines) -> None:
        self._file.close()
        self._used = settings
        self._lines = Lines(settings.filter)
        self._file = LineFile(settings.file, settings.max_bytes)
        if settings.file:
            try:
                self._file.open()
            except OSError as error:
                self._fail(error)

    def _try_to_write(self, batch: RecordBatch) -> None:
        before = self.counters.records + self.counters.lost
        try:
            self._write(batch)
        except Exception as error:  # noqa: BLE001 - the next records are worth another try
            self.counters.fail(OTHER, repr(error))
            self._log.error("exporter failed", exporter=self.counters.exporter, error=repr(error))
            self._lose(batch.end - batch.first - (self.counters.records + self.counters.lost - before))

    def _write(self, batch: RecordBatch) -> None:
        """Write the records of a batch, as soon as that can be done."""
        place = batch.first
        while place < batch.end:
            stop = min(place + CHUNK, batch.end)
            rest = self._lines.of(batch, place, stop)
            while rest:
                if self._gives_up():
                    self._lose(rest.count(b"\n") + self._lines.count(batch, stop))
                    return
                rest = rest[self._append(rest) :]
            place = stop

    def _append(self, lines: bytes) -> int:
        """Write lines; return how many bytes have been written, and after a failure wait a while."""
        try:
            written = self._file.append(lines)
        except OSError as error:
            self._fail(error)
            self._again.wait(RETRY)
            self._again.clear()
            if self._wanted.file and self._wanted is not self._used:  # they may mend it
                self._ahead = True
                self._use(self._wanted)
            return 0
        if written and self._failing:
            self._failing = False
            self._log.info("flow records written again", file=self._used.file)
        self.counters.sent(lines.count(b"\n", 0, written), written)
        return written

    def _gives_up(self) -> bool:
        """Return whether what waits is not to be written any more."""
        if self._deadline is not None:
            return self._failing or time.monotonic() > self._deadline
        return self._failing and not self._wanted.file

    def _fail(self, error: OSError) -> None:
        self._file.close()
        file, remedy = self._used.file, _remedy(error.errno or 0, Path(self._used.file).parent)
        reason = _BY_ERRNO.get(error.errno or 0, OTHER)
        self.counters.fail(reason, f"{file}: {error.strerror}", remedy)
        if not self._failing:
            self._failing = True
            self._log.error("flow records not written", file=file, error=error.strerror, remedy=remedy)

    def _lose(self, records: int) -> None:
        self.counters.lose(records)
        self._log.warning("flow records lost", exporter=self.counters.exporter, records=records)


def _remedy(number: int, folder: Path) -> str:
    match _BY_ERRNO.get(number):
        case "no_space":
            return "make room: it is tried again"
        case "no_folder" | "no_permission":
            unit = f"systemctl edit cnfd: [Service] ReadWritePaths={folder}"
            return f"install -d -o cnf {folder}; {unit}, and a restart"
        case _:
            return "it is tried again"
