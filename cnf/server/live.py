"""The daemon's parts that answers ask as they stand at that moment, beside what State shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnf.arrays import Records
from cnf.capture.capture import Capture
from cnf.events.reader import EventReader
from cnf.export.counters import ExportCounters
from cnf.export.record_log import RecordLog
from cnf.flows.stream import Stream
from cnf.history.history import History
from cnf.limiter.limiter import Limiter

if TYPE_CHECKING:
    from cnf.server.access import Access


@dataclass(frozen=True, slots=True)
class Live:
    """Parts that any thread may ask."""

    totals: Callable[[], Mapping[str, Records]]
    """Read the counters: INTERFACE_COUNTERS, shape (), by interface name."""
    limiter: Limiter | None = None
    """None if the kernel takes no program with limits."""
    events: EventReader | None = None
    """None if there is nothing to tell."""
    record_log: RecordLog | None = None
    """None if no flow records are made."""
    history: History | None = None
    """None if no flow records are made."""
    stream: Stream | None = None
    """None if no records were made at the start."""
    access: Access | None = None
    """None without a web configuration."""
    capture: Capture | None = None
    """None where no frames can be captured."""
    egress: bool = False
    """Whether the program counts what is sent."""
    exports: Callable[[], Iterable[ExportCounters]] = tuple
    """List the counters of the exporters that there are now."""
    draining: threading.Lock = field(default_factory=threading.Lock)
    """Held while a drain is on; large answers wait for its end, piece by piece."""
