"""A run of all tiers is three streams of tests beside each other (``pytest -n 3``), so that no processor waits."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

BESIDE: Final = {"kernels": "tests/kernels/", "trixie": "tests/system/"}
"""Streams, and the folders whose tests of that name are in them. All other tests are one, in order: they look at how
soon something comes, and at most one other test is at work then, as the kernels take what is left of the processors."""


class Streams(LoadScopeScheduling):  # type: ignore[misc] # it comes without types
    """Gives each worker a stream."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the stream of a test."""
        return next((name for name, folder in BESIDE.items() if nodeid.startswith(folder) and name in nodeid), "")
