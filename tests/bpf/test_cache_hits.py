"""How many packets find their flow in a cache that has fewer slots than there are flows, or not many more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest

from tests.bpf.changing import LENGTH, Changing, numbered

SLOTS: Final = 1 << 16
WARM: Final = 3
"""Rounds of the list before the one that is measured."""
SPREAD: Final = 2654435761
"""Odd: the number of a flow, times this modulo 2^32, is its address."""

Numbers = npt.NDArray[np.int64]
Traffic = Callable[[np.random.Generator, int], Numbers]


def uniform(rng: np.random.Generator, flows: int) -> Numbers:
    """Return flows of which each is as likely as any other."""
    return rng.integers(flows, size=LENGTH)


def zipf(rng: np.random.Generator, flows: int) -> Numbers:
    """Return flows of which number n is as likely as 1 / n."""
    weights = np.cumsum(1 / np.arange(1, flows + 1))
    numbers: Numbers = np.searchsorted(weights, rng.random(LENGTH) * weights[-1])
    return numbers


@pytest.fixture(scope="module")
def changing() -> Iterator[Changing]:
    """Load a program with SLOTS slots."""
    changing = Changing("cache", SLOTS // 2)
    yield changing
    changing.close()


@pytest.mark.parametrize(
    ("traffic", "load", "expected"),
    [
        (uniform, 50, 99.1),
        (uniform, 75, 94.6),
        (uniform, 100, 85.9),
        (uniform, 150, 65.3),
        (zipf, 50, 99.9),
        (zipf, 75, 99.2),
        (zipf, 100, 97.8),
        (zipf, 150, 94.3),
    ],
)
def test_hits_are_those_of_eight_ways(changing: Changing, traffic: Traffic, load: int, expected: float) -> None:
    """With so many flows to a hundred slots, so many packets in a hundred find theirs, to within one."""
    numbers = traffic(np.random.default_rng(load), SLOTS * load // 100)
    changing.start(numbered(numbers * SPREAD % (1 << 32)))
    changing.run("ipv4", WARM * LENGTH)
    before = changing.datapath.inserted()
    changing.run("ipv4", LENGTH)
    hits = 100 * (1 - (changing.datapath.inserted() - before) / LENGTH)
    assert hits == pytest.approx(expected, abs=1), hits


def test_few_flows_are_evicted_where_all_that_are_wanted_have_come(changing: Changing) -> None:
    """With max_entries flows, half as many as slots, no more make room early than chance has it: 84 in 10,000."""
    flows = SLOTS // 2
    changing.start(numbered(np.arange(flows)))
    changing.run("ipv4", flows)
    evicted = changing.datapath.table_counters.read("ipv4").evicted_entries
    assert changing.datapath.inserted() == flows
    assert evicted / flows == pytest.approx(0.0084, abs=0.0045)
