"""The ring of events, read while the program writes: in order, each once, and what found no room counted."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from threading import Barrier
from typing import Final

import numpy as np
import pytest

from cnf.abi import EVENT, EVENT_KINDS, FAMILIES
from cnf.arrays import Records
from cnf.datapath import blueprint, build
from cnf.datapath.blueprint import CLOCK
from cnf.kernel import libbpf
from cnf.kernel.hooks import XDP
from cnf.kernel.maps import CounterArray
from cnf.kernel.ring import STRIDE, Ring
from tests.bpf import kept
from tests.bpf.limited import SIZE, Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.bpf.pinned import Flood
from tests.net.wait import wait_for

ALL_CPUS: Final = os.sched_getaffinity(0)
RING_BYTES: Final = 64 << 10
ROOM: Final = RING_BYTES // STRIDE - 1
"""The kernel leaves at least a byte free."""
EVICTED: Final = EVENT_KINDS.index("flow_evicted")
DISCARDED, SLOW = 100, 101
"""Those of telling.c."""


class Blueprint(blueprint.Blueprint):
    """That of telling.c, with a map more, and a ring that is soon full."""

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps."""
        return (*super().maps, "test_told")

    @property
    def ring_bytes(self) -> int:
        """Return the size of the ring."""
        return RING_BYTES


class Teller:
    """A program that tells of what it is given, and the ring that it tells it by."""

    def __init__(self, loaded: build.Datapath) -> None:
        """Map the ring."""
        self.fd = loaded.maps["events"]
        self.ring = Ring(self.fd)
        self._program = loaded.programs["test_tell"]
        self._lost = CounterArray("events_lost", loaded.maps["events_lost"])

    def tell(self, kind: int, times: int = 1, *, family: int = 0, key: int = 0) -> None:
        """Tell ``times`` times, without a break."""
        event = np.zeros((), EVENT)
        event["kind"], event["family"], event["jiffies"], event["key"] = kind, family, 4711, key
        event["value"]["tcp_flags"] = 0x1B
        verdict, _frame, _duration = libbpf.run(self._program, event.tobytes(), times)
        assert verdict == 2

    def lost(self) -> int:
        """Return how many evicted flows found no room."""
        return self._lost.sum(EVICTED).packets


@pytest.fixture(scope="module")
def loaded() -> Iterator[build.Datapath]:
    """Load telling.c once."""
    source = Path(__file__).with_name("telling.c")
    others = {CLOCK: XDP.program_type, "test_tell": XDP.program_type}
    datapath = kept.load(Blueprint(64, finished_events=True, source=source, others=others))
    yield datapath
    datapath.close()


@pytest.fixture
def teller(loaded: build.Datapath) -> Iterator[Teller]:
    """Give each test an empty ring, and a CPU of its own: each CPU numbers what it tells."""
    teller = Teller(loaded)
    teller.ring.read()
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    yield teller
    os.sched_setaffinity(0, cpus)
    teller.ring.close()


@pytest.fixture(scope="module")
def limited() -> Iterator[Limited]:
    """Load a program with a limiter once; which kind of table it has makes no difference to its events."""
    limited = Limited(kept.load(blueprint.Blueprint(64, "lru_hash", limiter=SIZE)))
    yield limited
    limited.loaded.close()


def numbers(events: Records) -> list[int]:
    """Return the number that the program gave each evicted flow."""
    return [int(number) for number in events["value"]["packets"]]


def test_an_event_arrives_as_it_was_told(teller: Teller) -> None:
    """Every field is the program's."""
    teller.tell(EVICTED, family=FAMILIES.index("ipv6"), key=0x0123456789ABCDEF)

    (event,) = teller.ring.read().events

    assert (event["kind"], event["family"], event["jiffies"]) == (EVICTED, FAMILIES.index("ipv6"), 4711)
    assert event["key"].tolist() == [0x0123456789ABCDEF] * 6
    assert event["value"]["tcp_flags"] == 0x1B
    assert event["value"]["dropped_bytes"] == 0


def test_stretches_follow_each_other_around_the_ring(teller: Teller) -> None:
    """Over many turns of the ring every event arrives once, in order, and numbered without a gap."""
    first, _ = teller.ring.read()
    found: list[int] = []
    for turn in range(40):
        count = (100 + 11 * turn) % ROOM
        teller.tell(EVICTED, count)
        stretch = teller.ring.read()
        assert (stretch.first, len(stretch.events)) == (first, count)
        first += count
        found += numbers(stretch.events)
    assert len(found) > 10 * ROOM
    assert found == [*range(found[0], found[0] + len(found))]


def test_what_finds_the_ring_full_is_counted(teller: Teller) -> None:
    """The ring holds all but one of its places; each event more is lost, and when there is room again, none is."""
    before = teller.lost()
    teller.tell(EVICTED, ROOM)
    assert teller.lost() == before
    teller.tell(EVICTED, 100)
    assert teller.lost() == before + 100

    found = numbers(teller.ring.read().events)
    assert found == [*range(found[0], found[0] + ROOM)]
    teller.tell(EVICTED, ROOM)
    assert len(teller.ring.read().events) == ROOM
    assert teller.lost() == before + 100


def test_what_was_given_back_is_no_event(teller: Teller) -> None:
    """A record that the program reserved and discarded is left out."""
    for kind in (EVICTED, DISCARDED, DISCARDED, EVICTED, DISCARDED):
        teller.tell(kind)
    first, second = numbers(teller.ring.read().events)
    assert second == first + 1
    assert not len(teller.ring.read().events)


def test_the_next_reader_goes_on_where_one_has_stopped(teller: Teller) -> None:
    """What a reader has not read is there for the one that comes after it, with its numbers."""
    teller.tell(EVICTED, 3)
    before = teller.ring.read()
    teller.tell(EVICTED, 5)

    after = Ring(teller.fd)
    stretch = after.read()
    after.close()

    assert stretch.first == before.first + 3
    assert numbers(stretch.events) == [numbers(before.events)[-1] + number for number in range(1, 6)]
    assert not len(teller.ring.read().events)


def test_the_descriptor_is_readable_while_there_are_events(teller: Teller) -> None:
    """Whoever waits is woken by the first event, and waits again once all have been read."""
    poll = select.poll()
    poll.register(teller.ring, select.POLLIN)
    assert poll.poll(0) == []
    with ThreadPoolExecutor(1) as pool:
        woken = pool.submit(poll.poll, 10_000)
        teller.tell(EVICTED)
        assert woken.result() == [(teller.fd, select.POLLIN)]
    assert poll.poll(0) != []
    teller.ring.read()
    assert poll.poll(0) == []


def test_an_event_that_is_being_written_is_waited_for(teller: Teller) -> None:
    """While the program is at it, the event is not there; then it is, whole."""
    os.sched_setaffinity(0, ALL_CPUS - {min(ALL_CPUS)})
    poll = select.poll()
    poll.register(teller.ring, select.POLLIN)
    found: list[int] = []
    told = waited = 0

    def caught_at_it() -> bool:
        nonlocal told, waited
        told += 20
        telling = pool.submit(teller.tell, SLOW, 20)
        while not telling.done():
            written = poll.poll(0) != []
            events = teller.ring.read().events
            waited += written and not len(events)
            found.extend(events["key"][:, 0].tolist())
        telling.result()
        found.extend(teller.ring.read().events["key"][:, 0].tolist())
        return bool(waited)

    # On a busy machine the two may be run by turns for a while.
    with ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, {min(ALL_CPUS)})) as pool:
        wait_for(caught_at_it, "a look at the ring while the program is at an event")
    assert found == [*range(found[0], found[0] + told)]


@pytest.mark.parametrize("repeat", [ROOM // len(ALL_CPUS), 10 * ROOM], ids=["all have room", "more than there is room"])
def test_events_of_all_cpus_while_they_are_read(teller: Teller, repeat: int) -> None:
    """Of what every CPU tells at once, each event arrives once, whole and in order, or is counted as lost."""
    os.sched_setaffinity(0, ALL_CPUS)
    rounds, before = 30, teller.lost()
    together = Barrier(len(ALL_CPUS))

    def tell(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        together.wait(timeout=30)
        teller.tell(EVICTED, repeat)

    found: list[Records] = []
    with ThreadPoolExecutor(len(ALL_CPUS)) as pool:
        for _round in range(rounds):
            telling = [pool.submit(tell, cpu) for cpu in ALL_CPUS]
            while not all(each.done() for each in telling):
                found.append(teller.ring.read().events)
            for each in telling:
                each.result()
            found.append(teller.ring.read().events)
    events = np.concatenate(found)
    lost = teller.lost() - before

    assert len(events) + lost == len(ALL_CPUS) * rounds * repeat
    assert bool(lost) == (repeat > ROOM)
    assert set(events["jiffies"].tolist()) == {4711}
    for cpu in ALL_CPUS:
        told = events["value"]["packets"][events["value"]["bytes"] == cpu].astype(np.int64)
        assert lost or len(told) == rounds * repeat
        assert (np.diff(told) > 0).all()


@pytest.mark.parametrize("source", ["192.0.2.1", "2001:db8::1"])
def test_a_first_drop_is_told_once(limited: Limited, source: str) -> None:
    """When every CPU drops a source's packets, there is one event of its first drop, and one of the rule set."""
    ring = Ring(limited.loaded.maps["events"])
    ring.read()
    rule = {"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 1}
    limited.start({"mode": "enforce", "rules": [rule]})
    generation = limited.maps.generation
    packet = frame(IPv6(source) if ":" in source else IPv4(source), UDP(), pad_to=100)

    with Flood(limited, [packet]):
        wait_for(lambda: limited.packets().get("r", {}).get("limited"), "a packet that is dropped")
    told, drop = ring.read().events
    ring.close()

    assert (EVENT_KINDS[told["kind"]], int(told["key"][0])) == ("rule_generation", generation)
    assert (EVENT_KINDS[drop["kind"]], FAMILIES[drop["family"]]) == ("first_drop", "ipv6" if ":" in source else "ipv4")
    assert drop["key"][:2].tobytes() == ip_address(source).packed.ljust(16, b"\0")
    assert drop["key"][3] == limited.ifindex
