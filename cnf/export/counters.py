"""What an exporter has sent, and what it has not: for /metrics and ``cnfctl status``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import NamedTuple


class Failure(NamedTuple):
    """An error of an exporter."""

    at: float
    """Seconds since the epoch."""
    reason: str
    error: str
    remedy: str


class ExportCounters:
    """The counters of one exporter; any thread may write and read them."""

    def __init__(self, exporter: str, reasons: Iterable[str]) -> None:
        """Start at 0. ``exporter`` is the label, ``reasons`` are those that its errors can have."""
        self.exporter = exporter
        self.records = self.bytes = self.lost = 0
        self.waiting = 0
        """Records of drains that are queued, or on their way."""
        self.errors = dict.fromkeys(reasons, 0)
        self.failure: Failure | None = None
        """The latest error."""
        self.failing = False
        """Whether no record has gone out since the latest error."""
        self._lock = threading.Lock()

    def sent(self, records: int, octets: int) -> None:
        """Count ``records`` that have been sent or written, and all ``octets`` of this, templates too."""
        with self._lock:
            self.records += records
            self.bytes += octets
            self.failing = self.failing and not records

    def lose(self, records: int) -> None:
        """Count ``records`` that will never be sent."""
        with self._lock:
            self.lost += records

    def wait(self, records: int) -> None:
        """Have so many ``records`` more that wait, or fewer."""
        with self._lock:
            self.waiting += records

    def fail(self, reason: str, error: str, remedy: str = "") -> None:
        """Count an error, and keep what it is and what to do."""
        with self._lock:
            self.errors[reason] += 1
            self.failure = Failure(time.time(), reason, error, remedy)
            self.failing = True
