"""Interfaces, with stand-ins for the kernel: for bonds, which it may not have, and for ever new names."""

from __future__ import annotations

from typing import cast

import numpy as np
import structlog

from cnf.config import Interface
from cnf.interfaces import Interfaces
from cnf.kernel.attach import Attached, Attacher
from cnf.kernel.counters import InterfaceCounters
from cnf.kernel.links import ARPHRD_ETHER, Link, Links
from cnf.kernel.maps import Records
from cnf.records import INTERFACE_COUNTERS
from cnf.tallies import DEPARTED, REMEMBERED_COUNTERS

BOND = Link(9, "bond0", ARPHRD_ETHER, 1500, "bond")


class Present:
    """The interfaces that there are."""

    lost = 0
    links: tuple[Link, ...] = ()

    def read(self) -> tuple[Link, ...]:
        """Return them."""
        return self.links

    def take_moved(self) -> set[int]:
        """Return that none has moved."""
        return set()


class Willing:
    """A kernel that takes the program on every interface."""

    program_id = 7

    def attach(self, _link: Link, _mode: str) -> Attached:
        """Attach in native mode."""
        return Attached("native", "")

    def detach(self, _link: Link) -> bool:
        """Detach."""
        return True


class Counters:
    """The counters, and who the limiter takes them for."""

    def __init__(self) -> None:
        """Start with every slot free."""
        self.slots: dict[int, Records] = {}
        self.seats: dict[int, str] = {}

    def assign(self, ifindex: int) -> int:
        """Give the interface a slot, of its number."""
        self.slots.setdefault(ifindex, np.zeros((), INTERFACE_COUNTERS))
        return ifindex

    def release(self, ifindex: int) -> Records:
        """Take the slot back."""
        return self.slots.pop(ifindex)

    def read(self) -> dict[int, Records]:
        """Return what was counted."""
        return self.slots

    def expect(self, _names: object) -> None:
        """Need not know."""

    def seat(self, name: str, slot: int) -> None:
        """Note whose the slot is."""
        self.seats[slot] = name

    def receive(self, ifindex: int, packets: int) -> None:
        """Count packets as the program would."""
        self.slots[ifindex]["packets"][0] += packets


class Node:
    """A node, and what keeps the program on its interfaces."""

    def __init__(self, *wanted: str) -> None:
        """Want these interfaces of a node that has none yet."""
        self.present, self.counters = Present(), Counters()
        self.interfaces = Interfaces(
            [Interface(name) for name in wanted],
            cast("Attacher", Willing()),
            cast("Links", self.present),
            cast("InterfaceCounters", self.counters),
            structlog.get_logger(),
        )
        self.interfaces.seating = self.counters

    def have(self, *links: Link) -> None:
        """Have these interfaces from now on."""
        self.present.links = links
        self.interfaces.reconcile()

    @property
    def packets(self) -> dict[str, int]:
        """The packets received, by interface name."""
        return {name: int(counters["packets"].sum()) for name, counters in self.interfaces.totals().items()}


def nic(index: int, name: str, master: int | None = None) -> Link:
    """Return a NIC."""
    return Link(index, name, ARPHRD_ETHER, 1500, master=master)


def test_a_members_packets_are_the_bonds() -> None:
    """Members of a bond are counted, limited and shown as it, from joining to leaving; the counts stay its own."""
    node = Node("bond0")
    node.have(BOND, nic(2, "eth0", master=9), nic(3, "eth1"))
    assert node.counters.seats == {9: "bond0", 2: "bond0"}
    node.counters.receive(2, 5)

    node.have(BOND, nic(2, "eth0", master=9), nic(3, "eth1", master=9))
    assert node.counters.seats[3] == "bond0"
    node.counters.receive(2, 5)
    node.counters.receive(3, 1)
    assert node.packets == {"bond0": 11}
    assert {node.interfaces.names[index] for index in (2, 3, 9)} == {"bond0"}

    node.have(BOND, nic(2, "eth0"), nic(3, "eth1", master=9))
    assert node.counters.slots.keys() == {3, 9}
    assert node.packets == {"bond0": 11}
    node.have()
    assert node.counters.slots == {}
    assert node.packets == {"bond0": 11}


def test_a_member_that_is_wanted_itself_has_its_own_counts() -> None:
    """A member that gets into the configuration counts under its own name from then on."""
    node = Node("bond0")
    members = nic(2, "eth0", master=9), nic(3, "eth1", master=9)
    node.have(BOND, *members)
    node.counters.receive(2, 5)

    node.interfaces.wanted = (*node.interfaces.wanted, Interface("eth0"))
    node.have(BOND, *members)
    node.counters.receive(2, 3)

    assert node.packets == {"bond0": 5, "eth0": 3}
    assert node.counters.seats == {2: "eth0", 3: "bond0", 9: "bond0"}


def test_the_names_of_departed_interfaces_are_bounded() -> None:
    """Of interfaces that come and go under ever new names, the latest keep their counts and the others are one sum."""
    node = Node("veth*")
    lives = REMEMBERED_COUNTERS + 10
    for index in range(1, lives + 1):
        node.have(nic(index, f"veth{index}"))
        node.counters.receive(index, index)
    node.have()

    assert node.packets.pop(DEPARTED) == sum(range(1, 11))
    assert node.packets.keys() == {DEPARTED} | {f"veth{index}" for index in range(11, lives + 1)}
    assert sum(node.packets.values()) == sum(range(1, lives + 1))


def test_a_name_that_comes_back_is_not_summed_up() -> None:
    """A name that is in use, or has been until lately, keeps its counts however often it departs."""
    node = Node("*")
    for index in range(1, 2 * REMEMBERED_COUNTERS):
        node.have(nic(1000 + index, "again"), nic(index, f"veth{index}"))
        node.counters.receive(1000 + index, 1)
        node.counters.receive(index, 1)
        assert node.packets["again"] == index
