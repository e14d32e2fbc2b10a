"""All records, and what is not recorded yet, are what the program has counted, whatever the flows do in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import pytest

from cnf.arrays import Records
from cnf.clock import WallClock, tick_ns
from cnf.config import Flows, Settings
from cnf.counts import Count
from cnf.datapath import build
from cnf.flows.drain import Tracker
from cnf.flows.finished import KINDS
from cnf.flows.pairs import ACK, SYN
from cnf.flows.records import REASONS
from cnf.flows.stream import RecordBatch, Stream, Whole
from cnf.kernel import ring as kernel_ring
from cnf.kernel.maps import CounterArray
from tests.bpf import kept
from tests.bpf.limited import CLOCKED, SIZE, TICK_NS, Clocked, ClockedBlueprint
from tests.bpf.packets import TCP, VLAN, IPv4, IPv6, frame
from tests.bpf.test_tracker import Loopback
from tests.bpf.traffic import LENGTH, Traffic, recorded_in

TABLE: Final = 32
LAYERS: Final = (IPv4(), IPv6())
IDLE, ENDED, ACTIVE = (seconds * tick_ns() / TICK_NS for seconds in (2.0, 0.5, 1.0))
"""Seconds of the test's clock, whose ticks are shorter or longer than this machine's."""
STEPS: Final = 30


class Ring:
    """The events, as the daemon reads them."""

    def __init__(self, loaded: build.Datapath, meanwhile: Callable[[], None]) -> None:
        """Read the ring of ``loaded``; once that is done, ``meanwhile`` happens."""
        self.ring = kernel_ring.Ring(loaded.maps["events"])
        self._lost = CounterArray("events_lost", loaded.maps["events_lost"])
        self.meanwhile = meanwhile

    def take_finishes(self) -> Records:
        """Return the events that have come."""
        events = self.ring.read().events
        self.meanwhile()
        return events

    def finishes_missed(self) -> int:
        """Return how many found the ring full."""
        return sum(self._lost.sum(kind).packets for kind in KINDS.values())


class Node:
    """A node, and all records that its daemons have made."""

    def __init__(self, clocked: Clocked) -> None:
        """Start a daemon."""
        self._clocked = clocked
        self.records: list[Records] = []
        self.lost = Count()
        self._document: dict[str, Any] = {}
        self._begin()

    def kill(self) -> None:
        """Have another daemon go on with the same maps, and what was handed over."""
        self.close()
        self._begin()

    def kill_in_a_drain(self) -> None:
        """Kill it when flows have been recorded and nobody has the records."""
        self._tracker.drain()
        self.kill()

    def leave(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Have it end in good order, and another one go on; in the last drain, ``meanwhile`` happens."""
        self._ring.meanwhile = meanwhile
        self._drain("active")
        self.kill()

    def close(self) -> None:
        """Let the ring go."""
        self._ring.ring.close()

    def active(self, _clock: WallClock) -> float:
        """Return when a flow that goes on is recorded."""
        return ACTIVE

    def put(self, batch: RecordBatch) -> None:
        """Keep the records."""
        self.records += batch.records.values()
        self.lost = self.lost.plus(batch.lost["ingress"])

    def apply(self, settings: Settings) -> None:
        """Do nothing."""

    def _begin(self) -> None:
        loaded = self._clocked.loaded
        self._ring = Ring(loaded, lambda: None)
        self._stream = Stream(self._ring)
        self._stream.sinks.append(self)
        settings = Flows(idle_timeout=IDLE, ended_timeout=ENDED)
        self._tracker = Tracker(loaded, Loopback(self._clocked), settings, self._stream)
        if self._document:
            self._tracker.take_over(self._document["tracker"])
            self._stream.take_over(self._document["stream"])

    def drain(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Drain once; between the events and the tables, ``meanwhile`` happens."""
        self._ring.meanwhile = meanwhile
        self._drain()
        self._ring.meanwhile = lambda: None

    def stop(self) -> None:
        """Record all flows."""
        self._drain("stopped")

    def _drain(self, whole: Whole = None) -> None:
        self._tracker.drain(whole)
        self._document = {"tracker": self._tracker.hand_over(), "stream": self._stream.hand_over()}
        self._stream.send()


FORMS: Final[Mapping[str, dict[str, Any]]] = {
    "events": {"table": "cache", "flow_records": True, "finished_events": True},
    "no_events": {"table": "cache", "flow_records": True},
    "lru_hash": {"table": "lru_hash", "flow_records": True},
}


@pytest.fixture(params=FORMS)
def clocked(request: pytest.FixtureRequest) -> Iterator[Clocked]:
    """Load a program with small tables, and a clock that the test sets."""
    clocked = Clocked(kept.load(ClockedBlueprint(TABLE, limiter=SIZE, source=CLOCKED, **FORMS[request.param])))
    yield clocked
    clocked.loaded.close()


def stop_and_count(node: Node, traffic: Traffic) -> None:
    """Have all flows recorded: each packet is in a record, or is told to be lost."""
    node.stop()
    node.close()
    recorded = recorded_in(node.records)
    assert recorded <= traffic.sent
    lost = traffic.sent.total() - recorded.total()
    assert node.lost == Count(lost, LENGTH * lost)


@pytest.mark.parametrize("seed", range(3))
def test_records_and_what_is_lost_are_what_was_sent(clocked: Clocked, seed: int) -> None:
    """Flows that idle, end, go on, are evicted, or come and go between two drains; daemons that are killed."""
    rng = np.random.default_rng(seed)
    node, traffic = Node(clocked), Traffic(clocked, rng, *LAYERS)
    for step in range(STEPS):
        ports = 8 * TABLE if step % 10 > 5 else TABLE
        traffic.send(ports, 40)
        if rng.random() < 0.2:
            clocked.show(clocked.now + int(rng.integers(4)) * 10**9)
        if rng.random() < 0.6:
            node.drain(partial(traffic.send, ports, 10))
        if rng.random() < 0.1:
            (node.kill, node.kill_in_a_drain, partial(node.leave, partial(traffic.send, ports, 10)))[rng.integers(3)]()
    node.drain()
    traffic.send(TABLE, 40)
    stop_and_count(node, traffic)
    told = clocked.loaded.blueprint.finished_events
    reasons = {REASONS[number] for records in node.records for number in records["reason"].tolist()}
    assert reasons == {"idle", "ended", "active", "stopped"} | ({"evicted"} if told else set())


def test_flows_that_make_room_while_a_daemon_leaves_are_recorded_once(clocked: Clocked) -> None:
    """What was recorded of a flow is there for its event, which the next daemon reads; no successor hides it."""
    node, traffic = Node(clocked), Traffic(clocked, np.random.default_rng(1), *LAYERS)
    traffic.send(TABLE, 400)
    node.leave()
    node.leave(partial(traffic.send, 40 * TABLE, 400))
    node.drain()
    stop_and_count(node, traffic)


def test_a_part_has_its_flags_and_what_stands_before_the_ip_header(clocked: Clocked) -> None:
    """Of a flow in an LRU hash, each part has the flags of the whole flow."""
    node = Node(clocked)

    def send(flags: str, packets: int) -> None:
        clocked.run(frame(VLAN(5), IPv4(), TCP(src_port=9, flags=flags), pad_to=LENGTH), packets)

    send("S", 3)
    clocked.show(clocked.now + 1_500_000_000)
    node.drain()
    send("A", 2)
    node.stop()
    node.close()

    fields = ["reason", "packets", "tcp_flags", "link_bytes"]
    parts = [part for records in node.records for part in records[fields].tolist()]
    whole = clocked.loaded.blueprint.table == "lru_hash"
    active, stopped = REASONS.index("active"), REASONS.index("stopped")
    assert parts == [(active, 3, SYN, 14 + 4), (stopped, 2, SYN | ACK if whole else ACK, 14 + 4)]
