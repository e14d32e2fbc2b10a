"""What daemons that were killed leave in bpffs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cnf.kernel import pins


def clear(folder: Path) -> None:
    """Remove all pins of a network namespace, and their folder."""
    pins.unpin(folder)
    with suppress(OSError):  # there is none
        folder.rmdir()
        folder.parent.rmdir()
