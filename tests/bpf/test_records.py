"""All records, and what is not recorded yet, are what the program has counted, whatever the flows do in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import FLOW_RECORDED, Family
from cnf.arrays import Records
from cnf.clock import Reading, WallClock
from cnf.config import Flows
from cnf.datapath.cache import MappedArray
from cnf.datapath.counters import TableCounters
from cnf.flows.fields import tcp_flags
from cnf.flows.flow_cache import CacheTable
from cnf.flows.recorder import Recorder
from cnf.flows.records import REASONS
from cnf.flows.stream import Due
from cnf.kernel.ring import Ring
from tests.bpf import kept
from tests.bpf.limited import CLOCKED, SIZE, TICK_NS, Clocked, ClockedBlueprint
from tests.bpf.packets import TCP, UDP, VLAN, IPv4, IPv6, frame
from tests.bpf.traffic import LENGTH, Traffic, recorded_in

TABLE: Final = 32
LAYERS: Final[dict[Family, IPv4 | IPv6]] = {"ipv4": IPv4(), "ipv6": IPv6()}
IDLE, ENDED, ACTIVE = 2.0, 0.5, 1.0
STEPS: Final = 30


@pytest.fixture
def clocked() -> Iterator[Clocked]:
    """Load a program with small tables, and a clock that the test sets, that tells of flows which go."""
    blueprint = ClockedBlueprint(TABLE, "cache", limiter=SIZE, flow_records=True, finished_events=True, source=CLOCKED)
    clocked = Clocked(kept.load(blueprint))
    yield clocked
    clocked.loaded.close()


class Node:
    """The table of one family as the daemon has it, and all records that it has made."""

    def __init__(self, clocked: Clocked, family: Family) -> None:
        """Start a daemon."""
        self._clocked, self._family = clocked, family
        self.records: list[Records] = []
        self._begin()

    def restart(self) -> None:
        """Have another daemon go on with the same maps, and nothing else."""
        self.close()
        self._begin()

    def close(self) -> None:
        """Let the ring go."""
        self._ring.close()

    def _begin(self) -> None:
        maps = self._clocked.loaded.maps
        settings = Flows(idle_timeout=IDLE, ended_timeout=ENDED)
        self._table = CacheTable(self._family, maps, TableCounters(maps), TABLE, settings)
        self._ring = Ring(maps["events"])

    def apply(self, idle: float) -> None:
        """Let flows expire after ``idle`` seconds from now on."""
        self._table.apply(Flows(idle_timeout=idle, ended_timeout=ENDED))

    def drain(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Drain once; between the events and the tables, ``meanwhile`` happens."""
        now = self._clocked
        clock = WallClock(Reading(now.jiffies, now.now, now.now, now.now), TICK_NS)
        self._table.begin(clock, Due(self._ring.read().events, ACTIVE))
        meanwhile()
        self.live = self._table.drain(clock).flows
        self.records.append(self._table.end(clock))

    def unrecorded(self) -> Counter[int]:
        """Return the packets of live flows that no record has."""
        name = f"flow_recorded{self._family[-1]}"
        elements = MappedArray(name, self._clocked.loaded.maps[name], FLOW_RECORDED)
        noted = elements.at(np.arange(elements.size))
        cache = self._clocked.tables[self._family]
        slots = cache.writable()["slots"].reshape(-1)  # type: ignore[union-attr]
        total: Counter[int] = Counter()
        for slot, element in zip(slots, noted, strict=True):
            before = element["packets"] if element["first_seen"] == slot["first_seen"] else 0
            total[int(slot["key"]["src_port"])] += int(slot["packets"]) - int(before)
        return total


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", LAYERS)
def test_records_and_what_is_open_are_what_was_sent(clocked: Clocked, family: Family, seed: int) -> None:
    """Flows that idle, end, go on, are evicted, or come and go between two drains; daemons that are killed."""
    rng = np.random.default_rng(seed)
    node, traffic = Node(clocked, family), Traffic(clocked, rng, LAYERS[family])
    for step in range(STEPS):
        ports = 4 * TABLE if step % 10 > 5 else TABLE
        traffic.send(ports, 20)
        if rng.random() < 0.2:
            clocked.show(clocked.now + int(rng.integers(4)) * 10**9)
        if rng.random() < 0.6:
            node.drain(partial(traffic.send, ports, 10))
        if rng.random() < 0.1:
            node.restart()
    node.drain()
    node.close()
    assert +(recorded_in(node.records) + node.unrecorded()) == traffic.sent
    reasons = {REASONS[number] for records in node.records for number in records["reason"].tolist()}
    assert reasons == {"idle", "ended", "active", "evicted"}


def test_flags_are_those_of_the_part(clocked: Clocked) -> None:
    """A record has the flags of the packets that it counts, and of no earlier ones; the flow keeps all."""
    node, layer = Node(clocked, "ipv4"), IPv4()

    def send(*flags: str) -> None:
        for each in flags:
            clocked.run(frame(layer, TCP(src_port=5, flags=each), pad_to=LENGTH))

    def part() -> str:
        clocked.show(clocked.now + 2 * 10**9)
        node.drain()
        (record,) = node.records[-1]
        return tcp_flags(int(record["tcp_flags"]))

    send("S", "A")
    assert part() == "SA"
    send("A")
    assert part() == "A"
    send("PA", "A")
    assert part() == "AP"
    assert tcp_flags(int(node.live.tcp_flags[0])) == "SAP"
    send("FA")
    clocked.show(clocked.now + int(0.4 * 10**9))
    assert part() == "AF"
    node.close()


def test_flags_that_come_while_a_part_is_recorded_are_of_the_next(
    clocked: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As their packets are."""
    node, take = Node(clocked, "ipv4"), Recorder.take
    coming = ["P", "F"]

    def send(flags: str) -> None:
        clocked.run(frame(IPv4(), TCP(src_port=5, flags=flags), pad_to=LENGTH))

    def take_late(self: Recorder, *copied: Any) -> None:  # noqa: ANN401 - what take() takes
        if coming:
            send(coming.pop(0))
        take(self, *copied)

    send("A")
    monkeypatch.setattr(Recorder, "take", take_late)
    for _ in range(3):
        clocked.show(clocked.now + 2 * 10**9)
        node.drain()
    node.close()
    parts = [(int(row["packets"]), tcp_flags(int(row["tcp_flags"]))) for made in node.records for row in made]
    assert parts == [(1, "A"), (1, "P"), (1, "F")]


def test_a_shorter_timeout_loses_no_flow(clocked: Clocked) -> None:
    """One that had expired at the latest drain by the new timeout only is not in its records: an event tells of it."""
    node, packet = Node(clocked, "ipv4"), frame(IPv4(), UDP(src_port=5), pad_to=LENGTH)
    clocked.run(packet, 3)
    clocked.show(clocked.now + round(IDLE / 2 * 10**9))
    node.drain()
    node.apply(IDLE / 4)
    clocked.run(packet, 2)
    clocked.show(clocked.now + round(IDLE * 10**9))
    node.drain()
    node.close()
    assert [(int(row["packets"]), REASONS[row["reason"]]) for made in node.records for row in made] == [
        (3, "idle"),
        (2, "idle"),
    ]


LINKS: Final = {"plain": (), "one tag": (5,), "two tags": (5, 6), "a priority tag": (0,), "priority tags": (0, 0, 0, 5)}


@pytest.mark.parametrize("tags", LINKS.values(), ids=LINKS)
@pytest.mark.parametrize("family", LAYERS)
def test_what_stands_before_the_ip_header_is_known(clocked: Clocked, family: Family, tags: tuple[int, ...]) -> None:
    """So that a collector can be told the bytes of layer 3."""
    node = Node(clocked, family)
    clocked.run(frame(*map(VLAN, tags), LAYERS[family], UDP(src_port=7), pad_to=LENGTH), 3)
    clocked.show(clocked.now + 2 * 10**9)
    node.drain()
    node.close()

    (record,) = node.records[-1]
    assert (record["packets"], record["bytes"], record["link_bytes"]) == (3, 3 * LENGTH, 14 + 4 * len(tags))


def test_drops_are_of_flows_that_are_there(clocked: Clocked) -> None:
    """A flow that has expired has been recorded, and has no more of them; all that a flow had are in records."""
    node, packet = Node(clocked, "ipv4"), frame(IPv4(), UDP(src_port=9), pad_to=LENGTH)
    clocked.run(packet, 3)
    clocked.switch({"mode": "enforce", "deny": ["0.0.0.0/0"]})
    clocked.run(packet, 2)
    clocked.show(clocked.now + round((IDLE + 1) * 10**9))
    clocked.run(packet, 5)
    node.drain()
    clocked.run(packet, 5)
    clocked.show(clocked.now + 10**9)
    node.drain()
    node.close()

    made = [(int(row["packets"]), int(row["dropped_packets"])) for records in node.records for row in records]
    assert made == [(3, 2)]
    assert clocked.dropped()["denied"].packets == 2 + 5 + 5
