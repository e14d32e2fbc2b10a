"""Each interface has a counter slot of its own, found by the program where user space put it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from cnf.abi import PROTOCOL_LABELS
from cnf.config import MAX_INTERFACES
from cnf.datapath.blueprint import PLACES_AN_INTERFACE
from cnf.datapath.counters import UNASSIGNED, InterfaceCounters
from cnf.errors import AttachError
from tests.bpf.conftest import LOOPBACK, Datapath
from tests.bpf.packets import ARP, UDP, IPv4, frame

FRAME: Final = frame(IPv4(), UDP())
UDP_LABEL: Final = PROTOCOL_LABELS.index("udp")
PLACES: Final = PLACES_AN_INTERFACE * MAX_INTERFACES
NEIGHBOURS: Final = tuple(LOOPBACK + turn * PLACES for turn in range(1, 6))
"""Interfaces whose numbers have the lowest bits of the loopback interface's."""
BOND: Final = 9


@pytest.fixture
def counters(datapath: Datapath) -> Iterator[InterfaceCounters]:
    """Give a test the map with every slot free."""
    datapath.interfaces.release(LOOPBACK)
    counters = InterfaceCounters(datapath.loaded.maps)
    yield counters
    left = InterfaceCounters(datapath.loaded.maps)
    for ifindex in left.assigned():
        left.release(ifindex)
    datapath.interfaces.assign(LOOPBACK)


def packets(counters: InterfaceCounters) -> dict[int, int]:
    """Return the packets of each interface."""
    return {ifindex: int(total["packets"].sum()) for ifindex, total in counters.read().items()}


def test_an_interface_counts_in_its_slot(datapath: Datapath, counters: InterfaceCounters) -> None:
    """Packets and bytes stand under their protocol, with nothing in the slots of others."""
    for ifindex in (LOOPBACK, 2, 300):
        counters.assign(ifindex)
    datapath.run(FRAME, 5)
    datapath.run(frame(ARP()))
    total = counters.read()[LOOPBACK]

    assert (int(total["packets"][UDP_LABEL]), int(total["bytes"][UDP_LABEL])) == (5, 5 * len(FRAME))
    assert {ifindex: count for ifindex, count in packets(counters).items() if ifindex != UNASSIGNED} == {
        LOOPBACK: 6,
        2: 0,
        300: 0,
    }


def test_any_number_has_a_slot(datapath: Datapath, counters: InterfaceCounters) -> None:
    """Interfaces whose numbers have the lowest bits in common have a slot each, and the program finds the right one."""
    for ifindex in NEIGHBOURS:
        counters.assign(ifindex)
    counters.assign(LOOPBACK)
    datapath.run(FRAME, 3)

    assert {ifindex: count for ifindex, count in packets(counters).items() if count and ifindex != UNASSIGNED} == {
        LOOPBACK: 3
    }
    for ifindex in NEIGHBOURS:  # one after the other goes, the one that the array finds among them
        counters.release(ifindex)
        datapath.run(FRAME)
    assert packets(counters)[LOOPBACK] == 3 + len(NEIGHBOURS)


def test_an_interface_beyond_the_room_is_refused(datapath: Datapath, counters: InterfaceCounters) -> None:
    """As many interfaces as max_interfaces have slots; the next must not get the program, and the remedy is said."""
    numbers = [*range(600, 1112), *range(1500, 1 << 31, PLACES)[: MAX_INTERFACES - 512]]
    for ifindex in numbers:
        counters.assign(ifindex)
    assert sorted(counters.assigned().values()) == list(range(MAX_INTERFACES))
    with pytest.raises(AttachError, match=r"1024 interfaces are .* \(raise max_interfaces, it is 1024, and"):
        counters.assign(LOOPBACK)
    with pytest.raises(AttachError, match="raise max_interfaces"):
        counters.join(LOOPBACK, 600)
    before = packets(counters)[UNASSIGNED]
    datapath.run(FRAME, 3)
    assert packets(counters)[UNASSIGNED] == before + 3

    counters.release(1100)
    assert counters.assign(LOOPBACK) == 500
    datapath.run(FRAME)
    assert packets(counters)[LOOPBACK] == 1


def test_a_member_counts_as_its_bond(datapath: Datapath, counters: InterfaceCounters) -> None:
    """Packets and flows of a member are the bond's, by counter and by key, until it leaves."""
    counters.assign(BOND)
    counters.join(LOOPBACK, BOND)
    datapath.run(FRAME, 2)
    assert (packets(counters)[BOND], counters.members) == (2, {LOOPBACK: BOND})
    assert [int(keys["ifindex"][0]) for keys, _values in datapath.tables["ipv4"].batches() if len(keys)] == [BOND]

    again = InterfaceCounters(datapath.loaded.maps)
    assert (again.assigned(), again.members) == ({BOND: 0}, {LOOPBACK: BOND})
    counters.leave(LOOPBACK)
    datapath.run(FRAME)
    assert packets(counters)[BOND] == 2


def test_a_bond_that_goes_takes_its_members_along(datapath: Datapath, counters: InterfaceCounters) -> None:
    """Packets of a member never count in a slot that has become another interface's."""
    counters.assign(BOND)
    counters.join(LOOPBACK, BOND)
    counters.release(BOND)
    counters.assign(BOND + 1)
    before = packets(counters)[UNASSIGNED]
    datapath.run(FRAME, 3)

    assert packets(counters) == {UNASSIGNED: before + 3, BOND + 1: 0}


def test_the_next_daemon_finds_every_slot(datapath: Datapath, counters: InterfaceCounters) -> None:
    """Who takes the maps over knows whose each slot is, which are free, and which interfaces the array finds."""
    for ifindex in (*NEIGHBOURS, LOOPBACK, 77):
        counters.assign(ifindex)
    counters.release(NEIGHBOURS[0])
    counters.join(LOOPBACK + 9 * PLACES, 77)
    datapath.run(FRAME, 3)

    found = InterfaceCounters(datapath.loaded.maps)
    assert (found.assigned(), found.members) == (counters.assigned(), counters.members)
    assert packets(found) == packets(counters)
    assert found.assign(4711) == 0
    for ifindex in NEIGHBOURS[1:]:
        found.release(ifindex)
        datapath.run(FRAME)
    assert packets(found)[LOOPBACK] == 3 + len(NEIGHBOURS[1:])


def test_a_slot_that_is_given_up_gives_its_final_sums(datapath: Datapath, counters: InterfaceCounters) -> None:
    """Nothing that was counted is lost with the interface, and the slot starts at zero for the next."""
    counters.assign(LOOPBACK)
    datapath.run(FRAME, 7)
    final = counters.release(LOOPBACK)
    counters.assign(LOOPBACK)

    assert (int(final["packets"][UDP_LABEL]), int(final["bytes"][UDP_LABEL])) == (7, 7 * len(FRAME))
    assert packets(counters)[LOOPBACK] == 0


def test_assigning_twice_keeps_the_counts(datapath: Datapath, counters: InterfaceCounters) -> None:
    """An interface that has a slot keeps it."""
    counters.assign(LOOPBACK)
    datapath.run(FRAME, 2)
    counters.assign(LOOPBACK)

    assert packets(counters)[LOOPBACK] == 2


def test_packets_of_an_interface_without_a_slot_are_counted_too(
    datapath: Datapath, counters: InterfaceCounters
) -> None:
    """Nothing is lost: they stand under the number that no interface has."""
    before = packets(counters)[UNASSIGNED]
    datapath.run(FRAME, 9)

    assert packets(counters) == {UNASSIGNED: before + 9}
