"""BCC as files: what a program was built by, so that an upgrade is noticed without an import of BCC."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

PACKAGE = "bcc"


def mapped() -> set[str]:
    """Return the files that this process has in memory."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return {path for line in lines if (path := line[line.find("/") :]).startswith("/") and Path(path).is_file()}


def loaded(before: AbstractSet[str]) -> dict[str, Sequence[int]]:
    """Return BCC's files in this process, which has imported it since ``before`` was ``mapped()``: LLVM's, too."""
    modules = {
        str(module.__file__)
        for name, module in sys.modules.items()
        if name.partition(".")[0] == PACKAGE and getattr(module, "__file__", None)
    }
    return {path: _marks(path) for path in sorted(modules | mapped() - before)}


def have_changed(files: Mapping[str, Sequence[int]]) -> bool:
    """Tell whether another BCC would be loaded now than the one of ``files``; none at all is no other one."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        return False
    try:
        return spec.origin not in files or any(_marks(path) != tuple(marks) for path, marks in files.items())
    except OSError:
        return True


def _marks(path: str) -> Sequence[int]:
    """Return what changes with a file."""
    status = os.stat(path)  # noqa: PTH116 - in place of a Path for each
    return status.st_size, status.st_mtime_ns, status.st_ino
