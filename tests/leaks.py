"""What a test may leave behind, listed before and after it."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

PATIENCE: Final = 5.0
"""Seconds in which the kernel has let go of what a dead process or namespace held; it does so in the background."""

NAMESPACES: Final = Path("/run/netns")

Kind = Literal["prog", "map"]
# struct bpf_prog_info and struct bpf_map_info of linux/bpf.h: the offset of `name`, char[16]
NAME_OFFSETS: Final[dict[Kind, int]] = {"prog": 64, "map": 24}
PROGRAM_PREFIX: Final = "cnf_"
# Names are cut to 15 bytes.
MAP_NAMES: Final = re.compile(
    "flows[46]|table_counters|events|events_lost|daemon_memory|interface_(count|slots)|limit_.*"
)


class Inventory(NamedTuple):
    """What there is, each thing as text that tells it from every other."""

    descriptors: frozenset[str]
    threads: frozenset[str]
    processes: frozenset[str]
    programs: frozenset[str]
    maps: frozenset[str]
    namespaces: frozenset[str]
    interfaces: frozenset[str]


def take() -> Inventory:
    """List what this process and its children hold, and what stands in the kernel."""
    return Inventory(
        descriptors=frozenset(_descriptors()),
        threads=frozenset(f"{thread.name} ({thread.ident})" for thread in threading.enumerate()),
        processes=frozenset(map(str, _children(os.getpid()))),
        programs=frozenset(
            f"{number} {name}" for number, name in bpf_objects("prog") if name.startswith(PROGRAM_PREFIX)
        ),
        maps=frozenset(f"{number} {name}" for number, name in bpf_objects("map") if MAP_NAMES.fullmatch(name)),
        namespaces=frozenset(_listed(NAMESPACES)),
        interfaces=frozenset(name for _index, name in socket.if_nameindex()),
    )


def left_behind(before: Inventory) -> list[str]:
    """Return what is there now and was not ``before``, once the kernel had its time; foreign things do not count."""
    deadline = time.monotonic() + PATIENCE
    while leaks := _more(before, take()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return leaks


def bpf_objects(kind: Kind) -> Iterator[tuple[int, str]]:
    """Yield (id, name) of every program or map in the kernel; needs CAP_SYS_ADMIN."""
    libbpf = ctypes.CDLL("libbpf.so.1")
    number = ctypes.c_uint32(0)
    while getattr(libbpf, f"bpf_{kind}_get_next_id")(number, ctypes.byref(number)) == 0:
        fd = getattr(libbpf, f"bpf_{kind}_get_fd_by_id")(number)
        if fd < 0:
            continue  # gone meanwhile
        try:
            info = ctypes.create_string_buffer(NAME_OFFSETS[kind] + 16)
            libbpf.bpf_obj_get_info_by_fd(fd, info, ctypes.byref(ctypes.c_uint32(len(info))))
        finally:
            os.close(fd)
        (name,) = struct.unpack_from("16s", info, NAME_OFFSETS[kind])
        yield number.value, name.rstrip(b"\0").decode()


def _more(before: Inventory, now: Inventory) -> list[str]:
    more = {kind: sorted(getattr(now, kind) - getattr(before, kind)) for kind in Inventory._fields}
    if more["programs"] or more["maps"]:
        foreign = set(_held_by_others())
        for kind, prefix in (("programs", "prog"), ("maps", "map")):
            more[kind] = [item for item in more[kind] if (prefix, item.split()[0]) not in foreign]
    # Other runs of these tests make namespaces, too: the number of the process is in the name.
    more["namespaces"] = [name for name in more["namespaces"] if f"-{os.getpid()}-" in name]
    return [f"{kind}: {', '.join(items)}" for kind, items in more.items() if items]


def _descriptors() -> Iterator[str]:
    for entry in _listed("/proc/self/fd"):
        try:
            yield f"{entry} -> {Path('/proc/self/fd', entry).readlink()}"
        except OSError:
            continue  # the descriptor that listed the folder


def _children(process: int) -> Iterator[int]:
    for task in _listed(f"/proc/{process}/task"):
        try:
            text = Path(f"/proc/{process}/task/{task}/children").read_text(encoding="ascii")
        except OSError:
            continue  # gone meanwhile
        yield from map(int, text.split())


def _held_by_others() -> Iterator[tuple[str, str]]:
    """Yield (kind, id) of the BPF objects that processes hold which are neither this one nor from it."""
    ours = {os.getpid()}
    waiting = list(ours)
    while waiting:
        found = list(_children(waiting.pop()))
        ours.update(found)
        waiting += found
    for process in _listed("/proc"):
        if not process.isdecimal() or int(process) in ours:
            continue
        for fd in _listed(f"/proc/{process}/fdinfo"):
            try:
                text = Path(f"/proc/{process}/fdinfo/{fd}").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # gone meanwhile
            for line in text.splitlines():
                key, _, value = line.partition(":")
                if key in ("prog_id", "map_id"):
                    yield key.removesuffix("_id"), value.strip()


def _listed(folder: str | Path) -> list[str]:
    try:
        return [entry.name for entry in Path(folder).iterdir()]
    except OSError:
        return []  # not there, or gone meanwhile
