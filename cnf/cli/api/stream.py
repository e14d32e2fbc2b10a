"""Write answers as they arrive, so that a million lines need no memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping

from cnf.cli.show.table import print_lines
from cnf.units import printable


def print_array(objects: Iterable[Mapping[str, object]]) -> None:
    """Write a JSON array of ``objects``, indented by two."""
    before = "[\n"
    for each in objects:
        members = json.dumps(each, separators=(",\n    ", ": "))[1:-1]
        sys.stdout.write(f"{before}  {{\n    {members}\n  }}")
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def print_raw(lines: Iterator[bytes]) -> None:
    """Copy the daemon's lines; for a terminal, escape control characters, which an interface's name may have."""
    if sys.stdout.isatty():
        print_lines(printable(line.decode(errors="backslashreplace").rstrip("\r\n")) for line in lines)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.writelines(lines)
