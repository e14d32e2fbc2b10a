"""The flow table counts exactly: when it overflows, while it is read and emptied, and from several CPUs at once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import pytest

from cnf.abi import FLOW_FRAGMENT
from cnf.counts import Count
from tests.bpf.compare import XDP_PASS
from tests.bpf.conftest import SMALL_TABLE, Datapath, only
from tests.bpf.forms import FORMS
from tests.bpf.packets import TCP, UDP, VLAN, Fragment, IPv4, IPv6, Layer, frame
from tests.bpf.reference import OPENED
from tests.bpf.sender import SIZE, Sender, numbered
from tests.bpf.tables import HashEntries

ROUNDS: Final = 1000
PACKETS: Final = 3


def on_every_cpu(work: Callable[[], None]) -> int:
    """Run ``work`` on every CPU at once, and return on how many."""
    cpus = sorted(os.sched_getaffinity(0))
    together = threading.Barrier(len(cpus))

    def pinned(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread
        together.wait(timeout=30)
        work()

    with ThreadPoolExecutor(len(cpus)) as pool:
        for done in [pool.submit(pinned, cpu) for cpu in cpus]:
            done.result()
    return len(cpus)


def test_ten_times_more_flows_than_the_table_holds(small_datapath: Datapath) -> None:
    """Every packet passes and is counted, no insert fails, and what is there is at most what the table can hold."""
    count = 10 * SMALL_TABLE

    assert {small_datapath.run(numbered(number)) for number in range(count)} == {XDP_PASS}
    assert small_datapath.received() == {"udp": (count, count * SIZE)}
    assert small_datapath.inserted() == count
    assert small_datapath.insert_errors() == {}
    values = list(small_datapath.flows().values())
    room = small_datapath.tables["ipv4"].room(SMALL_TABLE)
    assert room // 2 < len(values) <= room
    assert {value.packets for value in values} == {1}


def test_a_full_table_keeps_counting_the_flows_that_it_has(small_datapath: Datapath) -> None:
    """A flow that is used while others flood the table is not the one that is let go."""
    steady = frame(IPv4(), TCP())
    for number in range(2 * SMALL_TABLE):
        small_datapath.run(numbered(number))
        small_datapath.run(steady)

    assert max(value.packets for value in small_datapath.flows().values()) == 2 * SMALL_TABLE


@only("lru_hash")
def test_flows_come_and_go_while_the_table_is_read(small_datapath: Datapath) -> None:
    """A thousand walks end, none meets a key twice, and what was taken and what is left add up to what was sent."""
    table = small_datapath.tables["ipv4"]
    assert isinstance(table, HashEntries)
    steady = frame(IPv4(), TCP())
    taken: Counter[str] = Counter()
    with Sender(small_datapath, PACKETS, ahead=SMALL_TABLE // 4, steady=steady) as sender:
        rounds = 0
        while rounds < ROUNDS or taken["flows"] < ROUNDS:
            rounds += 1
            batches = [(keys.copy(), values.copy()) for keys, values in table.batches()]
            met = [key for keys, _values in batches for key in keys.tolist()]
            assert len(met) == len(set(met))
            for keys, values in batches:
                ended = keys[(values["packets"] == PACKETS) & (keys["protocol"] == UDP.protocol)]
                gone, _found, error = table.take(ended)
                assert error is None
                assert len(gone) == len(ended)
                taken.update(flows=len(gone), packets=int(gone["packets"].sum()), bytes=int(gone["bytes"].sum()))
                sender.seen_off(len(gone))

    left = small_datapath.flows().values()
    packets, octets = sender.sent * (PACKETS + 1), sender.sent * (PACKETS * SIZE + len(steady))
    assert small_datapath.inserted() == taken["flows"] + len(left) == sender.sent + 1
    assert taken["packets"] + sum(value.packets for value in left) == packets
    assert taken["bytes"] + sum(value.bytes for value in left) == octets
    assert sum(count for count, _ in small_datapath.received().values()) == packets


@pytest.mark.parametrize(
    "flow",
    [
        frame(IPv4(), UDP()),
        frame(VLAN(7), IPv4(), TCP(flags="S")),
        frame(IPv4(offset=10), b"later fragment"),
        frame(IPv6(), UDP()),
        frame(VLAN(7), IPv6(), Fragment(offset=10), b"later fragment"),
    ],
    ids=["IPv4", "IPv4 in VLAN", "IPv4 fragment", "IPv6", "IPv6 fragment in VLAN"],
)
def test_what_ran_before_leaves_no_trace_in_a_key(datapath: Datapath, flow: bytes) -> None:
    """On a stack that other packets have left dirty, a flow is one entry, and every byte of padding is zero."""
    forms = [form.frame for form in FORMS if form.frame != flow]
    for before in forms:
        datapath.run(before)
        datapath.run(flow)

    assert max(value.packets for value in datapath.flows().values()) >= len(forms)
    for table in datapath.tables.values():
        for keys, _values in table.batches():
            assert not keys["zero"].any()
            assert not (keys["flags"] & ~np.uint8(FLOW_FRAGMENT)).any()


@pytest.mark.parametrize(
    ("flags", "opened"), [("S SA A", OPENED), ("SW A", OPENED), ("SA A", 0), ("A S", 0), ("F S", 0)]
)
@pytest.mark.parametrize("ip", [IPv4(), IPv6()], ids=["IPv4", "IPv6"])
def test_a_flow_that_began_with_a_syn_has_opened_its_connection(
    datapath: Datapath, ip: Layer, flags: str, opened: int
) -> None:
    """Only a SYN without ACK, and only as the first packet, marks a flow as the one that opened the connection."""
    for each in flags.split():
        datapath.run(frame(ip, TCP(flags=each)))

    (value,) = datapath.flows().values()
    assert value.tcp_flags & OPENED == opened


def test_one_flow_on_all_cpus_at_once_is_counted_exactly(datapath: Datapath) -> None:
    """No count is lost when CPUs add to the same entry, and no flag."""
    repeat = 2_000_000  # long enough for the CPUs to be at it together
    packet = frame(IPv4(), TCP(flags="SA"))
    datapath.run(packet)  # the flow is there, so that no CPU has to wait for another to make it
    sent = 1 + repeat * on_every_cpu(lambda: (datapath.run(packet, repeat), None)[1])

    (value,) = datapath.flows().values()
    assert (value.packets, value.bytes, value.tcp_flags) == (sent, sent * len(packet), 0x12)
    assert datapath.received() == {"tcp": (sent, sent * len(packet))}


def test_new_flows_that_meet_on_all_cpus_are_made_once(datapath: Datapath) -> None:
    """When CPUs see the first packets of a flow together, one makes it and the others add to it.

    But for those for which it is not there in time, which are errors, and rare.
    """
    flows = 2000

    def send() -> None:
        for number in range(flows):
            datapath.run(numbered(number))

    cpus = on_every_cpu(send)

    packets = [value.packets for value in datapath.flows().values()]
    busy = datapath.insert_errors().get("busy", Count()).packets
    assert busy <= flows // 100
    assert (len(packets), max(packets), sum(packets)) == (flows, cpus, cpus * flows - busy)
    assert datapath.inserted() == flows
    assert datapath.insert_errors().keys() <= {"busy"}
