"""Promises of cnf.history.held: a block has whom the limits held back since the one before, with what came since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, cast

import numpy as np
import pytest

from cnf.abi import ENFORCE, FAMILIES, LIMIT4_KEY, LIMIT6_KEY, LIMIT_SOURCE, Family
from cnf.clock import Reading as Moment
from cnf.clock import WallClock
from cnf.history import held as module
from cnf.history.held import COUNTS, HeldSources
from cnf.limiter.limiter import Limiter
from cnf.limiter.rates import Rates, Reading, Sent
from cnf.limiter.source_expiry import BucketRule
from cnf.limiter.sources import Held, Sources, source_key
from cnf.limits.token_bucket import Meter, words
from tests.unit.samples import JIFFIES, NOW, TICK_NS

MINUTE = 15_000
"""In ticks."""
FEW, LATER = 1, 2
"""Numbers of rules."""


@dataclass
class Node:
    """A node's limits: what a test has the sources and the buckets of whole prefixes count, minute by minute."""

    minute: int = 0
    counted: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    prefixes: list[Held] = field(default_factory=list)
    following: HeldSources = field(default_factory=HeldSources)

    def bucket_rule(self, number: int) -> BucketRule | None:
        """Return a rule, as the limiter does."""
        names = {FEW: "few", LATER: "later"}
        return BucketRule(names[number], words(Meter(1, 1, 1), None, TICK_NS), "enforce") if number in names else None

    def shared(self) -> Sequence[Held]:
        """Return the buckets of prefixes, as the limiter does."""
        return self.prefixes

    def count(self, source: str, rule: int = FEW, **counts: int) -> None:
        """Have a source count more; what is over its limit is so at this moment."""
        value = self.counted.setdefault((source, rule), {})
        for name, number in counts.items():
            value[name] = value.get(name, 0) + number
        if "over_packets" in counts:
            value["last_over"] = value["last_drop"] = self.now

    @property
    def now(self) -> int:
        """Jiffies."""
        return JIFFIES + self.minute * MINUTE

    def block(self) -> list[dict[str, Any]]:
        """End a minute, and return what its block has."""
        self.minute += 1
        lapse = self.minute * MINUTE * TICK_NS
        now = Moment(self.now, NOW.monotonic + lapse, NOW.boottime + lapse, NOW.realtime + lapse)
        keys, values = self._tables()
        sent = {family: Sent.of(keys[family], values[family]) for family in FAMILIES}
        rates = Rates(Reading(now.monotonic, sent), None)
        sources = Sources(WallClock(now, TICK_NS), 0, {}, keys, values, 64, rates)
        return self.following.since(cast("Limiter", self), sources)

    def _tables(self) -> tuple[Mapping[Family, Any], Mapping[Family, Any]]:
        keys: dict[Family, list[Any]] = {"ipv4": [], "ipv6": []}
        values: dict[Family, list[Any]] = {"ipv4": [], "ipv6": []}
        for (source, rule), counts in self.counted.items():
            network = ip_network(source)
            family: Family = "ipv4" if network.version == 4 else "ipv6"
            keys[family].append(source_key(network, rule, 0))
            values[family].append(value_of(rule, **counts))
        dtypes = {"ipv4": LIMIT4_KEY, "ipv6": LIMIT6_KEY}
        return (
            {family: np.array(each, dtypes[family]) for family, each in keys.items()},
            {family: np.array(each, LIMIT_SOURCE) for family, each in values.items()},
        )


def value_of(rule: int, **counts: int) -> Any:  # noqa: ANN401 - a record
    """Return a record of LIMIT_SOURCE, shape ()."""
    value = np.zeros((), LIMIT_SOURCE)
    value["decision"] = rule | ENFORCE
    for name, number in counts.items():
        value[name] = number
    return value


def over(packets: int) -> dict[str, int]:
    """Return counts of packets of 100 bytes that were over a limit, and dropped."""
    kinds = {"over_packets": 1, "over_bytes": 100, "dropped_packets": 1, "dropped_bytes": 100}
    return {name: size * packets for name, size in kinds.items()}


def counts_of(rows: Sequence[Mapping[str, Any]], name: str = "dropped_packets") -> dict[str, int]:
    """Return a count by source."""
    return {row["source"]: row[name] for row in rows}


def test_a_block_has_what_came_since_the_one_before() -> None:
    """The counts of a source are those of its minute, of both families; they add up to all that it has counted."""
    node = Node()
    node.count("192.0.2.1", packets=3, bytes=300, **over(5))
    node.count("2001:db8::/64", packets=1, bytes=100, **over(2))
    first = node.block()
    assert counts_of(first) == {"192.0.2.1": 5, "2001:db8::/64": 2}
    assert [(row["rule"], row["mode"], row["shared"]) for row in first] == [("few", "enforce", False)] * 2
    node.count("192.0.2.1", packets=1, bytes=100, **over(40))
    (second,) = node.block()
    assert [second[name] for name in COUNTS] == [1, 100, 40, 4000, 40, 4000]
    assert [first[0][name] + second[name] for name in COUNTS] == [4, 400, 45, 4500, 45, 4500]
    assert second["last_over"] == second["last_drop"] == NOW.realtime + MINUTE * TICK_NS
    assert node.block() == []


def test_who_was_never_over_is_not_there() -> None:
    """Sources that only had packets pass are not held back, nor those that were over in an earlier minute."""
    node = Node()
    node.count("192.0.2.1", packets=30, bytes=3000)
    node.count("192.0.2.2", **over(1))
    assert counts_of(node.block()) == {"192.0.2.2": 1}
    node.count("192.0.2.2", packets=9, bytes=900)
    assert node.block() == []


def test_a_source_that_began_anew_has_all_it_counted() -> None:
    """A source that was forgotten in between, or never seen before, has counted from 0."""
    node = Node()
    node.count("192.0.2.1", **over(50))
    node.block()
    node.counted.clear()
    node.count("192.0.2.1", **over(7))
    node.count("192.0.2.0", **over(3))
    node.count("192.0.2.9", **over(4))
    assert counts_of(node.block()) == {"192.0.2.1": 7, "192.0.2.9": 4, "192.0.2.0": 3}


def test_a_source_that_a_reading_has_missed_is_not_held_back_again() -> None:
    """A table may be read without one of its sources: what that has counted before is not of this minute."""
    node = Node()
    node.count("192.0.2.1", **over(50))
    node.block()
    missed = node.counted.copy()
    node.counted.clear()
    assert node.block() == []
    node.counted = missed
    assert node.block() == []


def test_a_source_under_two_rules_is_two() -> None:
    """Each bucket has its own row; under a rule that is gone it has no name."""
    node = Node()
    node.count("192.0.2.1", FEW, **over(1))
    node.count("192.0.2.1", LATER, **over(2))
    node.count("192.0.2.1", 3, **over(4))
    assert [(row["rule"], row["mode"], row["over_packets"]) for row in node.block()] == [
        (None, None, 4),
        ("later", "enforce", 2),
        ("few", "enforce", 1),
    ]


def test_buckets_of_whole_prefixes_come_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sources those with most packets over the limit are there; a prefix's bucket always is, if it was over."""
    monkeypatch.setattr(module, "MOST", 2)
    node = Node()
    for last, packets in enumerate((3, 9, 1, 7)):
        node.count(f"192.0.2.{last}", **over(packets))
    prefix = ip_network("198.51.100.0/24")

    def shared(packets: int) -> list[Held]:
        return [Held(prefix, FEW | ENFORCE, value_of(FEW, **over(packets), last_over=node.now), shared=True)]

    node.prefixes = shared(2)
    first = node.block()
    assert [(row["source"], row["shared"], row["over_packets"]) for row in first] == [
        ("198.51.100.0/24", True, 2),
        ("192.0.2.1", False, 9),
        ("192.0.2.3", False, 7),
    ]
    node.prefixes = shared(12)
    assert counts_of(node.block()) == {"198.51.100.0/24": 10}
    node.prefixes = shared(5)  # of a rule that was taken away, and came again
    assert counts_of(node.block()) == {"198.51.100.0/24": 5}
