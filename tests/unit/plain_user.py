"""A user without privileges, for what root is never refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

NOBODY: Final = 65534


@contextmanager
def plain_user() -> Iterator[None]:
    """Be a user without privileges, if root now."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that every user may enter, and into which only this one may write."""
    with TemporaryDirectory(prefix="cnf-t-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
