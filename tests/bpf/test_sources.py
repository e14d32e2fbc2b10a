"""The tables of sources are read whole; what is idle is forgotten, and only when nothing is lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import numpy as np
import pytest

from cnf.abi import COUNTER, ENFORCE, FAMILIES, LIMIT4_KEY, LIMIT_SOURCE, TABLE_COUNTERS, WAYS, Family
from cnf.arrays import Records
from cnf.clock import Reading, WallClock, tick_ns
from cnf.datapath.cache import Secrets
from cnf.kernel.libbpf import possible_cpus
from cnf.kernel.maps import CounterArray, FlowMap
from cnf.limiter.source_expiry import HOME_SHIFT, BucketRule
from cnf.limiter.source_hash import HashSources
from cnf.limiter.sources import SourceReader, Sources, source_key
from cnf.limits.token_bucket import Meter, words
from tests.bpf.conftest import only
from tests.bpf.limited import Clocked, Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.bpf.placement import place
from tests.bpf.tables import HashEntries, crowd

RULES = {
    1: BucketRule("default", words(Meter(100, 50, 1), None, tick_ns()), "enforce"),
    2: BucketRule("slow", words(Meter(1, 600, 1), None, tick_ns()), "enforce"),
}
RULE = {"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 10}
LIMITS = {"rules": [{"name": "default", "prefixes": ["0.0.0.0/0"], "packets_per_second": 1000}]}


def reader(limited: Limited) -> SourceReader:
    """Return a reader of the tables."""
    return SourceReader(limited.loaded.maps, limited.loaded.blueprint.table, limited.size.sources)


def clock(limited: Limited) -> WallClock:
    """Return what the clocks show now."""
    jiffies, monotonic = limited.loaded.read_clock()
    return WallClock(Reading(jiffies, monotonic, monotonic, 0), limited.tick_ns)


def drain(limited: Limited, reading: SourceReader) -> Sources:
    """Drain once."""
    return reading.drain(clock(limited), RULES.get, 64)


def remember(limited: Limited, address: str, group: int = 0, *, idle: float = 0, **fields: int) -> None:
    """Have a source in the table as the program would have it: of rule 1, unless ``fields`` say otherwise."""
    value = np.zeros((), LIMIT_SOURCE)
    value["decision"] = 1
    value["last_seen"] = limited.loaded.read_clock()[0] - round(idle * 1e9 / limited.tick_ns)
    for name, number in fields.items():
        value[name] = number
    value["decision"] |= 1 << 32  # a generation
    limited.write_source("ipv4", source_key(ip_network(address), group, 0), value)


def remembered(limited: Limited) -> int:
    """Return how many sources the table has."""
    return sum(len(keys) for keys, _ in limited.sources_by_family["ipv4"].batches())


def test_only_sources_with_a_bucket_of_their_own_are_listed(limited: Limited) -> None:
    """One that no rule is about, or whose bucket stands under another group, is none; in a cache it takes no room."""
    remember(limited, "192.0.2.1")
    remember(limited, "192.0.2.2", decision=0)
    remember(limited, "192.0.2.3", group=1)
    remember(limited, "192.0.2.4", group=1, decision=1 << HOME_SHIFT | ENFORCE | 2)
    drained = drain(limited, reader(limited))

    found = {str(held.source): held.rule for held in drained.largest("packets", None)}
    assert found == {"192.0.2.1/32": 1, "192.0.2.4/32": ENFORCE | 2}
    assert drained.tables["ipv4"].entries == (2 if limited.loaded.blueprint.table == "cache" else 4)
    assert drained.tables["ipv6"].entries == 0
    assert drained.count(held_back=False) == 2


@pytest.mark.parametrize(
    ("idle", "rule", "over", "left"),
    [
        (58, 1, 0, 1),
        (62, 1, 0, 0),
        (62, 1, 1, 1),
        (3598, 1, 1, 1),
        (3602, 1, 1, 0),
        (600, 2, 0, 1),
        (603, 2, 0, 0),
        (62, 0, 0, 0),
        (62, 77, 0, 0),
    ],
)
def test_a_source_is_forgotten_when_it_is_idle_and_full(
    limited: Limited, idle: int, rule: int, over: int, left: int
) -> None:
    """After a minute, or as long as its bucket takes to fill; after an hour if it was held back.

    From a cache nobody takes it; there it makes room, and what has no bucket does not count.
    """
    remember(limited, "192.0.2.1", idle=idle, decision=rule, over_packets=over)
    drained = drain(limited, reader(limited))

    assert remembered(limited) == (1 if limited.loaded.blueprint.table == "cache" else left)
    assert drained.tables["ipv4"].entries == left
    assert drained.count(held_back=False) == (left if rule else 0)
    assert drained.tables["ipv4"].evicted == 0


@only("cache")
def test_a_source_that_is_over_its_limit_all_along_is_not_idle(limited: Limited) -> None:
    """However long ago its last packet was within the limit, one of which packets are dropped now is shown."""
    jiffies, _monotonic = limited.loaded.read_clock()
    remember(limited, "192.0.2.1", idle=7200, over_packets=1, last_over=jiffies)
    remember(limited, "192.0.2.2", idle=7200, over_packets=1)
    drained = drain(limited, reader(limited))
    assert [str(each.source) for each in drained.largest("packets", None)] == ["192.0.2.1/32"]


def test_no_more_sources_are_given_than_were_asked_for(limited: Limited) -> None:
    """The largest are those of both families together."""
    limited.start({"mode": "enforce", "rules": [RULE]})
    for count, layer in ((3, IPv4("192.0.2.1")), (2, IPv6("2001:db8::1")), (1, IPv4("192.0.2.2"))):
        limited.run(frame(layer, UDP()), count)
    drained = drain(limited, reader(limited))
    assert [int(each.value["packets"]) for each in drained.largest("packets", 2)] == [3, 2]
    assert [int(each.value["packets"]) for each in drained.largest("packets", None)] == [3, 2, 1]


@only("lru_hash")
def test_a_source_that_comes_back_meanwhile_is_not_forgotten(limited: Limited) -> None:
    """A packet after the table was read keeps it."""

    class Returning(FlowMap):
        def batches(self) -> Iterator[tuple[Records, Records]]:
            yield from super().batches()
            remember(limited, "192.0.2.1")

    remember(limited, "192.0.2.1", idle=100)
    sources = HashSources("ipv4", limited.loaded.maps, limited.table_counters, limited.size.sources)
    sources.map = Returning("limit_sources4", limited.loaded.maps["limit_sources4"], LIMIT4_KEY, LIMIT_SOURCE)
    sources.drain(clock(limited), RULES.get)

    assert remembered(limited) == 1


@pytest.mark.parametrize("source", ["192.0.2.1/32", "2001:db8::/64"])
def test_a_source_is_found_by_its_key(limited: Limited, source: str) -> None:
    """As the program has it, with what it was held back, among many others; one that was never seen is not there."""
    size = 100
    limited.start({"mode": "enforce", "rules": [RULE]})
    others = ["198.51.100.{}", "2001:db8:1:{}::"]
    layers = (IPv4, IPv6)
    for number in range(200):
        for kind, other in zip(layers, others, strict=True):
            limited.run(frame(kind(src=other.format(number)), UDP()))
    kind = layers[":" in source]
    packet = frame(kind(src=str(ip_network(source).network_address)), UDP()).ljust(size, b"\0")
    limited.run(packet, 15)

    reading = reader(limited)
    value = reading.get(source_key(ip_network(source), 0, 0))
    assert value is not None
    assert [int(value[name]) for name in ("packets", "bytes", "over_packets", "over_bytes")] == [10, 1000, 5, 500]
    assert 0 <= limited.loaded.read_clock()[0] - int(value["last_over"]) < 250
    assert reading.get(source_key(ip_network(source), 1, 0)) is None
    held = {
        str(each.source): int(each.value["over_bytes"]) for each in drain(limited, reading).largest("over_packets", 1)
    }
    assert held[source] == 500


@only("lru_hash")
def test_what_was_inserted_and_is_gone_was_evicted(limited: Limited) -> None:
    """What the reader forgot itself does not count, and the sum never goes down."""
    limited.switch(LIMITS)
    for last in range(5):
        limited.run(frame(IPv4(src=f"192.0.2.{last}"), UDP()))
    table = limited.sources_by_family["ipv4"]
    assert isinstance(table, HashEntries)
    keys = np.concatenate([keys.copy() for keys, _ in table.batches()])
    reading = reader(limited)
    assert drain(limited, reading).tables["ipv4"].evicted == 0

    table.take(keys[:3])  # as if the table had been full
    remember(limited, str(ip_network(keys[4]["addr"].tobytes()).network_address), idle=100)
    assert drain(limited, reading).tables["ipv4"].evicted == 3
    assert remembered(limited) == 1
    assert drain(limited, reading).tables["ipv4"].evicted == 3
    remember(limited, "192.0.2.9")
    assert drain(limited, reading).tables["ipv4"].evicted == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_packets_that_pass_for_want_of_a_place_are_shown(limited: Limited, family: Family) -> None:
    """Each family's table has every packet whose source found no place, whatever the reason, and no other count."""
    limited.start({})
    counters = CounterArray("table_counters", limited.loaded.maps["table_counters"])
    first = (len(FAMILIES) + FAMILIES.index(family)) * TABLE_COUNTERS
    for index in range(TABLE_COUNTERS):
        counters.write(first + index, np.array((10**index, 0), COUNTER))  # on each CPU
    tables = drain(limited, reader(limited)).tables

    assert {each: table.insert_errors for each, table in tables.items()} == {
        each: 1111 * possible_cpus() if each == family else 0 for each in FAMILIES
    }
    limited.reset()


def test_the_next_daemon_knows_the_drain_before(limited: Limited) -> None:
    """What was held back before the latest drain of a daemon that is gone is not held back now; what was since, is."""
    first = reader(limited)
    drained = drain(limited, first)
    assert drained.before == 0  # nobody drained before: whoever was held back was so since

    following = reader(limited)
    following.take_over(first.hand_over())

    assert drain(limited, following).before == drained.clock.now.jiffies


@only("cache")
@pytest.mark.parametrize(
    ("allow", "away"),
    [
        pytest.param([], [(1 << 31) + 10], id="limited"),
        pytest.param([], [(1 << 32) - 10], id="limited, for twice as long"),
        pytest.param(["10.0.0.0/8"], [1 << 29] * 5, id="allowed, while somebody drains"),
    ],
)
def test_sources_unused_for_so_long_that_stamps_wrap_go_first(
    clocked: Clocked, allow: list[str], away: list[int]
) -> None:
    """A drain tells them from those in use: sources that come then push out none but those of weeks ago."""
    clocked.start({"mode": "enforce", "rules": [RULE], "allow": allow})
    reading = reader(clocked)
    first, *others = neighbours(clocked, 2 * WAYS)
    for address in (first, *others[: WAYS - 1]):
        clocked.run(frame(IPv4(address), UDP()))
    for ticks in away:
        clocked.show(clocked.now + ticks * clocked.tick_ns)
        clocked.run(frame(IPv4(first), UDP()))
        reading.drain(WallClock(Reading(clocked.jiffies, clocked.now, clocked.now, 0), clocked.tick_ns), RULES.get, 64)
    for address in others[WAYS:]:
        clocked.show(clocked.now + clocked.tick_ns)
        clocked.run(frame(IPv4(address), UDP()))

    if not allow:  # of sources without a bucket, any that is unused for a while makes room
        assert {str(source.network_address) for source, *_ in clocked.sources()} == {first, *others[WAYS:]}
    assert clocked.table_counters.read_sources("ipv4").evicted_entries == 0


@only("cache")
@pytest.mark.parametrize(("ticks", "evicted"), [(0, 1), (1 << 20, 0)], ids=["in debt", "full again"])
def test_a_source_that_makes_room_was_evicted_unless_its_bucket_was_full(
    clocked: Clocked, ticks: int, evicted: int
) -> None:
    """Only those count as evicted, which an alarm is about, that lose something by it; the others have expired."""
    clocked.start({"mode": "enforce", "rules": [RULE]})
    crowd(clocked.loaded)
    *first, last = neighbours(clocked, WAYS + 1)
    for address in first:
        clocked.run(frame(IPv4(address), UDP()))
    clocked.show(clocked.now + ticks * clocked.tick_ns)
    clocked.run(frame(IPv4(last), UDP()))

    sums = clocked.table_counters.read_sources("ipv4")
    assert (sums.evicted_entries, sums.expired_entries) == (evicted, 1 - evicted)
    reading = reader(clocked)
    now = WallClock(Reading(clocked.jiffies, clocked.now, clocked.now, 0), clocked.tick_ns)
    assert reading.drain(now, RULES.get, 64).tables["ipv4"].evicted == evicted


def neighbours(limited: Limited, count: int) -> list[str]:
    """Return so many addresses whose slots share a set, each with a tag of its own: three of one tag evict early."""
    keys = np.zeros(1 << 18, LIMIT4_KEY)
    keys["addr"] = np.arange(10 << 24, (10 << 24) + len(keys), dtype=">u4").view("<u4")
    sets, tags = place(keys, Secrets(limited.loaded.maps).words(), 2 * limited.size.sources // WAYS)
    found = np.flatnonzero(sets == sets[0])
    _tags, first = np.unique(tags[found], return_index=True)
    assert len(first) >= count
    return [str(ip_address((10 << 24) + int(number))) for number in found[first[:count]]]
