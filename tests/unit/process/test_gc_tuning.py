"""Garbage is found soon, however much the process has imported."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

SCRIPT: Final = """
import gc
import weakref
from cnf.process.gc_tuning import collect_early

class Cycle:
    def __init__(self):
        self.itself = self

collect_early()
cycles = [Cycle() for _ in range(1000)]
held = weakref.WeakSet(cycles)
cycles_become_old = [gc.collect(1) for _ in range(gc.get_threshold()[2] + 1)]
cycles.clear()
kept = [[] for _ in range(2 * gc.get_threshold()[0])]
print(len(held))
"""


def test_old_garbage_is_found_soon() -> None:
    """Cycles that have grown old go when their turn comes, few as they are beside the objects of all modules."""
    done = subprocess.run((sys.executable, "-c", SCRIPT), capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
