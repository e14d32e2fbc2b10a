"""Evicted flows are told of whole: their events are what the table's counters have booked as evicted."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Final

import numpy as np
import pytest

from cnf.abi import EVENT_KINDS, Family
from cnf.arrays import Records
from cnf.clock import Reading, WallClock, tick_ns
from cnf.config import Flows
from cnf.counts import count_of
from cnf.datapath.blueprint import Blueprint
from cnf.datapath.cache import FlowSettings
from cnf.flows.finished import finished_flows
from cnf.flows.flow_cache import CacheTable
from cnf.kernel.maps import CounterArray
from cnf.kernel.ring import Ring
from tests.bpf import kept
from tests.bpf.conftest import Datapath
from tests.bpf.limited import CLOCKED, FLOWS, Clocked, ClockedBlueprint
from tests.bpf.limited import SIZE as LIMITER
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.bpf.tables import CacheFlows
from tests.bpf.test_cache_slots import IDLE, Slots

TABLE: Final = 512
SIZE: Final = 100
NEVER_OVER: Final = Flows(idle_timeout=1e6, ended_timeout=1e6)
LAYERS: Final[dict[Family, IPv4 | IPv6]] = {"ipv4": IPv4(), "ipv6": IPv6()}


@pytest.fixture
def datapath() -> Iterator[Datapath]:
    """Load a program whose small tables tell what they evict, and in which nothing expires."""
    loaded = kept.load(Blueprint(TABLE, "cache", finished_events=True))
    FlowSettings(loaded.maps).write(1 << 40, 1 << 40)
    yield Datapath(loaded)
    loaded.close()


def packet(family: Family, number: int) -> bytes:
    """Return a packet of a flow told apart by its source port."""
    return frame(LAYERS[family], UDP(src_port=number), pad_to=SIZE)


def live_flows(datapath: Datapath, family: Family) -> Counter[int]:
    """Return the packets of the flows that are in the table, by source port."""
    maps = datapath.loaded.maps
    clock = WallClock(Reading(*datapath.loaded.read_clock(), 0, 0), tick_ns())
    flows = CacheTable(family, maps, datapath.table_counters, TABLE, NEVER_OVER).drain(clock).flows
    return Counter(dict(zip(flows.src_port.tolist(), flows.packets.tolist(), strict=True)))


@pytest.mark.parametrize("family", LAYERS)
def test_each_evicted_flow_is_told_with_all_that_it_counted(datapath: Datapath, family: Family) -> None:
    """Flows of the table and evicted ones together are those that were sent, each with its own counts."""
    ring = Ring(datapath.loaded.maps["events"])
    sent = {number: 1 + number % 5 for number in range(4 * TABLE)}
    for number in Counter(sent).elements():
        datapath.run(packet(family, number))

    stretch = ring.read()
    ring.close()
    (flows, _finish), rows = finished_flows(stretch.events, family, "evicted")
    found = Counter(dict(zip(flows.src_port.tolist(), flows.packets.tolist(), strict=True)))
    assert len(rows) == len(stretch.events) == len(found)
    assert (flows.bytes == flows.packets * np.uint64(SIZE)).all()
    assert (flows.first_seen <= flows.last_seen).all()
    assert (flows.last_seen <= stretch.events["jiffies"][rows]).all()
    live = live_flows(datapath, family)
    assert not live.keys() & found.keys()
    assert found + live == Counter(sent)
    sums = datapath.table_counters.read(family)
    assert (sums.evicted_entries, sums.evicted) == (len(flows), count_of(flows.packets, flows.bytes))


@pytest.fixture(scope="module")
def telling() -> Iterator[Clocked]:
    """Load a program with limits, and with clocks that a test sets, that tells what it evicts."""
    blueprint = ClockedBlueprint(FLOWS, "cache", limiter=LIMITER, finished_events=True, source=CLOCKED)
    clocked = Clocked(kept.load(blueprint))
    yield clocked
    clocked.loaded.close()


@pytest.mark.parametrize("family", LAYERS)
def test_an_evicted_flow_is_told_of_as_it_was(telling: Clocked, family: Family) -> None:
    """Its key, counts, drops, flags and both times are its own; one that expires is told of if no drain knows it."""
    slots = Slots(telling, family)
    ring = Ring(telling.loaded.maps["events"])
    *eight, ninth, tenth, eleventh = slots.neighbours(11)
    started = telling.jiffies
    FlowSettings(telling.loaded.maps).note_drain(0)
    for number in eight:
        slots.send(number)
        slots.tick(1)
    for number in eight:
        slots.send(number, 4)
        slots.tick(1)
    telling.switch({"mode": "enforce", "deny": ["0.0.0.0/0", "::/0"]})
    slots.send(eight[0], 3)
    telling.switch({})
    slots.send(eight[7])
    table = telling.tables[family]
    assert isinstance(table, CacheFlows)
    table.writable()["slots"]["tcp_flags"] |= np.uint64(0x1A)
    ring.read()

    slots.send(ninth)
    (event,) = ring.read().events
    taken = table.writable()["slots"].reshape(-1)[event["slot"]]["key"]["src_addr"].tobytes()
    slots.tick(IDLE + 1)
    slots.send(tenth)
    (expired,) = ring.read().events
    FlowSettings(telling.loaded.maps).note_drain(telling.jiffies)
    slots.send(eleventh)
    assert len(ring.read().events) == 0
    ring.close()

    assert EVENT_KINDS[expired["kind"]] == "flow_expired"
    assert EVENT_KINDS[event["kind"]] == "flow_evicted"
    assert taken[-4:] == ninth.to_bytes(4, "big")
    assert event["jiffies"] == started + 16
    assert event["key"].tobytes()[: 4 if family == "ipv4" else 16][-4:] == eight[0].to_bytes(4, "big")
    assert event["value"].tolist() == (5, 5 * slots.size, started, started + 8, 0x1A, 3, 3 * slots.size)


def test_on_every_cpu_at_once_events_are_what_was_booked(datapath: Datapath) -> None:
    """While every CPU makes flows that push each other out, events and lost ones are exactly what was evicted."""
    ring = Ring(datapath.loaded.maps["events"])
    lost = CounterArray("events_lost", datapath.loaded.maps["events_lost"])
    cpus, families = sorted(os.sched_getaffinity(0)), tuple(LAYERS)
    packets = [packet(family, number) for number in range(3 * TABLE) for family in families]
    together, end = Barrier(len(cpus)), time.monotonic() + 3

    def send(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        together.wait(timeout=30)
        while time.monotonic() < end:
            for each in packets:
                datapath.run(each)

    found: list[Records] = []
    with ThreadPoolExecutor(len(cpus)) as pool:
        sending: list[Future[None]] = [pool.submit(send, cpu) for cpu in cpus]
        while not all(each.done() for each in sending):
            found.append(ring.read().events)
            time.sleep(0.01)
        for each in sending:
            each.result()
    found.append(ring.read().events)
    ring.close()
    events = np.concatenate(found)

    # On a busy machine the ring may be full for a moment: nobody knows of which family what is lost then was.
    missing = lost.sum(EVENT_KINDS.index("flow_evicted")).packets
    told = 0
    for family in families:
        (flows, _finish), _rows = finished_flows(events, family, "evicted")
        sums = datapath.table_counters.read(family)
        assert len(flows) > TABLE
        assert missing or sums.evicted == count_of(flows.packets, flows.bytes)
        told += sums.evicted_entries - len(flows)
    assert told == missing
