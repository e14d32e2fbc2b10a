"""Waiting for what another process or the kernel is about to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

import pytest

Result = TypeVar("Result")

SLOWNESS: Final = float(os.environ.get("CNF_SLOWNESS", "1"))
"""How many times as long as on a real machine all takes: tests/kernels/inside.sh says so of an emulated one."""
PATIENCE: Final = 60.0 * SLOWNESS
"""Seconds for what takes ten at most, a program that is compiled and refused: a busy machine must not fail a test."""


def wait_for(condition: Callable[[], Result], what: str, seconds: float = PATIENCE) -> Result:
    """Return the first true result of ``condition``; fail the test when there is none within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)
    return result
