"""Events are numbered without a gap, the latest are kept, and each is shown with what was known when it came."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from cnf.abi import EVENT, FAMILIES
from cnf.clock import WallClock
from cnf.events.log import Batch, Context, EventLog
from cnf.flows.fields import FIELDS
from cnf.limiter.in_force import Dropper
from cnf.limits.ruleset import Address
from tests.unit.samples import CLOCK, JIFFIES, NAMES, NOW, TICK_NS, Flow, records

FIRST_DROP, RULE_GENERATION, FLOW_EVICTED = range(3)
NOBODY: Final = Context(CLOCK, NAMES, None)


def generations(count: int, first: int = 1) -> npt.NDArray[Any]:
    """Return events of rule sets, each of its own generation."""
    events = np.zeros(count, EVENT)
    events["kind"] = RULE_GENERATION
    events["jiffies"] = JIFFIES
    events["key"][:, 0] = np.arange(first, first + count)
    return events


def drop(address: str, rule: int, ifindex: int) -> npt.NDArray[Any]:
    """Return the event of a first drop."""
    event = np.zeros(1, EVENT)
    source = ip_address(address)
    event["kind"], event["family"], event["jiffies"] = FIRST_DROP, source.version == 6, JIFFIES - 250
    event["key"][0, :2] = np.frombuffer(source.packed.ljust(16, b"\0"), "<u8")
    event["key"][0, 2:4] = rule, ifindex
    return event


def evicted(flows: Sequence[Flow]) -> npt.NDArray[Any]:
    """Return the events of flows that were evicted."""
    events = np.zeros(len(flows), EVENT)
    events["kind"], events["jiffies"] = FLOW_EVICTED, JIFFIES
    for event, flow in zip(events, flows, strict=True):
        keys, values = records([flow], flow.family)
        words = keys.view("<u8").reshape(-1)
        event["family"] = FAMILIES.index(flow.family)
        event["key"][: len(words)] = words
        event["value"] = values[0]
    return events


def dropper(number: int, address: Address) -> Dropper:
    """Return what the rules of a test say."""
    if number == 7:
        return Dropper(IPv6Network((address, 64), strict=False), "six")
    return Dropper(IPv4Network("192.0.2.1/32"), None)


def seqs(log: EventLog, number: int, count: int) -> list[int]:
    """Return the numbers of the events after ``number``."""
    return [event["seq"] for event in log.after(number, count)]


def test_each_kind_has_its_fields() -> None:
    """Of a drop: who, by which rule, and where; of a rule set, which; of a flow, all that a live one has."""
    flow = Flow(src="2001:db8::1", dst="2001:db8::2", packets=3, dropped_packets=2)
    log = EventLog()
    events = np.concatenate((drop("2001:db8::1:5", 7, 1), generations(1, 4), evicted([flow, Flow()])))
    log.append(Batch(11, events, Context(CLOCK, NAMES, dropper)))

    first, second, third, fourth = json.loads(json.dumps(log.after(0, 10)))

    assert first == {
        "seq": 11,
        "time": "2023-11-14T22:13:19.000000Z",
        "event": "first_drop",
        "source": "2001:db8::/64",
        "address": "2001:db8::1:5",
        "rule": "six",
        "denied": False,
        "set": None,
        "interface": "eth0",
    }
    assert second == {"seq": 12, "time": "2023-11-14T22:13:20.000000Z", "event": "rule_generation", "generation": 4}
    assert [*third] == [*fourth] == ["seq", "time", "event", *FIELDS]
    assert (third["src_addr"], third["packets"], third["dropped_packets"], third["ended"]) == (
        "2001:db8::1", 3, 2, "evicted",
    )  # fmt: skip
    assert (fourth["src_addr"], fourth["packets"], fourth["interface"]) == ("192.0.2.1", 1, "eth0")


@pytest.mark.parametrize(("by", "rule"), [(dropper, None), (None, None)])
def test_a_drop_by_a_rule_that_has_gone_names_its_source(by: Any, rule: str | None) -> None:  # noqa: ANN401 - or None
    """The rule is null; an interface without a slot is "unassigned"."""
    log = EventLog()
    log.append(Batch(1, drop("192.0.2.1", 9, 0), Context(CLOCK, NAMES, by)))

    (event,) = log.after(0, 1)

    assert (event["source"], event["rule"], event["interface"]) == ("192.0.2.1", rule, "unassigned")


def test_an_event_stays_as_it_was_read() -> None:
    """A clock that was set, or an interface that was renamed, since then changes nothing of it."""
    log = EventLog()
    log.append(Batch(1, drop("192.0.2.1", 9, 1), NOBODY))
    before = log.after(0, 1)
    later = WallClock(replace(NOW, realtime=NOW.realtime + 10**12), TICK_NS)
    log.append(Batch(2, drop("192.0.2.1", 9, 1), Context(later, {1: "wan0"}, None)))

    assert log.after(0, 1) == before
    assert log.after(1, 1)[0]["interface"] == "wan0"


def test_events_come_after_a_number_and_in_order() -> None:
    """Whoever asks for what comes after the last one it has seen misses none and gets none twice."""
    log = EventLog()
    assert (log.last, seqs(log, 0, 10)) == (0, [])
    for first, count in ((1, 3), (4, 1), (5, 5)):
        log.append(Batch(first, generations(count, first), NOBODY))
    log.append(Batch(10, generations(0), NOBODY))

    assert log.last == 9
    assert seqs(log, 0, 100) == [*range(1, 10)]
    for number in range(10):
        assert seqs(log, number, 4) == [*range(1, 10)][number : number + 4]
    assert seqs(log, -5, 2) == [1, 2]
    assert seqs(log, 9, 10) == seqs(log, 12, 10) == []


def test_a_daemon_goes_on_with_the_numbers_of_the_one_before() -> None:
    """Before it has read an event, it knows what the latest one was."""
    log = EventLog(last=500)
    assert (log.first, log.last, seqs(log, 0, 10)) == (501, 500, [])
    log.append(Batch(501, generations(3), NOBODY))
    assert (log.first, log.last, seqs(log, 0, 10)) == (501, 503, [501, 502, 503])


@pytest.mark.parametrize("sizes", [[1] * 25, [25], [4, 21], [7, 7, 7, 4], [10, 10, 5], [30]])
def test_the_latest_are_kept(sizes: list[int]) -> None:
    """However they came, the log holds the latest, all of them, and no more."""
    log, first = EventLog(10), 1
    for size in sizes:
        log.append(Batch(first, generations(size, first), NOBODY))
        first += size
    assert seqs(log, 0, 100) == [*range(first - 10, first)]
    assert [event["generation"] for event in log.after(0, 100)] == [*range(first - 10, first)]


def test_what_is_forgotten_takes_no_memory() -> None:
    """The few events that stay of a large batch do not hold the others."""
    batch = Batch(1, generations(1000), NOBODY).since(991)

    assert (batch.first, len(batch.records)) == (991, 10)
    assert batch.records.base is None


class Rules:
    """The rule set of a time."""

    def dropper(self, number: int, address: Address) -> Dropper:
        """Say whom a rule has limited."""
        return Dropper(ip_network(address), f"rule {number}")


class Names(dict[int, str]):
    """The names of a time, with a place for a weak reference."""


@pytest.mark.parametrize("new", ["rules", "names"])
def test_events_do_not_hold_the_rules_and_names_of_their_time(new: str) -> None:
    """Once there are others they are let go, and the events, shown as before, keep the few names that are theirs."""
    log, flow = EventLog(), Flow(src="2001:db8::1", dst="2001:db8::2", ifindex=2)
    rules, names = Rules(), Names({1: "eth0", 2: "eth1", 3: "eth2"})
    held = weakref.ref(rules if new == "rules" else names)
    context = Context(CLOCK, names, rules.dropper)
    log.append(Batch(1, np.concatenate((drop("192.0.2.1", 4, 1), generations(1), evicted([flow, Flow()]))), context))
    log.append(Batch(5, drop("2001:db8::1", 5, 3), context))
    before = log.after(0, 10)
    assert [event["interface"] for event in before if "interface" in event] == ["eth0", "eth1", "eth0", "eth2"]

    later = Context(CLOCK, Names(names), rules.dropper) if new == "names" else Context(CLOCK, names, Rules().dropper)
    for number in range(6, 9):
        log.append(Batch(number, drop("192.0.2.9", 6, 1), later))
    del rules, names, context, later

    assert held() is None
    assert log.after(0, 5) == before
    assert [event["rule"] for event in log.after(5, 10)] == ["rule 6"] * 3


def test_a_reading_without_events_is_not_kept() -> None:
    """A batch of none takes no memory, and no number."""
    log = EventLog()
    log.append(Batch(1, generations(2), NOBODY))
    nothing = generations(0)
    gone = weakref.ref(nothing)
    log.append(Batch(3, nothing, NOBODY))
    del nothing
    assert gone() is None
    assert log.last == 2
