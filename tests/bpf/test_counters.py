"""Each interface has a counter slot of its own, found by the program where user space put it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from cnf.errors import AttachError
from cnf.kernel.counters import UNASSIGNED, InterfaceCounters
from cnf.records import INTERFACE_SLOTS, PROTOCOL_LABELS, SLOT_PROBES
from tests.bpf.conftest import LOOPBACK, Datapath
from tests.bpf.packets import ARP, UDP, IPv4, frame

FRAME: Final = frame(IPv4(), UDP())
UDP_LABEL: Final = PROTOCOL_LABELS.index("udp")
NEIGHBOURS: Final = tuple(LOOPBACK + turn * INTERFACE_SLOTS for turn in range(1, SLOT_PROBES + 1))
"""Interfaces that look for a slot at the same place as the loopback interface."""


@pytest.fixture
def counters(datapath: Datapath) -> Iterator[InterfaceCounters]:
    """Give a test the map with every slot free."""
    datapath.interfaces.release(LOOPBACK)
    counters = InterfaceCounters(datapath.loaded.maps)
    yield counters
    for ifindex in counters.read().keys() - {UNASSIGNED}:
        counters.release(ifindex)
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


@pytest.mark.parametrize("taken", range(SLOT_PROBES))
def test_a_slot_that_is_taken_makes_room_in_the_next(
    datapath: Datapath, counters: InterfaceCounters, taken: int
) -> None:
    """Interfaces whose numbers collide have a slot each, and the program finds the right one."""
    for ifindex in NEIGHBOURS[:taken]:
        counters.assign(ifindex)
    counters.assign(LOOPBACK)
    datapath.run(FRAME, 3)

    assert packets(counters)[LOOPBACK] == 3
    assert not any(packets(counters)[ifindex] for ifindex in NEIGHBOURS[:taken])


def test_an_interface_that_finds_no_slot_is_refused(datapath: Datapath, counters: InterfaceCounters) -> None:
    """When all slots that the program would look at are taken, the program must not be attached there."""
    for ifindex in NEIGHBOURS:
        counters.assign(ifindex)
    with pytest.raises(AttachError, match=f"counter slots that ifindex {LOOPBACK} may have are taken"):
        counters.assign(LOOPBACK)
    before = packets(counters)[UNASSIGNED]
    datapath.run(FRAME, 3)

    assert packets(counters)[UNASSIGNED] == before + 3
    assert not any(packets(counters)[ifindex] for ifindex in NEIGHBOURS)


def test_a_slot_of_others_may_be_taken_by_a_neighbour(datapath: Datapath, counters: InterfaceCounters) -> None:
    """An interface whose first slot was taken by another's second choice finds its own."""
    counters.assign(INTERFACE_SLOTS)  # slot 0
    counters.assign(2 * INTERFACE_SLOTS)  # slot 1, where the loopback interface would be
    counters.assign(LOOPBACK)
    datapath.run(FRAME, 2)

    assert (packets(counters)[LOOPBACK], packets(counters)[2 * INTERFACE_SLOTS]) == (2, 0)


def test_a_slot_that_is_given_up_gives_its_final_sums(datapath: Datapath, counters: InterfaceCounters) -> None:
    """Nothing that was counted is lost with the interface, and the slot starts at zero for the next."""
    counters.assign(LOOPBACK)
    datapath.run(FRAME, 7)
    final = counters.release(LOOPBACK)
    counters.assign(LOOPBACK)

    assert (int(final["packets"][UDP_LABEL]), int(final["bytes"][UDP_LABEL])) == (7, 7 * len(FRAME))
    assert packets(counters)[LOOPBACK] == 0


def test_a_neighbour_that_leaves_does_not_hide_the_slot_behind_it(
    datapath: Datapath, counters: InterfaceCounters
) -> None:
    """The program looks past a slot that has become free."""
    counters.assign(NEIGHBOURS[0])
    counters.assign(LOOPBACK)
    datapath.run(FRAME, 2)
    counters.release(NEIGHBOURS[0])
    datapath.run(FRAME, 2)

    assert packets(counters)[LOOPBACK] == 4


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
