"""What this process takes of the machine, as Prometheus' client libraries have it in ``process_*``.

prometheus-client's own collector needs /proc/stat, which the unit's ``ProcSubset=pid`` hides.
"""

from __future__ import annotations

import os
import resource
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Memory in bytes, times in seconds, and descriptors."""

    cpu_seconds: float
    virtual_memory: int
    resident_memory: int
    open_fds: int
    max_fds: float
    """The soft limit."""
    started: float
    """Since the epoch."""


def usage() -> Usage:
    """Ask the kernel. Raises OSError."""
    pages = Path("/proc/self/statm").read_bytes().split()
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Usage(
        cpu_seconds=time.process_time(),
        virtual_memory=int(pages[0]) * resource.getpagesize(),
        resident_memory=int(pages[1]) * resource.getpagesize(),
        open_fds=sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,  # without that of the listing
        max_fds=float("inf") if soft == resource.RLIM_INFINITY else soft,
        started=_started(),
    )


@cache
def _started() -> float:
    """Return when the process began, by the wall clock at the first call."""
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    after_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # proc_pid_stat(5): (22) starttime; (3) is the first here
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + after_boot
