"""The child that compiles: BCC and LLVM live in this process only, and end with it.

Run as ``python -m cnf.datapath.compile`` by cnf.datapath.compiler, with a stream socket as standard input. On it comes
the request, JSON: ``text`` (flow.c as one file), ``maps`` (their names, in the order of their numbers), ``direct`` (how
many elements the arrays of direct.h have, by name) and ``variants``, each with its ``flags`` and ``functions`` (their
types, by name). The last has all of the maps. The answer is JSON, too: ``{"program": ...}``, a Program, with the
descriptors of the maps that BCC has made for the last; or ``{"error": KIND, "message": ...}``. What clang says goes to
standard error.

This is the only module that imports bcc.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

from cnf.datapath import bcc_files
from cnf.datapath.program import Function, Program, function
from cnf.datapath.source import HEADERS
from cnf.kernel import libbpf
from cnf.kernel.libbpf import MapKind


def build(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Compile; return the answer and the descriptors to send with it."""
    before = bcc_files.mapped()
    os.environ["BCC_KERNEL_SOURCE"] = str(HEADERS)
    try:
        import bcc  # noqa: PLC0415 - its absence, or its being another package, is an answer and not a traceback
    except ImportError as error:
        return {"error": "bcc_missing", "message": str(error)}, []
    if not hasattr(bcc, "BPF"):
        return {"error": "bcc_wrong", "message": str(getattr(bcc, "__file__", bcc))}, []
    compiled: list[dict[str, Function]] = []
    module: Any = None
    for variant in request["variants"]:
        if module:
            module.cleanup()  # its memory, and its maps, before there are others
        try:
            module = bcc.BPF(text=request["text"].encode(), cflags=variant["flags"])
        except Exception as error:  # noqa: BLE001 - BCC raises bare Exception
            return {"error": "compile", "message": str(error)}, []
        maps = {name: fd for name in request["maps"] if (fd := _map(module, name)) is not None}
        numbers = {fd: request["maps"].index(name) for name, fd in maps.items()}
        functions = variant["functions"].items()
        compiled.append({name: function(kind, module.dump_func(name.encode()), numbers) for name, kind in functions})
    program = Program(
        bcc_version=str(getattr(bcc, "__version__", "unknown")),
        built_by=bcc_files.loaded(before),
        maps={name: _kind(fd, request["direct"].get(name, 1)) for name, fd in maps.items()},
        functions=compiled[0],
        limiting=compiled[1] if compiled[1:] else {},
    )
    return {"program": program.to_json()}, [*maps.values()]


def _map(module: Mapping[bytes, Any], name: str) -> int | None:
    """Return the descriptor of a map; None where this variant has no such map."""
    try:
        return int(module[name.encode()].map_fd)
    except KeyError:
        return None


def _kind(fd: int, elements: int) -> MapKind:
    """Return the kind of a map whose value is to be so many times as large as BCC has made it."""
    kind = libbpf.map_kind(fd)
    return kind._replace(value_size=elements * kind.value_size)


def main() -> None:
    """Answer the one request."""
    with socket.socket(fileno=0) as parent, parent.makefile("rw", encoding="utf-8") as stream:
        answer, descriptors = build(json.loads(stream.readline()))
        socket.send_fds(parent, [b" "], descriptors)  # JSON may begin with a space
        stream.write(json.dumps(answer))


if __name__ == "__main__":
    main()
