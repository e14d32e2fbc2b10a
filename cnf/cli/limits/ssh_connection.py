"""Where the caller comes from, so that the daemon can protect that address while it changes its limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_VARIABLE: Final = "SSH_CONNECTION"


def ssh_connection() -> str | None:
    """Return ``SSH_CONNECTION`` (sshd's: client, its port, server, its port), or None outside of SSH.

    sudo takes it out of the environment that it hands on, so the processes that this one comes from are asked, too.
    """
    pid = os.getppid()
    found = os.environ.get(_VARIABLE)
    while not found and pid > 1:
        try:
            found = _variable(Path(f"/proc/{pid}/environ").read_bytes())
            pid = _parent(Path(f"/proc/{pid}/stat").read_bytes())
        except OSError:  # another user's process, or one that has ended
            break
    return found or None


def _variable(environ: bytes) -> str | None:
    start = f"{_VARIABLE}=".encode()
    values = (entry.removeprefix(start) for entry in environ.split(b"\0") if entry.startswith(start))
    return os.fsdecode(next(values, b"")) or None


def _parent(stat: bytes) -> int:
    """Return the parent of a process (proc_pid_stat(5)); its command's name may hold spaces and brackets."""
    return int(stat[stat.rindex(b")") + 1 :].split()[1])
