"""Sources are known by their keys, and described as they stand."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cnf.bucket import Meter, words
from cnf.errors import UsageError
from cnf.records import ENFORCE, LIMIT4_KEY, LIMIT6_KEY, LIMIT_SOURCE
from cnf.source_table import BucketRule
from cnf.sources import Held, Sources, describe, sort_column, source_key
from tests.unit.samples import CLOCK, JIFFIES, NOW, TICK_NS

Records = npt.NDArray[Any]

RATE, BURST = 100, 50
RULE = BucketRule("default", words(Meter(RATE, BURST, 1), None, TICK_NS))
RULES = {1: RULE}
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
    value = value_of(packets=7, bytes=700, over_packets=3, over_bytes=300, last_over=JIFFIES - 1)
    value["bucket"]["packet_time"] = JIFFIES * RULE.words.packet_rate + 20 * RULE.words.packet_cost
    value["bucket"]["last_used"] = JIFFIES
    drained = Sources(CLOCK, JIFFIES - SECOND, {}, {}, {}, 64)
    shown = describe(
        Held(ip_network("192.0.2.1"), ENFORCE | 1, value), RULES.get, drained, (NOW.jiffies, NOW.monotonic)
    )

    assert shown == {
        "source": "192.0.2.1",
        "shared": False,
        "rule": "default",
        "mode": "enforce",
        "verdict": "limited",
        "packets": 7,
        "bytes": 700,
        "dropped_packets": 3,
        "dropped_bytes": 300,
        "tokens_packets": BURST - 20,
        "tokens_bytes": None,
        "last_drop": "2023-11-14T22:13:19.996000Z",
    }


@pytest.mark.parametrize(
    ("last_over", "rule", "verdict"),
    [(0, 1, "passed"), (JIFFIES - SECOND - 1, 1, "passed"), (JIFFIES - SECOND, 1, "would_limit"), (0, 77, "passed")],
)
def test_the_verdict_is_that_since_the_drain_before(last_over: int, rule: int, verdict: str) -> None:
    """Shadow would limit; a rule that is gone leaves no name and no tokens."""
    held = Held(ip_network("192.0.2.1"), rule, value_of(last_over=last_over))
    shown = describe(held, RULES.get, Sources(CLOCK, JIFFIES - SECOND, {}, {}, {}, 64), (JIFFIES, 0))

    assert shown["verdict"] == verdict
    assert shown["rule"] == ("default" if rule == 1 else None)
    assert (shown["tokens_packets"] is None) == (rule != 1)


def test_what_cannot_be_sorted_by_is_refused() -> None:
    """The answer names what can."""
    with pytest.raises(UsageError, match=r"'colour'.*dropped, packets, bytes"):
        sort_column("colour")
