"""Refusals of the kernel as errors of cnf: no system call's failure reaches a user as a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cnf.errors import KernelError


@contextmanager
def reported(doing: str, kind: type[KernelError] = KernelError) -> Iterator[None]:
    """Raise an OSError of the block as ``kind``: ``doing``, and the kernel's words."""
    try:
        yield
    except OSError as error:
        raise kind(f"{doing} failed: {error.strerror or error}") from error
