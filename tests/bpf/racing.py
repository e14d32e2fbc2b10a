"""A program under test in which, at chosen steps, something happens that another CPU could do just then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.arrays import Records
from cnf.kernel.maps import Array
from tests.bpf import kept
from tests.bpf.limited import FLOWS, SIZE, Clocked, ClockedBlueprint
from tests.bpf.tables import CacheEntries

SOURCE: Final = Path(__file__).with_name("racing.c")
PASSES: Final = 8
"""TEST_PASSES of racing.c."""
ACT: Final = np.dtype([("what", "<u8"), ("value", "<u8"), ("image", "u1", (1024,))])
_PUT, _SHOW, _ADD, _TAKE = 1, 2, 3, 4
"""enum test_what."""


class Step(IntEnum):
    """``enum test_step``."""

    LOOKED = 0
    CLAIM = 1
    WAIT = 2
    TAG = 3
    SWAP = 4
    ANNOUNCE = 5
    READ = 6


class Act(NamedTuple):
    """What happens."""

    what: int
    value: int = 0
    image: Records | None = None


def put(image: Records) -> Act:
    """Another CPU has left the set of the cache as ``image``, shape ()."""
    return Act(_PUT, image=image)


SHOW: Final = Act(_SHOW)
"""Nothing, but ``Racing.shown()`` returns the set of the cache as it was then."""


def add(value: int) -> Act:
    """Another CPU has added ``value`` to the word that is about to be swapped."""
    return Act(_ADD, value)


def take(decision: int) -> Act:
    """Another CPU has made the source another rule's, with ``decision``, and its bucket full."""
    return Act(_TAKE, decision)


class RacingBlueprint(ClockedBlueprint):
    """That of racing.c, which has two maps more."""

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps."""
        return (*super().maps, "test_acts", "test_passes")


class Racing(Clocked):
    """A program whose clocks show what the test sets, and which the test can stop in between."""

    def __init__(self) -> None:
        """Load it, with tables that are caches."""
        loaded = kept.load(RacingBlueprint(FLOWS, "cache", limiter=SIZE, source=SOURCE))
        super().__init__(loaded)
        self._acts = Array("test_acts", loaded.maps["test_acts"], ACT)
        self._passes = Array("test_passes", loaded.maps["test_passes"], np.dtype("<u8"))

    def reset(self) -> None:
        """Begin anew, with nothing to happen."""
        super().reset()
        self.script({})

    def script(self, acts: Mapping[tuple[Step, int], Act]) -> None:
        """From now on have these happen, each at a step, and at which pass of it, the first being 0."""
        for step in Step:
            for number in range(PASSES):
                act = acts.get((step, number), Act(0))
                record = np.zeros((), ACT)
                record["what"], record["value"] = act.what, act.value
                if act.image is not None:
                    octets = np.frombuffer(act.image.tobytes(), np.uint8)
                    record["image"][: len(octets)] = octets
                self._acts.write(step * PASSES + number, record)
            self._passes.write(step, np.array(0, "<u8"))

    def passes(self, step: Step) -> int:
        """Return how often the step has been come to since ``script()``."""
        return int(self._passes.read(step)[0])

    def shown(self, step: Step, number: int, set_dtype: np.dtype[Any]) -> Records:
        """Return the set as it was at a step whose act was SHOW: shape () of the dtype ``set_dtype``."""
        image = self._acts.read(step * PASSES + number)["image"][0][: set_dtype.itemsize]
        record: Records = image.copy().view(set_dtype)[0]
        return record

    @staticmethod
    def afterwards(entries: CacheEntries, happens: Callable[[], object]) -> Records:
        """Return the one set that changes when something happens as it is then, and let it not have happened."""
        table = entries.writable()
        before = table.copy()
        happens()
        (changed,) = (index for index in range(len(table)) if table[index] != before[index])
        image: Records = table[changed].copy()
        table[:] = before
        return image
