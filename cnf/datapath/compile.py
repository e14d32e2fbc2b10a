"""The child that compiles and loads: BCC and LLVM live in this process only, and end with it.

Run as ``python -m cnf.datapath.compile REQUEST`` by cnf.datapath.build, with a SOCK_SEQPACKET socket as standard
input. REQUEST is JSON: ``source`` (path of flow.c), ``defines``, ``maps`` and ``limiter_maps`` (their names),
``programs`` (their types, by name), and ``pins`` (a folder of bpffs, or null). The answer is one message on the socket:
``{"bcc_version": ..., "kept": ..., "discarded": ...}`` with the descriptors of the maps, then of the programs, in the
order asked for; or ``{"error": KIND, "message": ...}``. What clang and the verifier say goes to standard error.

This is the only module that imports bcc.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cnf.datapath.source import flatten
from cnf.kernel import libbpf
from cnf.kernel.pins import remove
from cnf.process.gc_tuning import return_freed

INCLUDE_FOLDER = Path(__file__).parent.parent / "bpf" / "include"
MAP_LINK = "anon_inode:bpf-map"
"""The target of a map's descriptor in /proc."""
FLAGS = ("-Wall", "-Wno-unused-function", "-Xclang", "-disable-llvm-passes", "-g0")
"""BCC optimizes by itself: clang's own passes, and debug information, would make it take up to twice as long."""


def build(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Compile and load; return the answer and the descriptors to send with it."""
    source = Path(request["source"])
    os.environ["BCC_KERNEL_SOURCE"] = str(INCLUDE_FOLDER)
    try:
        import bcc  # noqa: PLC0415 - its absence, or its being another package, is an answer and not a traceback
    except ImportError as error:
        return {"error": "bcc_missing", "message": str(error)}, []
    if not hasattr(bcc, "BPF"):
        return {"error": "bcc_wrong", "message": str(getattr(bcc, "__file__", bcc))}, []
    flags = [*FLAGS, *(f"-D{name}={value}" for name, value in request["defines"].items())]
    try:
        module = bcc.BPF(text=flatten(source).encode(), cflags=flags)
    except Exception as error:  # noqa: BLE001 - BCC raises bare Exception
        return {"error": "compile", "message": str(error)}, []
    maps = {name: module[name.encode()].map_fd for name in request["maps"]}
    kept, discarded = _keep(Path(request["pins"]), maps, request["limiter_maps"]) if request["pins"] else ([], [])
    descriptors = [*maps.values()]
    return_freed()  # 11 MB of LLVM's, before the verifier takes up to 30 MB of the kernel's
    for name, program_type in request["programs"].items():
        try:
            descriptors.append(module.load_func(name.encode(), program_type).fd)
        except Exception as error:  # noqa: BLE001 - BCC raises bare Exception
            return {"error": "load", "message": str(error)}, []
    version = str(getattr(bcc, "__version__", "unknown"))
    return {"bcc_version": version, "kept": kept, "discarded": discarded}, descriptors


def _keep(pins: Path, maps: Mapping[str, int], limiter_maps: Iterable[str]) -> tuple[list[str], list[str]]:
    """Put the maps that are pinned in place of BCC's, or pin BCC's; return which were kept, and why not all.

    They are kept as a whole, or not at all; but where none of ``limiter_maps`` is pinned, these are made anew.
    A pinned map takes over the descriptor's number, by which the program that is loaded next finds its map. BCC itself
    would open pinned maps by their ids, for which it takes CAP_SYS_ADMIN.
    """
    there = {pin.name: _open(pin) for pin in pins.iterdir()}
    try:
        anew = set(limiter_maps) if there.keys().isdisjoint(limiter_maps) else set()
        missing = [f"{name} is missing" for name in maps if name not in there and name not in anew]
        others = [f"{name} is none of this version's maps" for name, fd in there.items() if name not in maps or fd < 0]
        unlike = [
            f"{name} is not as this version has it"
            for name, fd in there.items()
            if name in maps and fd >= 0 and _kind(fd) != _kind(maps[name])
        ]
        reasons = sorted(missing + others + unlike)
        if not reasons:
            for name, fd in there.items():
                os.dup2(fd, maps[name])
            for name in anew:
                libbpf.pin(maps[name], pins / name)
            return [*there], []
        for name in there:
            remove(pins / name)
        for name, fd in maps.items():
            libbpf.pin(fd, pins / name)
        return [], reasons if there else []
    finally:
        for fd in there.values():
            if fd >= 0:
                os.close(fd)


def _open(pin: Path) -> int:
    """Return a descriptor of a pinned map; -1 for a program, a folder, and what cannot be opened."""
    try:
        fd = libbpf.open_pin(pin)
    except OSError:
        return -1
    if Path(f"/proc/self/fd/{fd}").readlink().name == MAP_LINK:
        return fd
    os.close(fd)
    return -1


def _kind(fd: int) -> tuple[int, ...]:
    """Return all that makes a map what it is, but for its name and what it holds."""
    info = libbpf.map_info(fd)
    return info.type, info.key_size, info.value_size, info.max_entries, info.map_flags


def main() -> None:
    """Answer the one request of the command line."""
    with socket.socket(fileno=0) as parent:
        answer, descriptors = build(json.loads(sys.argv[1]))
        socket.send_fds(parent, [json.dumps(answer).encode()], descriptors)


if __name__ == "__main__":
    main()
