"""A drain of the real tables leaves a snapshot in which every packet stands somewhere, and lets go what has ended."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
import pytest

from cnf.abi import INTERFACE_COUNTERS
from cnf.arrays import Records
from cnf.config import Flows
from cnf.counts import Count
from cnf.datapath.cache import MappedArray
from cnf.errors import MapError
from cnf.flows.columns import FlowColumns
from cnf.flows.drain import TABLES, Tracker
from cnf.flows.flow_cache import CacheTable
from cnf.flows.flow_hash import SLACK, HashTable
from cnf.flows.snapshot import Snapshot
from cnf.kernel.maps import FlowMap, Taken
from tests.bpf.conftest import LOOPBACK, SMALL_TABLE, Datapath, only
from tests.bpf.forms import FORMS
from tests.bpf.packets import TCP, UDP, IPv4, IPv6, frame
from tests.bpf.sender import SIZE, Sender, numbered

DRAINS: Final = 300
DEADLINE: Final = 10.0
NOTHING: Final = Count()
TICK_NS: Final = 10_000_000  # the longest


class Loopback:
    """As much of Interfaces as a tracker needs: one interface, on which the test runs come in."""

    def __init__(self, datapath: Datapath) -> None:
        """Show what ``datapath`` counts."""
        self.names = {LOOPBACK: "lo"}
        self.incomplete = False
        self.altnames: Mapping[int, tuple[str, ...]] = {}
        self.departed = np.zeros((), INTERFACE_COUNTERS)
        self._datapath = datapath

    def all_totals(self) -> tuple[Mapping[str, Records], Records]:
        """Return the counters by name, and what departed interfaces had counted."""
        return {"lo": self._datapath.counters()}, self.departed


def tracker(datapath: Datapath, idle: float = 3600, ended: float = 3600) -> Tracker:
    """Return a tracker that lets flows go after ``idle`` seconds, or ``ended`` after FIN or RST."""
    return Tracker(datapath.loaded, Loopback(datapath), Flows(idle_timeout=idle, ended_timeout=ended))


def drain_until(tracker: Tracker, done: Callable[[Snapshot], bool]) -> Snapshot:
    """Drain again and again until ``done``, and return that snapshot."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        snapshot = tracker.drain()
        if done(snapshot):
            return snapshot
    message = f"not done after {DEADLINE} s of drains"
    raise TimeoutError(message)


def live(snapshot: Snapshot) -> Count:
    """Add up the flows of a snapshot."""
    return Count(
        sum(int(flows.packets.sum()) for flows in snapshot.flows.values()),
        sum(int(flows.bytes.sum()) for flows in snapshot.flows.values()),
    )


def test_every_form_of_packet_stands_somewhere(datapath: Datapath) -> None:
    """Over all forms of packets, at rest, the states of the ledger add up to what was received."""
    for form in FORMS:
        datapath.run(form.frame)
    snapshot = tracker(datapath).drain()
    states = snapshot.ledgers["ingress"].states

    assert snapshot.ledgers["ingress"].difference == NOTHING
    assert snapshot.ledgers["ingress"].seen == Count(len(FORMS), sum(len(form.frame) for form in FORMS))
    assert states["live"] == live(snapshot)
    assert states["non_ip"].packets == sum(form.label == "non_ip" for form in FORMS)
    assert states["malformed"].packets == sum(form.reason is not None for form in FORMS)
    assert states["expired"] == states["evicted"] == states["insert_error"] == states["dropped"] == NOTHING
    assert sum(table.created for table in snapshot.tables.values()) == len({form.key for form in FORMS} - {None})


def test_flows_stand_in_the_columns_of_their_family(datapath: Datapath) -> None:
    """Addresses, ports and counts come out of the kernel's tables as they went in."""
    datapath.run(frame(IPv4(src="10.1.2.3"), UDP(src_port=1, dst_port=65535)), 3)
    datapath.run(frame(IPv6(src="2001:db8::7"), TCP(src_port=2, dst_port=443, flags="SAF")))
    snapshot = tracker(datapath).drain()
    ipv4, ipv6 = snapshot.flows["ipv4"], snapshot.flows["ipv6"]

    assert (ipv4.src_addr[0].tobytes(), ipv6.src_addr[0].tobytes()) == (
        bytes((10, 1, 2, 3)),
        bytes.fromhex("20010db8000000000000000000000007"),
    )
    assert _row(ipv4, "src_port", "dst_port", "protocol", "packets", "ifindex") == [1, 65535, 17, 3, LOOPBACK]
    assert _row(ipv6, "src_port", "dst_port", "protocol", "packets", "tcp_flags") == [2, 443, 6, 1, 0x13]
    assert {name: table.entries for name, table in snapshot.tables.items()} == {"ipv4": 1, "ipv6": 1}


def test_times_are_those_at_which_the_packets_came(datapath: Datapath) -> None:
    """First and last seen are wall-clock times between which the packets were sent."""
    follower = tracker(datapath)
    before = time.time_ns()
    datapath.run(numbered(0))
    snapshot = follower.drain()
    flows = snapshot.flows["ipv4"]
    times = np.concatenate([snapshot.clock.wall_ns(flows.first_seen), snapshot.clock.wall_ns(flows.last_seen)])

    assert ((before - 2 * TICK_NS <= times) & (times <= time.time_ns() + TICK_NS)).all()


def test_rates_are_of_the_time_between_two_drains(datapath: Datapath) -> None:
    """A flow's rate times the seconds since the drain before is what came in them."""
    follower = tracker(datapath)
    datapath.run(numbered(0), 1000)
    first = follower.drain()
    datapath.run(numbered(0), 500)
    datapath.run(numbered(1), 20)
    second = follower.drain()
    datapath.run(numbered(1), 70)
    third = follower.drain()

    assert first.flows["ipv4"].packet_rate.tolist() == [0]
    for earlier, later, counts in ((first, second, [20, 500]), (second, third, [0, 70])):
        rates = later.flows["ipv4"].packet_rate * _seconds(earlier, later)
        assert sorted(rates.tolist()) == pytest.approx(counts, rel=1e-5)


def test_what_departed_interfaces_received_stands_in_the_ledger(datapath: Datapath) -> None:
    """An interface whose name is forgotten is missing in no sum."""
    datapath.run(numbered(0), 3)
    interfaces = Loopback(datapath)
    interfaces.departed["packets"][0], interfaces.departed["bytes"][0] = 4, 400
    ledger = Tracker(datapath.loaded, interfaces, Flows()).drain().ledgers["ingress"]

    assert ledger.seen == Count(7, 3 * SIZE + 400)
    assert ledger.difference == Count(4, 400)


@only("lru_hash")
def test_what_a_broken_off_deletion_has_taken_is_kept(datapath: Datapath, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain whose deletions the kernel refuses half-way fails; the next one's sums are those of all flows."""
    take = FlowMap.take

    def refused(table: FlowMap, keys: Records) -> Taken:
        return take(table, keys[:2])._replace(error=MapError("deleting from map flows4", errno=errno.ENOMEM))

    follower = tracker(datapath, idle=0)
    for number in range(5):
        datapath.run(numbered(number), 3)
    wait_a_tick(datapath)
    monkeypatch.setattr(FlowMap, "take", refused)
    with pytest.raises(MapError):
        follower.drain()
    assert len(datapath.flows()) == 3
    monkeypatch.undo()
    snapshot = follower.drain()

    assert datapath.flows() == {}
    assert snapshot.tables["ipv4"].expired == 5
    assert snapshot.ledgers["ingress"].states["expired"] == Count(15, 15 * SIZE)
    assert snapshot.ledgers["ingress"].difference == NOTHING


@only("lru_hash")
def test_a_flow_that_is_evicted_before_it_is_deleted_has_not_expired(
    datapath: Datapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the flows that were found idle, those count as expired that were still there to be taken."""
    take = FlowMap.take

    def too_late(table: FlowMap, keys: Records) -> Taken:
        take(table, keys[:2])  # as if the table had been full
        return take(table, keys)

    follower = tracker(datapath, idle=0)
    for number in range(5):
        datapath.run(numbered(number))
    wait_a_tick(datapath)
    monkeypatch.setattr(FlowMap, "take", too_late)
    first = follower.drain()
    second = follower.drain()

    assert first.tables["ipv4"].expired == second.tables["ipv4"].expired == 3
    assert second.tables["ipv4"].evicted == 2
    assert second.ledgers["ingress"].states["evicted"] == Count(2, 2 * SIZE)


@only("lru_hash")
def test_a_walk_that_meets_more_than_there_is_room_for(datapath: Datapath, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often flows come and go while the table is read, each stands there once."""
    batches = FlowMap.batches
    rounds = 1 + (65536 + SLACK) // 1000

    def again(table: FlowMap) -> Iterator[tuple[Records, Records]]:
        for _ in range(rounds):
            yield from batches(table)

    for number in range(1000):
        datapath.run(numbered(number))
    monkeypatch.setattr(FlowMap, "batches", again)
    snapshot = tracker(datapath).drain()

    assert np.unique(snapshot.flows["ipv4"].src_addr).size == len(snapshot.flows["ipv4"]) == 1000
    assert snapshot.ledgers["ingress"].difference == NOTHING
    assert snapshot.tables["ipv4"].evicted == 0


def wait_a_tick(datapath: Datapath) -> None:
    """Return in a later tick than that of the flows that are there."""
    jiffies, _monotonic = datapath.loaded.read_clock()
    while datapath.loaded.read_clock()[0] < jiffies + 2:
        time.sleep(0.001)


def refuse_ipv6(datapath: Datapath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel refuse to read the IPv6 table."""
    owner, method = (MappedArray, "window") if datapath.loaded.blueprint.table == "cache" else (FlowMap, "batches")
    whole = getattr(owner, method)

    def refused(table: MappedArray | FlowMap, *arguments: int) -> object:
        if table.name == "flows6":
            message = "reading map flows6: Cannot allocate memory"
            raise MapError(message, errno=errno.ENOMEM)
        return whole(table, *arguments)

    monkeypatch.setattr(owner, method, refused)


def test_a_drain_that_fails_loses_nothing(datapath: Datapath, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a drain that the kernel refused half-way, the next one's rates and ledger are those of all that came."""
    follower = tracker(datapath)
    datapath.run(numbered(0))
    datapath.run(frame(IPv6(), UDP()))
    first = follower.drain()
    assert first.flows["ipv4"].packet_rate.tolist() == first.flows["ipv4"].byte_rate.tolist() == [0.0]
    datapath.run(numbered(0), 100)
    refuse_ipv6(datapath, monkeypatch)
    with pytest.raises(MapError):
        follower.drain()
    monkeypatch.undo()
    datapath.run(numbered(0), 50)
    second = follower.drain()

    assert second.flows["ipv4"].packet_rate[0] * _seconds(first, second) == pytest.approx(150, rel=1e-5)
    assert second.ledgers["ingress"].states["live"].packets == 152
    assert second.ledgers["ingress"].difference == NOTHING


@only("cache")
def test_a_table_without_any_flow_yet_is_not_read(datapath: Datapath, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the program has put a flow into it, there is nothing to look for."""
    follower = tracker(datapath)
    refuse_ipv6(datapath, monkeypatch)
    datapath.run(numbered(0))
    snapshot = follower.drain()

    assert (len(snapshot.flows["ipv4"]), len(snapshot.flows["ipv6"])) == (1, 0)
    assert snapshot.ledgers["ingress"].difference == NOTHING
    datapath.run(frame(IPv6(), UDP()))
    with pytest.raises(MapError):
        follower.drain()


def test_an_idle_flow_expires_and_its_counts_are_kept(datapath: Datapath) -> None:
    """What an idle flow has counted moves from live to expired; when it comes back it is a new flow."""
    follower = tracker(datapath, idle=0.02)
    datapath.run(numbered(0), 5)
    expired = drain_until(follower, lambda snapshot: snapshot.tables["ipv4"].expired == 1)
    datapath.run(numbered(0), 2)
    follower.apply(Flows())
    again = follower.drain()

    assert expired.ledgers["ingress"].states["expired"] == Count(5, 5 * SIZE)
    assert (expired.ledgers["ingress"].states["live"], expired.tables["ipv4"].entries) == (NOTHING, 0)
    assert len(datapath.flows()) == 1
    assert again.ledgers["ingress"].states["live"] == Count(2, 2 * SIZE)
    assert (again.tables["ipv4"].created, again.tables["ipv4"].evicted) == (2, 0)
    assert expired.ledgers["ingress"].difference == again.ledgers["ingress"].difference == NOTHING


def test_tcp_flows_end_with_fin_or_rst(datapath: Datapath) -> None:
    """A flow that has shown FIN or RST is let go soon after its last packet, any other only when idle for long."""
    for port, flags in ((1, "SA"), (2, "FA"), (3, "R"), (4, "A")):
        datapath.run(frame(IPv4(), TCP(src_port=port, flags=flags)))
        datapath.run(frame(IPv6(), TCP(src_port=port, flags=flags)))
    follower = tracker(datapath, idle=3600, ended=0.02)
    snapshot = drain_until(follower, lambda snapshot: all(table.expired == 2 for table in snapshot.tables.values()))

    assert [sorted(flows.src_port.tolist()) for flows in snapshot.flows.values()] == [[1, 4], [1, 4]]
    assert snapshot.ledgers["ingress"].states["expired"].packets == 4
    assert snapshot.ledgers["ingress"].difference == NOTHING


def test_a_flow_that_goes_on_is_not_let_go(datapath: Datapath) -> None:
    """Packets keep a flow alive beyond the time after which another, silent one, has expired."""
    follower = tracker(datapath, idle=0.5)
    datapath.run(numbered(1))

    def silent_expired(snapshot: Snapshot) -> bool:
        datapath.run(numbered(0))
        return snapshot.tables["ipv4"].expired > 0

    table = drain_until(follower, silent_expired).tables["ipv4"]

    assert (table.created, table.expired, table.entries) == (2, 1, 1)


def test_a_snapshot_is_not_changed_by_the_next_drain(datapath: Datapath) -> None:
    """Whoever reads an earlier snapshot sees what was there then."""
    follower = tracker(datapath, idle=0.02)
    for number in range(10):
        datapath.run(numbered(number))
    snapshot = follower.drain()
    copy = snapshot.flows["ipv4"].records.tobytes()
    datapath.run(numbered(3))
    drain_until(follower, lambda later: later.tables["ipv4"].expired == 10)

    assert snapshot.tables["ipv4"].entries == len(snapshot.flows["ipv4"]) == 10
    assert snapshot.flows["ipv4"].records.tobytes() == copy


def test_evicted_flows_are_counted_and_their_packets_too(small_datapath: Datapath) -> None:
    """What a full table let go is known exactly: inserted less present, and in packets and bytes what is missing."""
    follower = tracker(small_datapath)
    count = 10 * SMALL_TABLE
    for number in range(count):
        small_datapath.run(numbered(number))
    snapshot = follower.drain()
    table = snapshot.tables["ipv4"]

    assert (table.created, table.expired, table.made_for) == (count, 0, SMALL_TABLE)
    assert 0 < table.entries <= table.capacity == small_datapath.tables["ipv4"].room(SMALL_TABLE)
    assert table.evicted == count - table.entries
    assert snapshot.ledgers["ingress"].states["evicted"] == Count(table.evicted, table.evicted * SIZE)
    assert snapshot.ledgers["ingress"].difference == NOTHING
    assert snapshot.tables["ipv6"].evicted == 0


def test_flows_that_come_back_while_a_table_is_read_expire_once(
    datapath: Datapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been read as expired, and is sent again before the drain ends, counts no second time."""
    flows, idle = 10, 0.2
    follower = tracker(datapath, idle=idle)
    kind = TABLES[datapath.loaded.blueprint.table]
    walk = vars(kind)["_walk"]

    def send() -> None:
        for number in range(flows):
            datapath.run(numbered(number))

    def disturbed(table: CacheTable | HashTable, *arguments: object) -> object:
        found = walk(table, *arguments)
        if table.family == "ipv4":
            send()
        return found

    send()
    time.sleep(1.5 * idle)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "_walk", disturbed)
        follower.drain()
    snapshot = follower.drain()
    table = snapshot.tables["ipv4"]

    assert table.expired >= flows
    assert table.created == table.expired + table.entries
    assert snapshot.ledgers["ingress"].seen == Count(2 * flows, 2 * flows * SIZE)
    assert snapshot.ledgers["ingress"].difference == NOTHING


def test_flows_come_and_expire_while_the_tables_are_drained(small_datapath: Datapath) -> None:
    """Drains under traffic never invent an eviction, and at rest created flows and received packets are all there.

    In a cache chance makes a set evict now and then, of a thousand flows less than two.
    """
    follower = tracker(small_datapath, idle=0.02)
    by_chance = 0.002 if small_datapath.loaded.blueprint.table == "cache" else 0
    expired = 0
    with Sender(small_datapath, packets=2, ahead=SMALL_TABLE // 4) as sender:
        drains = 0
        while drains < DRAINS or expired < DRAINS:
            table = follower.drain().tables["ipv4"]
            assert table.evicted <= by_chance * table.created
            gone = table.expired + table.evicted
            sender.seen_off(gone - expired)
            expired = gone
            drains += 1
    snapshot = follower.drain()
    table = snapshot.tables["ipv4"]

    assert table.created == table.entries + table.expired + table.evicted
    assert table.created >= sender.sent  # more, where a thread that waited for its CPU let a flow expire half-way
    assert snapshot.ledgers["ingress"].seen == Count(2 * sender.sent, 2 * sender.sent * SIZE)
    assert snapshot.ledgers["ingress"].difference == NOTHING


def _seconds(first: Snapshot, second: Snapshot) -> float:
    """Return the time between two drains; rates take it as a millisecond at least."""
    return max((second.clock.now.monotonic - first.clock.now.monotonic) / 1e9, 1e-3)


def _row(flows: FlowColumns, *names: str) -> list[int]:
    assert len(flows) == 1
    return [int(getattr(flows, name)[0]) for name in names]
