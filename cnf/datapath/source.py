"""The source that BCC compiles: flow.c and what it includes, as one text; and the headers that stand in for Linux's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

HEADERS: Final = Path(__file__).parent.parent / "bpf" / "include"
INCLUDE: Final = re.compile(r'\s*#include "(?P<name>[^"]+)"')


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


def headers() -> list[str]:
    """Return the texts of HEADERS, which are included in pointed brackets."""
    return [path.read_text(encoding="utf-8") for path in sorted(HEADERS.rglob("*.h"))]
