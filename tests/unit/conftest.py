"""What holds for the whole tier."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes is no promise, on a machine that has other work to do.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
