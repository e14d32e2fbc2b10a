"""The capabilities of this process, read before anything is tried: two are needed, a third is worth having.

Once the program is attached, one is enough, and the others are dropped.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from cnf.errors import KernelError, PrivilegeError
from cnf.process import systemd

# Numbers of linux/capability.h
NEEDED: Final = {"CAP_NET_ADMIN": 12, "CAP_BPF": 39}
SPEED: Final = {"CAP_PERFMON": 38}
"""Without it the kernel guards a program against speculative execution, which costs more than the program itself."""
LOADING: Final = SPEED | {"CAP_BPF": NEEDED["CAP_BPF"]}
"""Capabilities that only loading takes. Attaching takes CAP_NET_ADMIN; reading maps takes a descriptor, and before
Linux 5.19 CAP_BPF."""
SYS_ADMIN: Final = 21

SLOW: Final = (
    "without CAP_PERFMON the kernel guards the program against speculation: it takes about four times as long,"
    " and its tables are LRU hashes, whatever flows.table says"
)
NO_LIMITS: Final = "the kernel takes the program without limits only: nothing can be denied or limited"
# linux/capability.h: the version with sets of 64 bits, which are in two halves: of each set the lower, then the higher.
_VERSION: Final = 0x20080522
_HALVES: Final = ctypes.c_uint32 * 6


def missing(wanted: Mapping[str, int] = NEEDED) -> tuple[str, ...]:
    """Return the names of the ``wanted`` capabilities that this process does not have in effect."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if effective >> SYS_ADMIN & 1:  # CAP_SYS_ADMIN includes the capabilities that were split off from it
        effective |= 1 << NEEDED["CAP_BPF"] | 1 << SPEED["CAP_PERFMON"]
    return tuple(name for name, bit in wanted.items() if not effective >> bit & 1)


def lacking(names: Collection[str]) -> PrivilegeError:
    """Return the error that says which capabilities are missing, and how to get them."""
    message = f"{' and '.join(names)} missing: no program can be loaded and attached"
    return PrivilegeError(message, remedy=remedy(names))


def refused() -> str:
    """Return why a kernel may refuse it without CAP_PERFMON: before 6.17 its verifier follows what it guards, too."""
    return f"Linux 6.12 takes limits, and 6.1 any program, with CAP_PERFMON only: {remedy(SPEED)}"


def remedy(names: Collection[str]) -> str:
    """Return how whoever runs this process gets it the capabilities ``names``."""
    words = " ".join(names)
    if systemd.is_service():
        return f"systemctl edit cnfd: [Service] AmbientCapabilities={words}; CapabilityBoundingSet={words}"
    if os.geteuid() == 0:  # who is root and lacks them is in a container, or was bounded
        options = " ".join(f"--cap-add={name.removeprefix('CAP_')}" for name in names)
        return f"root is bounded here: give the container {options}, or the unit CapabilityBoundingSet={words}"
    return "run as root"


def drop(unwanted: Mapping[str, int], attempt: Callable[[], object]) -> tuple[str, ...]:
    """Drop each of the ``unwanted`` without which ``attempt`` raises no KernelError; return the names of those.

    That is for good, for the calling thread and all that it starts from then on. What is not permitted any more is not
    ambient either: capabilities(7).

    Raises:
        OSError: a filter of system calls refuses capset.

    """
    dropped = []
    for name, bit in unwanted.items():
        effective, permitted, inheritable = _get()
        others = ~(1 << bit)
        _set(effective & others, permitted, inheritable)
        try:
            attempt()
        except KernelError:
            _set(effective, permitted, inheritable)
        else:
            _set(effective & others, permitted & others, inheritable & others)
            dropped.append(name)
    return tuple(dropped)


def _get() -> tuple[int, int, int]:
    """Return this thread's sets: effective, permitted, inheritable."""
    halves = _HALVES()
    _call("capget", halves)
    effective, permitted, inheritable = (halves[place] | halves[place + 3] << 32 for place in range(3))
    return effective, permitted, inheritable


def _set(*sets: int) -> None:
    _call("capset", _HALVES(*(each & 0xFFFFFFFF for each in sets), *(each >> 32 for each in sets)))


def _call(name: str, halves: ctypes.Array[ctypes.c_uint32]) -> None:
    this_thread = (ctypes.c_uint32 * 2)(_VERSION, 0)
    if getattr(ctypes.CDLL(None, use_errno=True), name)(this_thread, halves):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
