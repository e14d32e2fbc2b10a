"""Programs that take turns under BPF_PROG_TEST_RUN, so that the machine's fast and slow phases meet all of them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import TracebackType
from typing import NamedTuple, Self

from cnf.kernel import libbpf


class Run(NamedTuple):
    """A program, by its descriptor, and the frame that it runs on, one a CPU."""

    program: int
    frames: Sequence[bytes]


class Workers:
    """Threads, one a CPU, that run programs side by side."""

    def __init__(self, cpus: Sequence[int]) -> None:
        """Start them on ``cpus``."""
        self.cpus = cpus
        self.together: list[float] = []
        """Of each run on several CPUs, the share of its time in which all of them ran."""
        self._pool = ThreadPoolExecutor(len(cpus))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        self._pool.shutdown()

    def run(self, run: Run, packets: int) -> float:
        """Run on as many CPUs as there are frames, ``packets`` on each; return the ns a packet of the slowest CPU.

        It is the CPU time of the thread, so that a while in which somebody else had the CPU does not count.
        """
        barrier = Barrier(len(run.frames))
        threads = [
            self._pool.submit(_run, run.program, frame, packets, cpu, barrier)
            for cpu, frame in zip(self.cpus, run.frames, strict=False)
        ]
        spans = [thread.result() for thread in threads]
        if len(spans) > 1:
            starts, ends = [span.started for span in spans], [span.ended for span in spans]
            self.together.append(max(0, min(ends) - max(starts)) / (max(ends) - min(starts)))
        return max(span.cpu_time for span in spans) / packets


class Span(NamedTuple):
    """A thread's run, in ns: CLOCK_MONOTONIC, and the CPU time that it took."""

    started: int
    ended: int
    cpu_time: int


def _run(program: int, frame: bytes, packets: int, cpu: int, barrier: Barrier) -> Span:
    os.sched_setaffinity(0, {cpu})  # of this thread
    barrier.wait()
    started, cpu_time = time.monotonic_ns(), time.thread_time_ns()
    libbpf.run(program, frame, packets)
    return Span(started, time.monotonic_ns(), time.thread_time_ns() - cpu_time)
