"""Sources are known by their keys, and described as they stand."""

from __future__ import annotations

from ipaddress import ip_network

import numpy as np
import pytest

from cnf.abi import ENFORCE, LIMIT4_KEY, LIMIT6_KEY, LIMIT_SOURCE
from cnf.arrays import Records
from cnf.errors import UsageError
from cnf.limiter.rates import Rate
from cnf.limiter.source_expiry import BucketRule
from cnf.limiter.sources import Held, Sources, describe, sort_column, source_key
from cnf.limits.ruleset import STRONGEST_FIRST, ListName
from cnf.limits.token_bucket import Meter, words
from tests.unit.samples import CLOCK, JIFFIES, NOW, TICK_NS

RATE, BURST = 100, 50
RULE = BucketRule("default", words(Meter(RATE, BURST, 1), None, TICK_NS), "enforce")
RULES = {1: RULE, 2: RULE._replace(mode="shadow"), 3: RULE._replace(mode="off")}
SECOND = 250


def value_of(**fields: int) -> Records:
    """Return a record of LIMIT_SOURCE, shape ()."""
    value = np.zeros((), LIMIT_SOURCE)
    for name, number in fields.items():
        value[name] = number
    return value


def test_an_ipv4_source_has_its_address_and_group_as_key() -> None:
    """The address stands in network byte order."""
    key = source_key(ip_network("192.0.2.1/32"), 3, 0)

    assert (key.dtype, key.tobytes()) == (LIMIT4_KEY, bytes([192, 0, 2, 1, 3, 0, 0, 0]))


def test_an_ipv6_source_has_its_prefix_and_part_as_key() -> None:
    """A part of a source is told from the source that begins with the same address."""
    key = source_key(ip_network("2001:db8::/96"), 3, 96)

    assert key.dtype == LIMIT6_KEY
    assert key.tobytes() == ip_network("2001:db8::/96").network_address.packed + bytes([3, 0, 0, 0, 96, 0, 0, 0])


def test_a_bucket_is_described_as_it_is_now() -> None:
    """Tokens are those of this moment, the verdict is that since the drain before."""
    value = value_of(
        packets=7,
        bytes=700,
        over_packets=9,
        over_bytes=900,
        last_over=JIFFIES,
        dropped_packets=3,
        dropped_bytes=300,
        last_drop=JIFFIES - 1,
    )
    value["bucket"]["packet_time"] = JIFFIES * RULE.words.packet_rate + 20 * RULE.words.packet_cost
    value["bucket"]["last_used"] = JIFFIES
    drained = Sources(CLOCK, JIFFIES - SECOND, {}, {}, {}, 64)
    held = Held(ip_network("192.0.2.1"), ENFORCE | 1, value, rate=Rate(1.5, 150.0))
    shown = describe(held, RULES.get, None, drained, (NOW.jiffies, NOW.monotonic))

    assert shown == {
        "source": "192.0.2.1",
        "shared": False,
        "rule": "default",
        "set": None,
        "mode": "enforce",
        "verdict": "limited",
        "packets": 7,
        "bytes": 700,
        "dropped_packets": 3,
        "dropped_bytes": 300,
        "would_drop_packets": 6,
        "would_drop_bytes": 600,
        "packets_per_second": 1.5,
        "bits_per_second": 1200.0,
        "tokens_packets": BURST - 20,
        "tokens_bytes": None,
        "last_over": "2023-11-14T22:13:20.000000Z",
        "last_drop": "2023-11-14T22:13:19.996000Z",
    }


LATELY, BEFORE = JIFFIES - SECOND, JIFFIES - SECOND - 1
"""Since the drain before, and not."""


@pytest.mark.parametrize(
    ("rule", "last_over", "last_drop", "verdict"),
    [
        (1, 0, 0, "passed"),
        (1, BEFORE, BEFORE, "passed"),
        (1, LATELY, LATELY, "limited"),
        (1, LATELY, BEFORE, "passed"),
        (1, JIFFIES, 0, "passed"),
        (2, 0, 0, "passed"),
        (2, BEFORE, 0, "passed"),
        (2, LATELY, 0, "would_limit"),
        (2, LATELY, BEFORE, "would_limit"),
        (2, LATELY, LATELY, "passed"),
        (3, LATELY, LATELY, "passed"),
        (77, LATELY, LATELY, "passed"),
    ],
)
def test_the_verdict_is_that_since_the_drain_before(rule: int, last_over: int, last_drop: int, verdict: str) -> None:
    """As the rule in force has it: what shadow has let pass is not held back now, and what was dropped is not passed.

    A rule that is gone leaves no name, mode and tokens.
    """
    held = Held(ip_network("192.0.2.1"), rule, value_of(last_over=last_over, last_drop=last_drop))
    shown = describe(held, RULES.get, None, Sources(CLOCK, JIFFIES - SECOND, {}, {}, {}, 64), (JIFFIES, 0))

    assert shown["verdict"] == verdict
    assert shown["rule"] == ("default" if rule in RULES else None)
    assert shown["mode"] == {1: "enforce", 2: "shadow", 3: "off"}.get(rule)
    assert (shown["tokens_packets"] is None) == (rule not in RULES)


@pytest.mark.parametrize("verdict", STRONGEST_FIRST)
def test_the_verdict_on_a_source_that_is_on_a_list_is_the_lists(verdict: ListName) -> None:
    """Whatever its bucket says: a source that is denied by now has not passed."""
    network = ip_network("192.0.2.1")
    drained = Sources(CLOCK, 0, {}, {}, {}, 64)
    shown = describe(Held(network, 1, value_of(packets=7)), RULES.get, (verdict, None), drained, (JIFFIES, 0))

    assert (shown["verdict"], shown["packets"]) == (verdict, 7)


def test_a_packet_that_is_read_half_counted_makes_no_negative_count() -> None:
    """The reader may have what a slot says of before, and what is beside it of after."""
    value = value_of(over_packets=4, over_bytes=400, dropped_packets=5, dropped_bytes=500)
    held = Held(ip_network("192.0.2.1"), 1, value)
    shown = describe(held, RULES.get, None, Sources(CLOCK, 0, {}, {}, {}, 64), (JIFFIES, 0))

    assert (shown["would_drop_packets"], shown["would_drop_bytes"]) == (0, 0)


def test_what_cannot_be_sorted_by_is_refused() -> None:
    """The answer names what can."""
    with pytest.raises(UsageError, match=r"'colour'.*over, dropped, packets, bytes"):
        sort_column("colour")
