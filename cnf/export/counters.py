"""What an exporter has sent, and what it has not: for /metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class ExportCounters:
    """The counters of one exporter; any thread may write and read them."""

    def __init__(self, exporter: str, reasons: Iterable[str]) -> None:
        """Start at 0. ``exporter`` is the label, ``reasons`` are those that its errors can have."""
        self.exporter = exporter
        self.records = self.bytes = self.lost = 0
        self.errors = dict.fromkeys(reasons, 0)
        self._lock = threading.Lock()

    def sent(self, records: int, octets: int) -> None:
        """Count ``records`` that have been sent or written, and all ``octets`` of this, templates too."""
        with self._lock:
            self.records += records
            self.bytes += octets

    def lose(self, records: int) -> None:
        """Count ``records`` that will never be sent."""
        with self._lock:
            self.lost += records

    def fail(self, reason: str) -> None:
        """Count an error."""
        with self._lock:
            self.errors[reason] += 1
