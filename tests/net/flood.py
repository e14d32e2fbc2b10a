"""Floods: frames of several senders, each at a rate of its own, and an exact count of what was sent."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from threading import Event
from typing import Final

from tests.net.namespaces import Wire

PAUSE: Final = 0.001
"""Seconds between looks at what is due, so that not every frame costs a sleep."""


@dataclass
class Sender:
    """Who sends ``frames`` over and over, so many a second, and when it has done so."""

    frames: Sequence[bytes]
    rate: float
    times: list[float] = field(default_factory=list)
    """Seconds, of each frame."""

    @property
    def packets(self) -> int:
        """How many frames were sent."""
        return len(self.times)

    @property
    def seconds(self) -> float:
        """How long it took from the first to the last."""
        return self.times[-1] - self.times[0]

    def within(self, rate: float, burst: float) -> int:
        """Return how many of the frames a bucket of ``burst`` packets, filled with ``rate`` a second, admits."""
        tokens, admitted = burst, 0
        for gap in (0.0, *(after - before for before, after in pairwise(self.times))):
            tokens = min(burst, tokens + gap * rate)
            if tokens >= 1:
                tokens -= 1
                admitted += 1
        return admitted


def flood(wire: Wire, seconds: float, *senders: Sender, stop: Event | None = None) -> None:
    """Send from the far end of ``wire`` for so long, or until ``stop``; the near end has taken all of it on return."""
    wire.send(_due(seconds, senders, stop or Event()))


def _due(seconds: float, senders: Sequence[Sender], stop: Event) -> Iterator[bytes]:
    """Yield what is due as time goes by; what could not be sent in time follows at once."""
    start = time.monotonic()
    frames = [cycle(sender.frames) for sender in senders]
    for due, which in heapq.merge(*(_schedule(sender.rate, seconds, which) for which, sender in enumerate(senders))):
        while (now := time.monotonic() - start) < due:
            if stop.is_set():
                return
            time.sleep(max(due - now, PAUSE))
        senders[which].times.append(now)
        yield next(frames[which])


def _schedule(rate: float, seconds: float, which: int) -> Iterator[tuple[float, int]]:
    return ((number / rate, which) for number in range(round(rate * seconds)))
