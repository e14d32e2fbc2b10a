"""How many packets find their flow in a cache that has fewer slots than there are flows, or not many more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest

from cnf.datapath.blueprint import LimiterSize
from tests.bpf.changing import LENGTH, Changing, ClockedChanging, numbered
from tests.bpf.limited import SIZE, Limited
from tests.bpf.tables import CacheFlows

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


@pytest.fixture(scope="module")
def clocked() -> Iterator[ClockedChanging]:
    """Load one whose clock the test sets."""
    clocked = ClockedChanging("cache", SLOTS // 2)
    yield clocked
    clocked.close()


@pytest.fixture(scope="module")
def limited() -> Iterator[Changing]:
    """Load one that has as many slots for sources, too."""
    limited = Changing("cache", SLOTS // 2, limiter=LimiterSize(SLOTS // 2, SIZE.rules, SIZE.prefixes))
    yield limited
    limited.close()


@pytest.mark.parametrize(
    ("traffic", "load", "expected"),
    [
        (uniform, 50, 100),
        (uniform, 75, 100),
        (uniform, 100, 97.2),
        (uniform, 150, 66.6),
        (zipf, 50, 100),
        (zipf, 75, 99.8),
        (zipf, 100, 99.2),
        (zipf, 150, 95.2),
    ],
)
def test_hits_are_those_of_two_sets(changing: Changing, traffic: Traffic, load: int, expected: float) -> None:
    """With so many flows to a hundred slots, so many packets in a hundred find theirs, to within one."""
    rng = np.random.default_rng(load)
    first, second = (numbered(traffic(rng, SLOTS * load // 100) * SPREAD % (1 << 32)) for _ in range(2))
    changing.start(first)
    changing.run("ipv4", WARM * LENGTH)
    changing.go_on(second)  # not the same once more: what a cache has kept for long would come back
    before = changing.datapath.inserted()
    changing.run("ipv4", LENGTH)
    hits = 100 * (1 - (changing.datapath.inserted() - before) / LENGTH)
    assert hits == pytest.approx(expected, abs=1), hits


JIFFIES: Final = 1 << 32
DRAWS: Final = 10
ROUNDS: Final = 10


@pytest.mark.parametrize("ticks", [0, 10])
@pytest.mark.parametrize(("percent", "at_most"), [(50, 0), (90, 2e-5)])
def test_no_live_flow_makes_room_before_the_table_is_full(
    clocked: ClockedChanging, percent: int, at_most: float, ticks: int
) -> None:
    """Flows that are a share of max_entries stay, whatever the secrets are: so many are evicted in a round at most.

    Which of the live ones goes depends on the jiffies, and so does how many others it evicts when it comes back: hence
    a clock of the test's own, with so many ``ticks`` a round.
    """
    flows = SLOTS // 2 * percent // 100
    evicted = inserted = entries = 0
    for draw in range(DRAWS):
        clocked.draw_secrets(draw)
        clocked.start(numbered(np.arange(flows) * SPREAD % (1 << 32)))
        stretches = ROUNDS * max(ticks, 1)
        for tick in range(stretches):
            clocked.show(JIFFIES + tick * min(ticks, 1))
            clocked.run("ipv4", ROUNDS * flows * (tick + 1) // stretches - ROUNDS * flows * tick // stretches)
        evicted += clocked.datapath.table_counters.read("ipv4").evicted_entries
        inserted += clocked.datapath.inserted()
        table = clocked.datapath.tables["ipv4"]
        assert isinstance(table, CacheFlows)
        entries += sum(len(block.places) for block in table.cache.blocks())
    assert inserted == entries + evicted
    assert evicted <= at_most * DRAWS * ROUNDS * flows


def test_no_source_in_debt_makes_room_before_the_table_is_full(limited: Changing) -> None:
    """Sources far over their limit, half of max_sources, get what the limit lets them, and no bucket anew."""
    sources = SLOTS // 4
    limit = {"name": "all", "prefixes": ["0.0.0.0/0"], "packets_per_second": 1, "burst_packets": 2}
    for draw in range(DRAWS):
        limited.draw_secrets(draw)
        limited.start(numbered(np.arange(sources) * SPREAD % (1 << 32)))
        assert isinstance(limited.datapath, Limited)
        limited.datapath.switch({"mode": "enforce", "rules": [limit]})
        limited.run("ipv4", ROUNDS * sources)
        counted = limited.datapath.table_counters.read_sources("ipv4")
        assert (counted.inserted, counted.evicted_entries, counted.expired_entries) == (sources, 0, 0)
