"""The latest records are kept, and of a number it is known what comes after it, and what is kept no more."""

from __future__ import annotations

import math
import weakref

import pytest

from cnf.counts import Count
from cnf.export.record_log import KEPT_BATCHES, Kept, RecordLog
from tests.unit.record_batches import batch, many
from tests.unit.samples import CLOCK, NAMES, Flow


def numbers(log: RecordLog) -> list[int]:
    """Return the numbers of the records that are kept, each as its record has it."""
    return [number for each in log.kept.batches for number in each.records["ipv4"]["packets"].tolist()]


def test_it_asks_for_no_records() -> None:
    """Whether anybody follows makes no records."""
    assert RecordLog(1).active(CLOCK) == math.inf


@pytest.mark.parametrize("sizes", [[1] * 25, [4, 21], [7, 7, 7, 4], [10, 10, 5], [5, 0, 0, 12], [2, 3]])
def test_the_latest_are_kept(sizes: list[int]) -> None:
    """However they came, the log holds so many; but of the latest drain, all."""
    log, first = RecordLog(1, most=10), 1
    for size in sizes:
        log.put(many(first, size))
        first += size
    oldest = max(min(first - 10, first - sizes[-1]), 1)
    assert numbers(log) == [*range(oldest, first)]
    assert (log.kept.first, log.kept.last) == (oldest, first - 1)


def test_what_comes_after_a_number() -> None:
    """It is in the batch with the next number that is kept; after the last one there is nothing."""
    log = RecordLog(1, most=10)
    for first, size in ((1, 4), (5, 3), (8, 5)):
        log.put(many(first, size))
    found = {number: log.kept.after(number) for number in range(20)}
    firsts = [each.first if each else None for each in found.values()]
    assert firsts == [3] * 4 + [5] * 3 + [8] * 5 + [None] * 8
    assert Kept().after(0) is None
    assert (Kept().first, Kept().last) == (1, 0)


def test_a_daemon_goes_on_with_the_numbers_of_the_one_before() -> None:
    """Also before its first drain, and after one without records."""
    log = RecordLog(1, 500)
    assert (log.kept.first, log.kept.last) == (501, 500)
    log.put(many(501, 0))
    assert (log.kept.first, log.kept.last, log.kept.batches) == (501, 500, ())


def test_many_small_batches_are_not_kept_for_ever() -> None:
    """A node with a record a drain keeps those of so many drains."""
    log = RecordLog(1)
    for number in range(1, KEPT_BATCHES + 11):
        log.put(many(number, 1))
    assert numbers(log) == [*range(11, KEPT_BATCHES + 11)]


def test_what_is_forgotten_takes_no_memory() -> None:
    """The few records that stay of a large batch do not hold the others; nor does a part of IPv6."""
    log = RecordLog(1, most=5)
    log.put(batch(1, *[Flow()] * 10, *[Flow(src="2001:db8::1", dst="2001:db8::2")] * 3))
    log.put(many(14, 1))
    (first, _) = log.kept.batches
    assert (first.first, [len(each) for each in first.records.values()]) == (10, [1, 3])
    assert all(each.base is None for each in first.records.values())


class Names(dict[int, str]):
    """The names of a time, with a place for a weak reference."""


def test_records_do_not_hold_the_names_of_their_time() -> None:
    """Once there are others they are let go, and each batch keeps the few that are its own."""
    log, names = RecordLog(1), Names(NAMES | {number: f"veth{number}" for number in range(100, 1000)})
    held = weakref.ref(names)
    for first in (1, 2):
        log.put(many(first, 1, names))
    later = Names(names)
    del names
    log.put(many(3, 1, later))
    assert held() is None
    assert [dict(each.names) for each in log.kept.batches] == [{1: "eth0"}, {1: "eth0"}, later]


def test_losses_add_up() -> None:
    """What the drains have lost is told as a sum, with or without records."""
    log = RecordLog(1)
    log.put(batch(1, lost={"ingress": Count(3, 300), "egress": Count()}))
    log.put(batch(1, Flow(), lost={"ingress": Count(1, 100), "egress": Count(2, 200)}))
    assert log.kept.lost == {"ingress": Count(4, 400), "egress": Count(2, 200)}


def test_the_bell_rings_when_there_is_news() -> None:
    """A drain without records and losses is none."""
    log, rings = RecordLog(1), list[int]()
    with log.bell.heard_by(lambda: rings.append(log.kept.last)):
        log.put(many(1, 2))
        log.put(many(3, 0))
        log.put(batch(3, lost={"ingress": Count(3, 300), "egress": Count()}))
        log.put(many(3, 1))
    assert rings == [2, 2, 3]
