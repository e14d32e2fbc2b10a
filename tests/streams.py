"""A run of all tiers is three streams of tests beside each other (``pytest -n 3``), so that no processor waits."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

BESIDE: Final = ("tests/system/", "tests/kernels/")
"""Folders that are a stream each: machines that are waited for, and kernels, which take what is left of the processors.
All other tests are one, in order: they look at how soon something comes."""


class Streams(LoadScopeScheduling):  # type: ignore[misc] # it comes without types
    """Gives each worker a stream."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the stream of a test."""
        return next((folder for folder in BESIDE if nodeid.startswith(folder)), "")
