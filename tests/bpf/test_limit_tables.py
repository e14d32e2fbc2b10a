"""What the limiter remembers: a table of sources that is full, and a program without one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from cnf.abi import FAMILIES
from cnf.datapath.blueprint import Table
from tests.bpf.compare import XDP_PASS
from tests.bpf.conftest import Datapath
from tests.bpf.forms import FORMS
from tests.bpf.limited import SIZE, XDP_DROP, Limited, load
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.bpf.sender import numbered

CAPACITY: Final = 512
LIMITS: Final[dict[str, Any]] = {
    "mode": "enforce",
    "rules": [{"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 3}],
}


A_TICK: Final = 64
"""Sources that come within a tick: fewer than a set has slots, as those of one tick are of the same age."""


def next_tick(limited: Limited) -> None:
    """Wait until jiffies have gone on: on a virtual machine they may stand still for many of our packets."""
    jiffies, _now = limited.loaded.read_clock()
    while limited.loaded.read_clock()[0] == jiffies:
        pass


@pytest.fixture(scope="module", params=[True, False], ids=["IPv6", "no IPv6"])
def small(request: pytest.FixtureRequest, table: Table) -> Iterator[Limited]:
    """Load the program with tables of sources that are soon full, with IPv6 and without."""
    limited = load(table, replace(SIZE, sources=CAPACITY), ipv6=request.param)
    yield limited
    limited.loaded.close()


def test_more_sources_than_the_table_holds(small: Limited) -> None:
    """The longest unused are let go, which shows; a new source has its whole burst, and one in use keeps its bucket."""
    small.start(LIMITS)
    steady, count = frame(IPv4(src="192.0.2.1"), UDP()), 20 * CAPACITY
    for number in range(count):
        if number % A_TICK == 0:
            next_tick(small)
        assert small.run(numbered(number)) == XDP_PASS
        small.run(steady)
    sums, sources = small.table_counters.read_sources("ipv4"), small.sources()

    assert sums.inserted == count + 1
    assert 0 < len(sources) <= small.sources_by_family["ipv4"].room(CAPACITY)
    assert not any(errors.packets for errors in sums.errors.values())
    assert max(int(value["packets"] + value["over_packets"]) for _, _, value in sources) == count
    fresh = numbered(count)
    assert [small.run(fresh) for _ in range(5)] == [XDP_PASS] * 3 + [XDP_DROP] * 2


@pytest.mark.parametrize("packet", [frame(IPv4(), UDP()), frame(IPv6(), UDP())], ids=FAMILIES)
def test_what_is_dropped_is_counted_with_its_flow(limited: Limited, packet: bytes) -> None:
    """Packets and bytes, beside those that passed."""
    limited.run(packet, 2)
    limited.switch({"mode": "enforce", "deny": ["0.0.0.0/0", "::/0"]})
    limited.run(packet, 3)
    ((_, values),) = (batch for table in limited.tables.values() for batch in table.batches())
    names = ("packets", "bytes", "dropped_packets", "dropped_bytes")
    assert [int(values[name][0]) for name in names] == [2, 2 * len(packet), 3, 3 * len(packet)]


def test_limiter_without_ipv6_leaves_it_alone(small: Limited) -> None:
    """IPv6 that is not parsed is not limited, and has no tables."""
    small.start(LIMITS)
    passed = [small.run(frame(IPv6(), UDP())) for _ in range(5)].count(XDP_PASS)
    ipv6 = "limit_sources6" in small.loaded.maps

    assert passed == (3 if ipv6 else 5)
    assert ("limit_prefixes6" in small.loaded.maps) == ipv6
    assert [small.run(frame(IPv4(), UDP())) for _ in range(5)].count(XDP_PASS) == 3


def test_program_without_limits_has_none(datapath: Datapath) -> None:
    """It has no maps for them, and drops nothing of whatever form."""
    assert not [name for name in datapath.loaded.maps if name.startswith("limit")]
    assert {datapath.run(form.frame) for form in FORMS} == {XDP_PASS}
    assert not datapath.counters()["dropped_packets"].any()


def test_before_the_first_rules_every_packet_passes(table: Table) -> None:
    """A limiter that has been given no rules yet holds nothing back, and remembers nobody."""
    limited = load(table)
    try:
        assert {limited.run(form.frame) for form in FORMS} == {XDP_PASS}
        assert not [key for table in limited.sources_by_family.values() for key, _ in table.batches()]
    finally:
        limited.loaded.close()
