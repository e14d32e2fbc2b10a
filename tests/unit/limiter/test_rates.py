"""Rates are what a person would compute from two drains, whoever came or went between them."""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import ip_network

import numpy as np
import pytest

from cnf.abi import LIMIT_SOURCE, Family
from cnf.arrays import Records
from cnf.counts import Count
from cnf.limiter.rates import Rate, Rates, Reading, Sent
from cnf.limiter.sources import source_key

SECOND = 10**9
SOURCES: dict[Family, tuple[str, ...]] = {
    "ipv4": ("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"),
    "ipv6": ("2001:db8::/64", "2001:db8:1::/64", "2001:db8:2::/64"),
}


def key(source: str) -> Records:
    """Return a source's key."""
    return source_key(ip_network(source), 0, 0)


def sent(**sources: tuple[int, int]) -> dict[Family, Sent]:
    """Return what sources have sent within their limit and over it, by number; each packet has 100 bytes."""
    tables: dict[Family, Sent] = {}
    for family, names in SOURCES.items():
        values = np.zeros(len(sources), LIMIT_SOURCE)
        for value, (within, over) in zip(values, sources.values(), strict=True):
            value["packets"], value["over_packets"] = within, over
            value["bytes"], value["over_bytes"] = 100 * within, 100 * over
        keys = np.array([key(names[int(name[1:])]) for name in sources], key(names[0]).dtype)
        tables[family] = Sent.of(keys, values)
    return tables


def rates(before: dict[Family, Sent] | None, now: dict[Family, Sent], family: Family) -> dict[str, Rate]:
    """Return the rates of those sources of a family that send, over two seconds."""
    found = Rates(Reading(3 * SECOND, now), None if before is None else Reading(SECOND, before))
    rates = {source: found.source(key(source)) for source in SOURCES[family]}
    return {source: rate for source, rate in rates.items() if rate.packets}


@pytest.mark.parametrize("family", SOURCES)
def test_sources(family: Family) -> None:
    """All that a source has sent counts; a new one counts in whole, and so does one that was made anew."""
    first, second, third = SOURCES[family]
    assert rates(None, sent(s0=(5, 5)), family) == {}
    assert rates({}, sent(s0=(5, 5)), family) == {first: Rate(5, 500)}
    before = sent(s2=(10, 0), s0=(10, 10))
    now = sent(s0=(10, 30), s1=(8, 0), s2=(4, 0))
    assert rates(before, now, family) == {first: Rate(10, 1000), second: Rate(4, 400), third: Rate(2, 200)}
    assert rates(before, before, family) == {}
    assert rates(before, sent(), family) == {}


def test_rows_are_those_that_were_read() -> None:
    """A listing has a row's rate without its key."""
    found = Rates(Reading(2 * SECOND, sent(s1=(3, 0), s0=(7, 0))), Reading(SECOND, sent(s0=(5, 0))))
    assert [found.row("ipv4", row) for row in (0, 1)] == [Rate(3, 300), Rate(2, 200)]


def test_others_have_rates_by_name() -> None:
    """Of shared buckets and denied prefixes as of sources; of what was not read there is none."""
    before: dict[Hashable, Count] = {"a": Count(10, 1000), "b": Count(10, 1000)}
    now: dict[Hashable, Count] = {"a": Count(20, 4000), "b": Count(2, 200), "c": Count(4, 8)}
    found = Rates(Reading(3 * SECOND, others=now), Reading(SECOND, others=before))
    assert [found.other(name) for name in "abcd"] == [Rate(5, 1500), Rate(1, 100), Rate(2, 4), Rate()]
    assert Rates(Reading(SECOND, others=now), None).other("a") == Rate()
