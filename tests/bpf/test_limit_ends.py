"""What is denied, allowed or set until a time is so until that tick, and the program itself ends it."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, Final

import pytest

from cnf.abi import FAMILIES, RULE_ENDS
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import TICK_NS, XDP_DROP, Clocked
from tests.bpf.packets import UDP, IPv4, IPv6, frame

BURST: Final = 3
TICKS: Final = 10
RULE: Final[dict[str, Any]] = {
    "name": "r",
    "prefixes": ["0.0.0.0/0", "::/0"],
    "packets_per_second": 1,
    "burst_packets": BURST,
}
LIMITS: Final[dict[str, Any]] = {"mode": "enforce", "rules": [RULE]}
CASES: Final = (
    ("10.1.0.0/16", "10.0.0.0/8", "10.1.0.1"),
    ("2001:db8:1::/48", "2001:db8::/32", "2001:db8:1::1"),
)

each_family = pytest.mark.parametrize(("inner", "outer", "address"), CASES, ids=FAMILIES)


def wait(clocked: Clocked, ticks: int) -> None:
    """Let so many ticks pass."""
    clocked.show(clocked.now + ticks * TICK_NS)


def passed(clocked: Clocked, address: str, packets: int = 2 * BURST) -> int:
    """Return how many of some packets pass."""
    packet = frame(IPv6(address) if ":" in address else IPv4(address), UDP())
    verdicts = [clocked.run(packet) for _ in range(packets)]
    assert {*verdicts} <= {XDP_PASS, XDP_DROP}
    return verdicts.count(XDP_PASS)


@each_family
def test_a_block_ends_by_itself(clocked: Clocked, inner: str, outer: str, address: str) -> None:
    """In its last tick all is dropped, in the next one the rules decide, and it has counted what it dropped."""
    clocked.start(LIMITS)
    ends = {("deny", ip_network(inner)): clocked.jiffies + TICKS}
    clocked.switch(LIMITS | {"deny": [inner]}, ends=ends)
    wait(clocked, TICKS - 1)
    assert passed(clocked, address) == 0
    wait(clocked, 1)
    assert passed(clocked, address) == BURST
    assert clocked.denied() == {inner: (2 * BURST, clocked.dropped()["denied"].bytes, True)}
    assert outer not in clocked.denied()


@each_family
def test_what_is_around_a_block_goes_on(clocked: Clocked, inner: str, outer: str, address: str) -> None:
    """Of two that cover a source the one that ends last decides, and then one without an end that allows."""
    clocked.start(LIMITS)
    ends = {
        ("deny", ip_network(inner)): clocked.jiffies + TICKS,
        ("deny", ip_network(outer)): clocked.jiffies + 2 * TICKS,
    }
    clocked.switch(LIMITS | {"deny": [inner, outer], "allow": [inner]}, ends=ends)
    wait(clocked, TICKS)
    assert passed(clocked, address) == 0
    wait(clocked, TICKS)
    assert passed(clocked, address) == 2 * BURST
    assert [packets for packets, *_ in clocked.denied().values()] == [0, 2 * BURST]


@each_family
def test_a_block_without_an_end_is_not_ended_by_one_within_it(
    clocked: Clocked, inner: str, outer: str, address: str
) -> None:
    """After the shorter block the longer one still holds."""
    clocked.start(LIMITS)
    ends = {("deny", ip_network(inner)): clocked.jiffies + TICKS}
    clocked.switch(LIMITS | {"deny": [inner, outer]}, ends=ends)
    wait(clocked, TICKS)
    assert passed(clocked, address) == 0


@each_family
def test_what_was_allowed_until_a_time_is_limited(clocked: Clocked, inner: str, outer: str, address: str) -> None:
    """No source's slot remembers that it was allowed: that would outlive the end."""
    clocked.start(LIMITS)
    ends = {("allow", ip_network(inner)): clocked.jiffies + TICKS}
    clocked.switch(LIMITS | {"allow": [inner]}, ends=ends)
    wait(clocked, TICKS - 1)
    assert passed(clocked, address) == 2 * BURST
    wait(clocked, 1)
    assert passed(clocked, address) == BURST
    assert passed(clocked, outer.partition("/")[0], 1) == 1


def named(name: str, *prefixes: str, burst: int, **options: object) -> dict[str, Any]:
    """Return a rule whose next packet after the burst would take long."""
    return {"name": name, "prefixes": [*prefixes], "packets_per_second": 1, "burst_packets": burst, **options}


@each_family
@pytest.mark.parametrize("bucket", ["source", "prefix"])
def test_a_rule_is_as_before_after_its_end(clocked: Clocked, inner: str, outer: str, address: str, bucket: str) -> None:
    """In its last tick it holds, in the next one the former rule does, whose bucket is full; others never change."""
    others = named("others", outer, burst=7)
    former, rule = (named("r", inner, burst=burst, bucket=bucket) for burst in (3, 5))
    clocked.start({"mode": "enforce", "rules": [former, others]})
    end = clocked.jiffies + TICKS
    clocked.switch({"mode": "enforce", "rules": [rule, others]}, later={end: [former, others]})
    assert passed(clocked, address, 10) == 5
    wait(clocked, TICKS - 1)
    assert passed(clocked, address, 10) == 0
    wait(clocked, 1)
    assert passed(clocked, address, 10) == 3
    assert passed(clocked, outer.partition("/")[0], 10) == 7
    clocked.switch({"mode": "enforce", "rules": [former, others]})
    assert [passed(clocked, each, 10) for each in (address, outer.partition("/")[0])] == [0, 0]


@each_family
def test_rules_end_one_after_the_other(clocked: Clocked, inner: str, outer: str, address: str) -> None:
    """Each at its own time: first the longer prefix, then the one around it, until no rule is left."""
    first, second = named("first", inner, burst=2), named("second", outer, burst=4)
    clocked.reset()
    now = clocked.jiffies
    clocked.start({"mode": "enforce", "rules": [first, second]}, later={now + TICKS: [second], now + 2 * TICKS: []})
    counts = [passed(clocked, address, 10)]
    for _ in range(2):
        wait(clocked, TICKS)
        counts.append(passed(clocked, address, 10))
    assert counts == [2, 4, 10]
    assert clocked.packets()["first"] == {"passed": 2, "limited": 8}
    assert clocked.packets()["second"] == {"passed": 4, "limited": 6}


@each_family
def test_as_many_ends_as_there_may_be(clocked: Clocked, inner: str, outer: str, address: str) -> None:
    """At each of eight times one more is gone."""
    rules = [named(f"r{number}", inner, burst=10 + number) for number in range(RULE_ENDS)] + [RULE]
    clocked.reset()
    now = clocked.jiffies
    later = {now + (number + 1) * TICKS: rules[number + 1 :] for number in range(RULE_ENDS)}
    clocked.start({"mode": "enforce", "rules": rules}, later=later)
    for number in range(RULE_ENDS):
        assert passed(clocked, address, 30) == 10 + number
        wait(clocked, TICKS)
    assert passed(clocked, address, 30) == BURST
    assert passed(clocked, outer.partition("/")[0], 30) == BURST
