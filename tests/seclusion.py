"""Folders of this run's own: a bpffs, network namespaces, and state; so that runs at once on one kernel do not meet."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
from pathlib import Path
from typing import Final

BPFFS: Final = Path("/sys/fs/bpf")
NAMESPACES: Final = Path("/run/netns")
STATE: Final = Path("/var/lib/cnf")

CLONE_NEWNS: Final = 0x00020000  # linux/sched.h

MOUNTS: Final = (
    ("mount", "--make-rprivate", "/"),
    ("mount", "-t", "bpf", "-o", "mode=700", "bpf", f"{BPFFS}"),
    *(("mount", "-t", "tmpfs", "-o", "mode=755", "cnf-tests", f"{folder}") for folder in (NAMESPACES, STATE)),
)


@functools.cache
def begin() -> str:
    """Give this thread, and whatever it starts, a mount namespace with all empty; return why not, "" if it worked.

    Everything in them ends with the last process of the run.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
    try:
        for folder in (NAMESPACES, STATE):
            folder.mkdir(exist_ok=True)
        for command in MOUNTS:
            subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError as error:
        return f"no bpffs of the tests' own: {error}"
    except subprocess.CalledProcessError as error:
        return f"no bpffs of the tests' own: {error.stderr.strip()}"
    return ""
