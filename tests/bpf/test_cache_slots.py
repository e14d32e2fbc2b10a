"""A slot of a cache: when its flow is over, who gets it next, and what is booked of the one before."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from cnf.abi import FAMILIES, WAYS, Family
from cnf.clock import Reading, WallClock
from cnf.config import Flows
from cnf.counts import Count
from cnf.datapath.cache import FlowSettings, Secrets, Words
from cnf.datapath.counters import TableSums
from cnf.flows.flow_cache import CacheTable
from tests.bpf.changing import FRAMES, numbered
from tests.bpf.conftest import only
from tests.bpf.limited import FLOWS, Clocked
from tests.bpf.packets import TCP, IPv4, IPv6, frame
from tests.bpf.placement import keys_of, place
from tests.bpf.tables import CacheFlows, crowd

pytestmark = [only("cache"), pytest.mark.parametrize("family", FAMILIES)]

IDLE, ENDED = 100, 10
"""Ticks."""
SETS: Final = 2 * FLOWS // WAYS
NOTHING: Final = Count()
NONE_IS_OVER: Final = Flows(idle_timeout=1e6, ended_timeout=1e6)


class Slots:
    """The cache of one family, with a clock that the test sets."""

    def __init__(self, clocked: Clocked, family: Family) -> None:
        """Begin with an empty one."""
        clocked.start({})
        crowd(clocked.loaded)
        self._clocked, self._family = clocked, family
        self.settings(IDLE, ENDED)
        self.size = len(FRAMES[family])

    def settings(self, idle: int, ended: int) -> None:
        """Have flows be over after so many ticks."""
        FlowSettings(self._clocked.loaded.maps).write(idle, ended)

    def tick(self, ticks: int) -> None:
        """Let the clock go on, or back."""
        self._clocked.show(self._clocked.now + ticks * self._clocked.tick_ns)

    def send(self, number: int, packets: int = 1) -> int:
        """Send packets of a flow; return the verdict."""
        at = 26 if self._family == "ipv4" else 34
        whole = FRAMES[self._family]
        return self._clocked.run(whole[:at] + number.to_bytes(4, "big") + whole[at + 4 :], packets)

    def send_tcp(self, flags: str) -> None:
        """Send one TCP packet."""
        self._clocked.run(frame(IPv4() if self._family == "ipv4" else IPv6(), TCP(flags=flags)))

    @property
    def counted(self) -> list[int]:
        """Return the packets of each flow that is there, in ascending order."""
        return sorted(value.packets for value in self._clocked.flows().values())

    @property
    def sums(self) -> TableSums:
        """Return what the table has counted."""
        return self._clocked.table_counters.read(self._family)

    def neighbours(self, count: int, *, same_tag: bool = False) -> list[int]:
        """Return so many flows that share a set, and a tag if ``same_tag``, or else have tags of their own."""
        sets, tags = self._places(1 << 20)
        found = np.flatnonzero(sets == sets[0])
        of_tag, first, flows_each = np.unique(tags[found], return_index=True, return_counts=True)
        found = found[tags[found] == of_tag[flows_each.argmax()]] if same_tag else found[first]
        assert len(found) >= count
        return [int(number) for number in found[:count]]

    def others(self, count: int) -> list[int]:
        """Return so many flows of sets of their own, and not of the neighbours'."""
        sets, _tags = self._places(1 << 10)
        _of_set, first = np.unique(sets, return_index=True)
        return [int(number) for number in first if sets[number] != sets[0]][:count]

    def _places(self, flows: int) -> tuple[Words, Words]:
        """Return set and tag of the flows from 0 on."""
        secrets = Secrets(self._clocked.loaded.maps).words()
        numbers = numbered(np.arange(flows))
        numbers["src_port"], numbers["dst_port"] = 40000, 53
        return place(keys_of(self._family, numbers), secrets, SETS)


@pytest.fixture
def slots(clocked: Clocked, family: Family) -> Slots:
    """Give each test an empty cache."""
    return Slots(clocked, family)


@pytest.mark.parametrize(("flags", "after"), [("SA", IDLE), ("FA", ENDED), ("R", ENDED)])
def test_flow_that_is_over_starts_anew(slots: Slots, flags: str, after: int) -> None:
    """It goes on for as long as the settings say since its last packet, and a tick later is another one."""
    slots.send_tcp(flags)
    slots.tick(after)
    slots.send_tcp("A")
    assert (slots.counted, slots.sums.inserted) == ([2], 1)
    slots.tick(after + 1)
    slots.send_tcp("A")
    slots.tick(ENDED + 1)
    slots.send_tcp("A")

    size = len(frame(IPv4(), TCP())) + 20 * (slots.size != len(FRAMES["ipv4"]))
    assert (slots.counted, slots.sums.inserted) == ([2], 2)
    assert (slots.sums.expired, slots.sums.expired_entries) == (Count(2, 2 * size), 1)
    assert (slots.sums.evicted, slots.sums.evicted_entries) == (NOTHING, 0)


def test_flow_that_has_ended_is_over_when_it_is_idle(slots: Slots) -> None:
    """Where flows that have ended are kept for longer than idle ones, that keeps none any longer."""
    slots.settings(idle=ENDED, ended=IDLE)
    slots.send_tcp("FA")
    slots.tick(ENDED)
    slots.send_tcp("FA")
    assert (slots.counted, slots.sums.inserted) == ([2], 1)
    slots.tick(ENDED + 1)
    slots.send_tcp("FA")
    assert (slots.counted, slots.sums.inserted, slots.sums.expired_entries) == ([1], 2, 1)


def test_clock_that_is_behind_ends_no_flow(slots: Slots) -> None:
    """A CPU that is behind another by a tick, or as long as a flow may be idle, goes on with it; so does the other."""
    slots.send(1)
    for ticks in (-1, 1, -1, 2, -IDLE, IDLE):
        slots.tick(ticks)
        slots.send(1)
    assert slots.counted == [7]
    assert slots.sums.inserted == 1
    assert slots.sums.expired == slots.sums.evicted == NOTHING


def test_clock_that_is_behind_knows_the_oldest(slots: Slots) -> None:
    """A flow that another CPU, a tick ahead, has just seen is not the one to make room."""
    *eight, ninth = slots.neighbours(WAYS + 1)
    for number in eight:
        slots.send(number)
    slots.tick(1)
    slots.send(eight[WAYS // 2], 99)
    slots.tick(-1)
    slots.send(ninth)
    assert slots.counted == [*[1] * (WAYS - 1), 100]
    assert slots.sums.evicted == Count(1, slots.size)
    assert slots.sums.expired == NOTHING


@pytest.mark.parametrize(("ticks", "over"), [(1, False), (IDLE, False), (IDLE + 1, True)])
def test_longest_unused_makes_room(slots: Slots, ticks: int, *, over: bool) -> None:
    """The ninth flow of a set takes the place of the one whose last packet is oldest, as evicted or as expired."""
    *eight, ninth = slots.neighbours(WAYS + 1)
    for packets, number in enumerate(eight, start=2):
        slots.send(number, packets)
        slots.tick(1)
    slots.send(eight[0], 98)  # the oldest no more: 100 packets, and next is the one of 3
    slots.tick(ticks - WAYS + 1)
    slots.send(ninth)

    booked = (Count(3, 3 * slots.size), 1)
    assert slots.counted == [1, *range(4, 10), 100]
    assert ((slots.sums.expired, slots.sums.expired_entries) == booked) == over
    assert ((slots.sums.evicted, slots.sums.evicted_entries) == booked) != over
    assert slots.sums.inserted == WAYS + 1


def test_third_flow_of_a_tag_takes_the_place_of_another(slots: Slots) -> None:
    """Flows that nothing but their keys tells apart are kept apart; a third is not looked for, so it is not kept."""
    first, second, third = slots.neighbours(3, same_tag=True)
    for packets, number in ((2, first), (3, second), (4, first), (5, second)):
        slots.send(number, packets)
    assert (slots.counted, slots.sums.inserted) == ([6, 8], 2)
    slots.send(third, 20)
    assert slots.sums.inserted == 3
    assert slots.sums.evicted_entries == 1
    assert slots.counted in ([6, 20], [8, 20])


def test_bucket_that_is_claimed_costs_a_flow_its_count(slots: Slots, clocked: Clocked, family: Family) -> None:
    """Where another CPU does not let go of a set, a new flow is counted as busy, and those that are there go on."""
    table = clocked.tables[family]
    assert isinstance(table, CacheFlows)
    known, new = slots.neighbours(2)
    slots.send(known)
    sequences = table.writable()["head"]["sequence"]
    sequences += 1
    slots.send(known, 5)
    slots.send(new, 3)
    sequences += 1
    slots.send(new, 2)

    assert slots.counted == [2, 6]
    assert slots.sums.errors["busy"] == Count(3, 3 * slots.size)
    assert slots.sums.inserted == 2


def test_drops_are_those_of_the_flow_that_has_the_slot(slots: Slots, clocked: Clocked, family: Family) -> None:
    """What was dropped of a flow goes with it, and the next in its slot begins with nothing."""
    slots.send(1)
    limits = {"mode": "enforce", "deny": ["0.0.0.0/0", "::/0"]}
    clocked.switch(limits)
    slots.send(1, 4)
    ((_, values),) = clocked.tables[family].batches()
    assert [int(values[name][0]) for name in ("packets", "dropped_packets", "dropped_bytes")] == [1, 4, 4 * slots.size]
    clocked.switch({})
    slots.tick(IDLE + 1)
    slots.send(1)
    clocked.switch(limits)
    slots.send(1, 2)
    ((_, values),) = clocked.tables[family].batches()
    assert [int(values[name][0]) for name in ("packets", "dropped_packets", "dropped_bytes")] == [1, 2, 2 * slots.size]


@pytest.mark.parametrize("away", [(1 << 31) + 10, (1 << 32) - 10, 3 << 31], ids=["2^31", "2^32", "3 * 2^31"])
def test_slots_unused_for_so_long_that_stamps_wrap_go_first(
    slots: Slots, clocked: Clocked, family: Family, away: int
) -> None:
    """A drain tells them from new ones: flows that come then push out none but those that have been over for weeks."""
    old, new = np.split(np.array(slots.neighbours(2 * WAYS)), 2)
    for number in old.tolist():
        slots.send(number)
    slots.tick(away)
    slots.send(int(old[0]))  # a new flow in its old slot, which is nobody's to take
    table = CacheTable(family, clocked.loaded.maps, clocked.table_counters, FLOWS, NONE_IS_OVER)
    table.drain(WallClock(Reading(clocked.jiffies, clocked.now, clocked.now, 0), clocked.tick_ns))
    for packets, number in enumerate(new.tolist()[1:], start=2):
        slots.tick(1)
        slots.send(number, packets)

    assert slots.counted == [1, *range(2, WAYS + 1)]
    assert slots.sums.expired_entries == WAYS
    assert slots.sums.evicted_entries == 0
