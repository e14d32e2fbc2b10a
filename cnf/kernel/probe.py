"""Questions to the kernel and to the software next to it, for ``cnfctl doctor``.

No probe attaches anything to an interface, and what one makes is gone when it returns.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cnf.abi import FLOW4_KEY, FLOW_VALUE
from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.maps import FlowMap
from cnf.kernel.pins import BPFFS

# linux/bpf.h, linux/bpf_common.h
BPF_MAP_TYPE_LRU_HASH: Final = 9
BPF_PROG_TYPE_XDP: Final = 6
XDP_PASS: Final = 2
RETURN_PASS: Final = struct.pack("=BBhiBBhi", 0xB7, 0, 0, XDP_PASS, 0x95, 0, 0, 0)
"""``r0 = XDP_PASS; exit`` as two ``struct bpf_insn``."""

ENOTSUPP: Final = 524  # linux/errno.h; no C library knows it
REFUSALS: Final = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, ENOTSUPP)
"""How a kernel says that it has never heard of what is asked. Anything else leaves the question open."""

CGROUPS: Final = {
    "": ("/sys/fs/cgroup", "memory.max"),
    "memory": ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
}
"""Where a cgroup's bound of memory stands: by controller, as /proc/self/cgroup has it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether something works; None when that cannot be told. ``words`` are the kernel's, unless it works."""

    works: bool | None
    words: str = ""


def features() -> dict[str, Answer]:
    """Try what cnfd relies on, each in the kernel itself. Raises UnavailableError without libbpf."""
    return {
        "lru hash": attempt(_make_table),
        "batch lookup": attempt(_walk_table),
        "lookup and delete": attempt(_take_from_table),
        "xdp test run": attempt(_run_program),
    }


def jit() -> Answer:
    """Tell whether the kernel turns a program into machine code. Raises UnavailableError without libbpf."""
    return attempt(_translate_program)


def attempt(action: Callable[[], None]) -> Answer:
    """Try ``action`` and read off its error number whether the kernel has it not, or merely refuses it now."""
    try:
        action()
    except (OSError, MapError) as error:
        number = error.errno or 0
        words = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"
        return Answer(False if number in REFUSALS else None, "not supported" if number == ENOTSUPP else words)
    return Answer(works=True)


def libbpf_version() -> str:
    """Return the version of libbpf. Raises UnavailableError."""
    ask = libbpf.library().libbpf_version_string
    ask.restype = ctypes.c_char_p
    return str(ask().decode()).removeprefix("v")


def lockdown() -> str | None:
    """Return the kernel's lockdown mode: none, integrity or confidentiality; None if it shows none."""
    try:
        text = Path("/sys/kernel/security/lockdown").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    return text.partition("[")[2].partition("]")[0]


def bpffs_is_mounted() -> bool:
    """Tell whether there is a bpffs where cnfd pins its program."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    return any(mount.split()[1:3] == [str(BPFFS), "bpf"] for mount in mounts)


def available_memory() -> int:
    """Return the bytes that the kernel could hand out without swapping (MemAvailable of proc(5))."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def memory_limit() -> int | None:
    """Return the bytes of memory that the cgroup of this process may have, of version 2 or 1; None for no bound.

    What is seen is what is mounted: in a container, the container's own cgroup and those below it.
    """
    total = next(
        int(line.split()[1]) << 10
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        if line.startswith("MemTotal:")
    )
    bounds = []
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers in CGROUPS:
            top, file = CGROUPS[controllers]
            here = Path(top, path.lstrip("/"))
            for folder in (folder for folder in (here, *here.parents, Path(top)) if folder.is_relative_to(top)):
                with suppress(OSError, ValueError):  # a folder that is not mounted here, or "max"
                    bounds.append(int((folder / file).read_text(encoding="ascii")))
    return min((bound for bound in bounds if bound < total), default=None)


@contextmanager
def _table() -> Iterator[FlowMap]:
    create = libbpf.library().bpf_map_create
    fd = libbpf.check(create(BPF_MAP_TYPE_LRU_HASH, b"cnf_probe", FLOW4_KEY.itemsize, FLOW_VALUE.itemsize, 64, None))
    with _closing(fd):
        yield FlowMap("cnf_probe", fd, FLOW4_KEY, FLOW_VALUE)


@contextmanager
def _program() -> Iterator[int]:
    load = libbpf.library().bpf_prog_load
    count = ctypes.c_size_t(len(RETURN_PASS) // 8)
    fd = libbpf.check(load(BPF_PROG_TYPE_XDP, b"cnf_probe", b"GPL", RETURN_PASS, count, None))
    with _closing(fd):
        yield fd


@contextmanager
def _closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)


def _make_table() -> None:
    with _table():
        pass


def _walk_table() -> None:
    with _table() as table:
        list(table.batches())


def _take_from_table() -> None:
    with _table() as table:
        error = table.take(np.zeros(1, FLOW4_KEY)).error
        if error is not None:
            raise error


def _run_program() -> None:
    with _program() as fd:
        libbpf.run(fd, bytes(64), 1)


def _translate_program() -> None:
    with _program() as fd:
        info = libbpf.info_of(fd, libbpf.ProgInfo())
    if not info.jited_prog_len:
        raise OSError(errno.EOPNOTSUPP, "no machine code")
