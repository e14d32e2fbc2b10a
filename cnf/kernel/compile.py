"""The child that compiles and loads: BCC and LLVM live in this process only, and end with it.

Run as ``python -m cnf.kernel.compile REQUEST`` by cnf.kernel.program, with a SOCK_SEQPACKET socket as standard
input. REQUEST is JSON: ``source`` (path of flow.c), ``defines``, ``maps`` and ``programs`` (their names). The answer
is one message on the socket: ``{"bcc_version": ...}`` with the descriptors of the maps, then of the programs, in the
order asked for; or ``{"error": KIND, "message": ...}``. What clang and the verifier say goes to standard error.

This is the only module that imports bcc.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

INCLUDE_FOLDER = Path(__file__).parent.parent / "bpf" / "include"
INCLUDE = re.compile(r'\s*#include "(?P<name>[^"]+)"')


def flatten(path: Path, seen: set[Path] | None = None) -> str:
    """Return the source with its ``#include "..."`` put in place, each file once, and ``#line`` marks between.

    BCC rewrites map calls in the main file only, so that what it compiles must be one file.
    """
    seen = set() if seen is None else seen
    seen.add(path)
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        include = INCLUDE.match(line)
        if include is None:
            lines.append(line)
            continue
        target = path.parent / include["name"]
        if target not in seen:
            lines.append(flatten(target, seen))
        lines.append(f'#line {number + 1} "{path.name}"')
    return "\n".join(lines) + "\n"


def build(request: dict[str, Any]) -> tuple[dict[str, str], list[int]]:
    """Compile and load; return the answer and the descriptors to send with it."""
    source = Path(request["source"])
    os.environ["BCC_KERNEL_SOURCE"] = str(INCLUDE_FOLDER)
    try:
        import bcc  # noqa: PLC0415 - its absence, or its being another package, is an answer and not a traceback
    except ImportError as error:
        return {"error": "bcc_missing", "message": str(error)}, []
    if not hasattr(bcc, "BPF"):
        return {"error": "bcc_wrong", "message": str(getattr(bcc, "__file__", bcc))}, []
    flags = ["-Wall", "-Wno-unused-function", *(f"-D{name}={value}" for name, value in request["defines"].items())]
    try:
        module = bcc.BPF(text=flatten(source).encode(), cflags=flags)
    except Exception as error:  # noqa: BLE001 - BCC raises bare Exception
        return {"error": "compile", "message": str(error)}, []
    descriptors = [module[name.encode()].map_fd for name in request["maps"]]
    for name in request["programs"]:
        try:
            descriptors.append(module.load_func(name.encode(), bcc.BPF.XDP).fd)
        except Exception as error:  # noqa: BLE001 - BCC raises bare Exception
            return {"error": "load", "message": str(error)}, []
    return {"bcc_version": str(getattr(bcc, "__version__", "unknown"))}, descriptors


def main() -> None:
    """Answer the one request of the command line."""
    with socket.socket(fileno=0) as parent:
        answer, descriptors = build(json.loads(sys.argv[1]))
        socket.send_fds(parent, [json.dumps(answer).encode()], descriptors)


if __name__ == "__main__":
    main()
