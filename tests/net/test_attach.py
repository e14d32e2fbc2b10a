"""Asking the kernel what is on an interface, without a daemon around it."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Final

from cnf.kernel.attach import Attacher
from tests.net.conftest import Node

LOOPBACK: Final = 1
ABSENT: Final = 4711
QUERIES: Final = 300
LEAST: Final = 36
"""Bytes of an acknowledgement, the smallest message that could be left over."""


def test_questions_leave_nothing_behind(node: Node) -> None:
    """However often it is asked for, of an interface that is there or not, no answer's rest is kept."""
    with node.inside.entered(), Attacher(-1, 0, {}) as attacher:
        assert [attacher.query(index) for index in (LOOPBACK, ABSENT)] == [None, None]
        tracemalloc.start()
        try:
            held = []
            for _ in range(3):
                for _ in range(QUERIES):
                    attacher.query(LOOPBACK)
                    attacher.query(ABSENT)
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    assert held[2] - held[1] < QUERIES * LEAST
