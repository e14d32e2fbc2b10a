"""What the process takes is what the kernel says of it elsewhere."""

from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from cnf.process.usage import Usage, usage

MIB: Final = 1 << 20
TICK: Final = 0.02
"""Seconds: two ticks of the clock that /proc/PID/stat has."""


def grown(by: Callable[[], Any]) -> Usage:
    """Return how much more is taken while ``by()`` is kept."""
    before = usage()
    kept = by()
    after = usage()
    del kept
    return Usage(*(later - earlier for earlier, later in zip(before, after, strict=True)))  # type: ignore[arg-type]


def test_memory_that_is_written_is_resident() -> None:
    """Memory is address space once it is there, and resident once it is written."""
    with mmap.mmap(-1, 64 * MIB) as block:
        written = grown(lambda: block.write(bytes(64 * MIB)))
    reserved = grown(lambda: mmap.mmap(-1, 64 * MIB))

    assert 60 * MIB < written.resident_memory < 80 * MIB
    assert 60 * MIB < reserved.virtual_memory < 80 * MIB
    assert reserved.resident_memory < 4 * MIB


def test_an_open_file_is_a_descriptor() -> None:
    """Descriptors are counted without the one that counts them."""
    with ExitStack() as files:
        null = Path(os.devnull)
        assert grown(lambda: [files.enter_context(null.open("rb")) for _ in range(7)]).open_fds == 7
    assert usage().open_fds == len([fd for fd in range(4096) if _is_open(fd)])


def test_work_takes_time() -> None:
    """The CPU's time grows as it passes for this process."""

    def work() -> None:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert 0.05 <= grown(work).cpu_seconds < 0.5


@pytest.mark.parametrize(("soft", "shown"), [(100, 100), (resource.RLIM_INFINITY, float("inf"))])
def test_the_limit_of_descriptors_is_the_soft_one(soft: int, shown: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No limit is as Prometheus writes it."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, resource.RLIM_INFINITY))

    assert usage().max_fds == shown


def test_the_start_is_when_the_process_was_started() -> None:
    """The time of the start is right to two ticks of the kernel's clock."""
    command = (sys.executable, "-c", "from cnf.process.usage import usage; print(usage().started)")
    before = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert before - TICK <= float(done.stdout) <= time.time() + TICK


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
