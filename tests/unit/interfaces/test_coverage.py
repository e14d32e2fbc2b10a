"""Coverage compares what can be compared, and says nothing until there is something to compare."""

from __future__ import annotations

import pytest

from cnf.abi import INTERFACE_COUNTERS
from cnf.counts import Count
from cnf.direction import DIRECTIONS
from cnf.interfaces.coverage import Coverages, Reading, counted_of
from tests.unit.samples import interface_counters

BEFORE = Reading(Count(500, 50_000), Count(90_000, 9_000_000))
"""What both had when the program came."""


def ratio(counted: Count, statistics: Count, *, virtual: bool = False) -> float | None:
    """Return the ratio after ``counted`` and ``statistics`` more."""
    coverages = Coverages()
    coverages.observe(2, "egress", BEFORE)
    coverages.observe(2, "egress", Reading(BEFORE.counted.plus(counted), BEFORE.statistics.plus(statistics)))
    return coverages.ratio(2, "egress", virtual=virtual)


@pytest.mark.parametrize(
    ("counted", "statistics", "virtual", "expected"),
    [
        pytest.param(Count(2000, 200_000), Count(2000, 208_000), False, 1.0, id="a NIC, with checksums"),
        pytest.param(Count(1500, 150_000), Count(2000, 208_000), False, 0.75, id="a NIC, a quarter is missing"),
        pytest.param(Count(2004, 200_400), Count(2000, 208_000), False, 1.002, id="a NIC, read a little later"),
        pytest.param(Count(44_000, 66_616_000), Count(1000, 63_778_000), False, 1.0445, id="super-frames"),
        pytest.param(Count(22_000, 33_308_000), Count(1000, 63_778_000), True, 0.5222, id="half of the super-frames"),
        pytest.param(Count(2000, 200_000), Count(2000, 172_000), True, 1.0, id="a veth, without Ethernet headers"),
        pytest.param(Count(1900, 1_000_000), Count(1000, 2_000_000), True, 0.5, id="few of the large ones"),
        pytest.param(Count(), Count(1000, 100_000), False, 0.0, id="nothing"),
    ],
)
def test_ratio(counted: Count, statistics: Count, virtual: bool, expected: float) -> None:  # noqa: FBT001
    """Packets are compared; bytes, where packets are not the same things."""
    assert ratio(counted, statistics, virtual=virtual) == pytest.approx(expected, abs=1e-4)


def test_too_few_packets_say_nothing() -> None:
    """From a thousand on, that both are not read at the same moment does not matter."""
    assert ratio(Count(999, 99_900), Count(999, 99_900)) is None
    assert ratio(Count(1000, 100_000), Count(1000, 100_000)) == 1


def test_what_was_before_does_not_count() -> None:
    """Traffic before the program came is in no ratio, and one reading is none."""
    coverages = Coverages()
    assert coverages.ratio(2, "ingress", virtual=False) is None
    coverages.observe(2, "ingress", Reading(Count(), Count(1 << 40, 1 << 50)))
    assert coverages.ratio(2, "ingress", virtual=False) is None


@pytest.mark.parametrize(
    "reset", [Reading(BEFORE.counted, Count(5, 500)), Reading(Count(5, 500), BEFORE.statistics.plus(Count(9, 900)))]
)
def test_counters_that_were_reset_begin_anew(reset: Reading) -> None:
    """A driver that forgets its statistics, or an interface that comes back, starts a new comparison."""
    coverages = Coverages()
    coverages.observe(2, "egress", BEFORE)
    coverages.observe(2, "egress", reset)
    assert coverages.ratio(2, "egress", virtual=False) is None
    more = Count(1000, 100_000)
    coverages.observe(2, "egress", Reading(reset.counted.plus(more), reset.statistics.plus(more)))
    assert coverages.ratio(2, "egress", virtual=False) == 1


def test_a_program_that_was_off_begins_anew() -> None:
    """What passed while it was off is not missed; the other direction is not concerned."""
    coverages = Coverages()
    for direction in DIRECTIONS:
        coverages.observe(2, direction, BEFORE)
    coverages.forget(2, "egress")
    later = Reading(BEFORE.counted.plus(Count(2000, 2000)), BEFORE.statistics.plus(Count(2000, 2000)))
    for direction in DIRECTIONS:
        coverages.observe(2, direction, later)
    assert [coverages.ratio(2, direction, virtual=False) for direction in DIRECTIONS] == [1, None]


def test_counters_of_both_directions() -> None:
    """Packets that are dropped, or cannot be parsed, were counted, too."""
    counters = interface_counters({"tcp": 5, "malformed": 2}, {"tcp": 500, "malformed": 40}, {"udp": 3}, {"udp": 300})
    counters["dropped_packets"][0] = 4
    assert counters.dtype == INTERFACE_COUNTERS
    assert counted_of(counters) == {"ingress": Count(7, 540), "egress": Count(3, 300)}
