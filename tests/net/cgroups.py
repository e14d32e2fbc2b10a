"""A cgroup that bounds the memory of what runs in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from tests.net.wait import wait_for

PLACES: Final = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))
"""Where cgroups can be made that bound memory, of version 1 and 2, and the file for the bound."""


def lacking() -> str:
    """Return why no such cgroup can be made here; "" if it can."""
    return "" if _place() else "no cgroup that bounds memory can be made here"


@contextmanager
def bounded(size: int) -> Iterator[tuple[str, ...]]:
    """Make a cgroup of at most ``size`` bytes, and give the command that runs another one in it."""
    place = _place()
    assert place is not None
    top, file = place
    group = Path(mkdtemp(prefix="cnf-t-", dir=top))
    try:
        (group / file).write_text(str(size), encoding="ascii")
        yield "sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group)
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text(encoding="ascii"), "the end of all in the cgroup")
        group.rmdir()


def kernel_memory() -> int:
    """Return how much of the kernel's memory the cgroup of this process takes, in bytes."""
    own = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    for controllers, path in (line.split(":", 2)[1:] for line in own):
        if "memory" in controllers.split(","):
            group = Path(f"/sys/fs/cgroup/memory{path}")
            return int((group / "memory.kmem.usage_in_bytes").read_text(encoding="ascii"))
    (path,) = (line.removeprefix("0::") for line in own)
    statistics = Path(f"/sys/fs/cgroup{path}/memory.stat").read_text(encoding="ascii").split()
    return int(statistics[statistics.index("kernel") + 1])


def _place() -> tuple[Path, str] | None:
    for top, file in PLACES:
        control = top / "cgroup.subtree_control"
        writable = os.access(top, os.W_OK) and os.access(top / "cgroup.procs", os.W_OK)
        if writable and (not control.exists() or "memory" in control.read_text(encoding="ascii").split()):
            return top, file
    return None
