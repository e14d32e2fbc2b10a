"""From the ticks that flows are stamped with to wall-clock time. Pure, but for ``tick_ns()``.

Linux derives jiffies from CLOCK_MONOTONIC in steps of TICK_NSEC (kernel/time/tick-sched.c), so that one reading of
both and the tick's length give the monotonic time of any stamp. CLOCK_MONOTONIC stands still in suspend and does not
step; CLOCK_BOOTTIME runs on in suspend; CLOCK_REALTIME steps. A stamp's wall-clock time is what the wall clock shows
now, less the time that has really passed since: so it is right after a step, whichever way it went.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

CLOCK_MONOTONIC_COARSE: Final = 6  # linux/time.h; Python's time module does not name it
SUSPEND_NS: Final = 100_000_000
"""BOOTTIME that runs ahead of MONOTONIC by less than this between two readings is the readings' own jitter."""


def tick_ns() -> int:
    """Return the length of a jiffy, TICK_NSEC of linux/jiffies.h: it is what the coarse clocks' resolution is."""
    return round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9)


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks at one moment, in ns but for ``jiffies``."""

    jiffies: int
    monotonic: int
    boottime: int
    realtime: int


@dataclass(frozen=True, slots=True)
class WallClock:
    """The translation as of one reading; immutable, so that a snapshot keeps its own."""

    now: Reading
    tick_ns: int
    suspensions: tuple[tuple[int, int], ...] = ()
    """(monotonic time at which it was noticed, ns spent suspended), oldest first."""

    @property
    def seconds(self) -> int:
        """Return the wall-clock time of the reading, in seconds since the epoch."""
        return self.now.realtime // 1_000_000_000

    def age_ticks(self, stamps: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Return how many ticks ago each stamp was; 0 for one taken after the reading."""
        now = np.uint64(self.now.jiffies)
        return now - np.minimum(stamps, now)

    def ticks(self, seconds: float) -> int:
        """Return a duration in whole ticks, at least one."""
        return in_ticks(seconds, self.tick_ns)

    def ago(self, seconds: float) -> np.uint64:
        """Return what jiffies were ``seconds`` before the reading; 0 if that was before they began."""
        if math.isinf(seconds):
            return np.uint64(0)
        return np.uint64(max(self.now.jiffies - self.ticks(seconds), 0))

    def wall_ns(self, stamps: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the wall-clock time of each stamp, in ns since the epoch."""
        age = (np.int64(self.now.jiffies) - stamps.astype(np.int64)) * self.tick_ns
        slept = np.zeros(len(stamps), np.int64)
        for noticed, nanoseconds in self.suspensions:
            slept[self.now.monotonic - age < noticed] += nanoseconds
        return self.now.realtime - age - slept

    def texts(self, stamps: npt.NDArray[np.uint64]) -> list[str]:
        """Return the wall-clock time of each stamp as RFC 3339 has it, in UTC and microseconds."""
        microseconds = (self.wall_ns(stamps) // 1000).astype("datetime64[us]")
        return [f"{text}Z" for text in np.datetime_as_string(microseconds).tolist()]


def in_ticks(seconds: float, tick_ns: int) -> int:
    """Return a duration in whole ticks of ``tick_ns``, at least one."""
    return max(1, round(seconds * 1e9 / tick_ns))


class Clock:
    """Follow the clocks from reading to reading."""

    def __init__(self, first: Reading, tick_ns: int) -> None:
        """Start from ``first``."""
        self._tick_ns = tick_ns
        self._last = first
        self._suspensions: list[tuple[int, int]] = []

    def observe(self, now: Reading) -> WallClock:
        """Take a reading, later than those before, and return the translation as of it."""
        slept = (now.boottime - self._last.boottime) - (now.monotonic - self._last.monotonic)
        if slept > SUSPEND_NS:
            self._suspensions.append((now.monotonic, slept))
        self._last = now
        return WallClock(now, self._tick_ns, tuple(self._suspensions))
