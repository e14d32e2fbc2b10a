"""Promises of cnf.history.increase: the sums of blocks are what counters have grown, whatever came and went."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cnf.history.block import Block, Sums
from cnf.history.increase import increase, sum_of, sums_after
from tests.unit.history.samples import block, packets_of, sums


def grown(before: Sums, now: Sums) -> tuple[dict[str, int], dict[str, int], tuple[str, ...]]:
    """Return by how many packets interfaces and rules have grown, and who began from 0."""
    interfaces, rules, began = increase(before, now)
    return packets_of(interfaces), {name: counts[0].packets for name, counts in rules.items()}, began


def test_only_what_has_counted_is_there() -> None:
    """The increase is the difference, of those that have any."""
    found = grown(sums(5, {"dns": 1, "web": 2}, eth1=3), sums(9, {"dns": 8, "web": 2}, eth1=3))
    assert found == ({"eth0": 4}, {"dns": 7}, ())


def test_who_is_new_or_has_less_began_from_0() -> None:
    """An interface or rule that was made anew counts in whole."""
    found = grown(sums(5, {"dns": 9}), sums(4, {"dns": 3, "web": 2}, eth1=3))
    assert found == (
        {"eth0": 4, "eth1": 3},
        {"dns": 3, "web": 2},
        ("interface eth0", "interface eth1", "rule dns", "rule web"),
    )


@pytest.mark.parametrize(
    "course",
    [
        [sums(5), sums(9), sums(9), sums(12)],
        [sums(5, eth1=7), sums(6), sums(7, eth1=2), sums(8, eth1=9)],  # one goes, and comes back
        [sums(5, {"dns": 7}), sums(6, {"dns": 2}), sums(7), sums(7, {"dns": 9})],
        [Sums(), sums(3)],
    ],
)
def test_the_next_daemon_knows_the_sums(course: list[Sums]) -> None:
    """From the first block of a file, and the increases since, comes what those who are there have counted."""
    blocks: list[Block] = []
    for before, now in pairwise(course):
        interfaces, rules, began = increase(before, now)
        blocks.append(block(interfaces=interfaces, rules=rules, began=began, before=None if blocks else before))
    found = sums_after(blocks)
    assert found is not None
    last = course[-1]
    assert grown(found, last)[:2] == ({}, {})
    assert packets_of(found.interfaces).items() >= packets_of(last.interfaces).items()


def test_without_a_first_block_the_sums_are_not_known() -> None:
    """Nobody guesses from what a file has gone on."""
    assert sums_after([block()]) is None
    assert sums_after([]) is None


def test_blocks_add_up() -> None:
    """The sum over blocks has every interface of any of them."""
    assert packets_of(sum_of([sums(5).interfaces, sums(2, eth1=1).interfaces])) == {"eth0": 7, "eth1": 1}
