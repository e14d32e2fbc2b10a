"""The capabilities of this process, read before anything is tried: two are needed, a third is worth having."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Numbers of linux/capability.h
NEEDED: Final = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}
SPEED: Final = {"CAP_PERFMON": 38}
"""Without it the kernel guards a program against speculative execution, which costs more than the program itself."""
SYS_ADMIN: Final = 21

SLOW: Final = (
    "without CAP_PERFMON the kernel guards the program against speculation: it takes about four times as long,"
    " and its tables are LRU hashes, whatever flows.table says"
)
SLOW_REMEDY: Final = "add CAP_PERFMON to the service's AmbientCapabilities"


def missing(wanted: Mapping[str, int] = NEEDED) -> tuple[str, ...]:
    """Return the names of the ``wanted`` capabilities that this process does not have in effect."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if effective >> SYS_ADMIN & 1:  # stands in for those that were taken out of it
        effective |= 1 << NEEDED["CAP_BPF"] | 1 << SPEED["CAP_PERFMON"]
    return tuple(name for name, bit in wanted.items() if not effective >> bit & 1)


def explain(names: tuple[str, ...]) -> str:
    """Return the sentence that says what is missing and how to get it."""
    return (
        f"{' and '.join(names)} missing: without it no program can be loaded and attached"
        " (run as root, or give the service AmbientCapabilities=CAP_BPF CAP_NET_ADMIN CAP_PERFMON)"
    )
