"""Programs that take turns under BPF_PROG_TEST_RUN, so that the machine's fast and slow phases meet all of them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Final, NamedTuple

from cnf.kernel import libbpf

REPEAT: Final = 100_000


class Run(NamedTuple):
    """A program, by its descriptor, and the frame that it runs on."""

    program: int
    frame: bytes


def take_turns(
    runs: Mapping[str, Run], cpus: Sequence[int], rounds: int, repeat: int = REPEAT
) -> dict[str, list[float]]:
    """Run each on all ``cpus`` at once, ``rounds`` times; return the ns a packet of the slowest CPU, by name.

    CPU time of the thread, so that a round in which somebody else had the CPU for a while does not count it.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with ThreadPoolExecutor(len(cpus)) as pool:
        barrier = Barrier(len(cpus))
        for turn in range(rounds + 1):
            for name, run in runs.items():
                threads = [pool.submit(_run, run, repeat, cpu, barrier) for cpu in cpus]
                slowest = max(thread.result() for thread in threads)
                if turn:  # the first one makes the flows
                    taken[name].append(slowest)
    return taken


def _run(run: Run, repeat: int, cpu: int, barrier: Barrier) -> float:
    os.sched_setaffinity(0, {cpu})  # of this thread
    barrier.wait()
    started = time.thread_time_ns()
    libbpf.run(run.program, run.frame, repeat)
    return (time.thread_time_ns() - started) / repeat
