"""The two capabilities that loading and attaching need, read from the kernel before anything is tried."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# Numbers of linux/capability.h
NEEDED: Final = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}
SYS_ADMIN: Final = 21


def missing() -> tuple[str, ...]:
    """Return the names of the needed capabilities that this process does not have in effect."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if effective >> SYS_ADMIN & 1:  # stands in for CAP_BPF
        effective |= 1 << NEEDED["CAP_BPF"]
    return tuple(name for name, bit in NEEDED.items() if not effective >> bit & 1)


def explain(names: tuple[str, ...]) -> str:
    """Return the sentence that says what is missing and how to get it."""
    return (
        f"{' and '.join(names)} missing: without it no program can be loaded and attached"
        " (run as root, or give the service AmbientCapabilities=CAP_BPF CAP_NET_ADMIN)"
    )
