"""Interfaces, with stand-ins for the kernel: for bonds, which it may not have, and for ever new names."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import structlog

from cnf import config
from cnf.abi import INTERFACE_COUNTERS
from cnf.arrays import Records
from cnf.config import Interface
from cnf.datapath.counters import InterfaceCounters
from cnf.errors import AttachError
from cnf.interfaces.reconcile import Interfaces
from cnf.interfaces.totals import REMEMBERED_COUNTERS, REMEMBERED_NAMES, SHOWN, Tallies
from cnf.kernel.attacher import Attacher, Ours, Standing
from cnf.kernel.links import ARPHRD_ETHER, Link, Links, Mode, Program

BOND = Link(9, "bond0", ARPHRD_ETHER, 1500, "bond")


def ingress(name: str, mode: config.Mode = "auto") -> Interface:
    """Return the wish to have what comes in counted."""
    return Interface(name, mode, ("ingress",))


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
    """A kernel that takes the program on every interface, but those that a test names."""

    entry = "cnf_ingress"
    program = Ours(3, 7)
    refuses: tuple[str, ...] = ()
    """Interfaces, or modes."""

    def attach(self, link: Link, mode: Mode) -> Standing:
        """Attach, unless it is to refuse."""
        if link.name in self.refuses or mode in self.refuses:
            raise AttachError(f"interface {link.name}: not now")
        return Standing(mode, "tcx" if mode == "tc" else "xdp", (), self.program.id)

    def detach(self, _link: Link, *, wait: bool = True) -> bool:  # noqa: ARG002 - as Attacher has it
        """Detach."""
        return True

    def left(self, _link: Link) -> Mode | None:
        """Return that the previous daemon has left nothing."""
        return None

    def standing(self, link: Link) -> Standing | None:
        """Return what the interface carries."""
        return Standing(link.program.mode, "xdp", (), link.program.id) if link.program else None


class Counters:
    """The counters, and who the limiter takes them for."""

    room = 1024

    def __init__(self) -> None:
        """Start with every slot free."""
        self.slots: dict[int, Records] = {}
        self.members: dict[int, int] = {}
        self.seats: dict[int, str] = {}

    def assign(self, ifindex: int, *, ethernet: bool = True) -> int:  # noqa: ARG002 - all have one
        """Give the interface a slot, of its number."""
        if ifindex not in self.slots and len(self.slots) == self.room:
            raise AttachError("no room")
        self.members.pop(ifindex, None)
        self.slots.setdefault(ifindex, np.zeros((), INTERFACE_COUNTERS))
        return ifindex

    def release(self, ifindex: int) -> Records:
        """Take the slot back, from its members too."""
        self.members = {member: bond for member, bond in self.members.items() if bond != ifindex}
        return self.slots.pop(ifindex)

    def join(self, member: int, ifindex: int) -> None:
        """Count the member's packets as the bond's."""
        self.members[member] = ifindex

    def leave(self, member: int) -> None:
        """Count them so no longer."""
        self.members.pop(member, None)

    def assigned(self) -> dict[int, int]:
        """Return the interfaces that have a slot, which is of their number."""
        return {ifindex: ifindex for ifindex in self.slots}

    def read(self) -> dict[int, Records]:
        """Return what was counted."""
        return {ifindex: counters.copy() for ifindex, counters in self.slots.items()}

    def read_one(self, ifindex: int) -> Records:
        """Return what one interface has counted."""
        return self.slots[ifindex].copy()

    def expect(self, _names: object) -> None:
        """Need not know."""

    def seat(self, name: str, slot: int) -> None:
        """Note whose the slot is."""
        self.seats[slot] = name

    def receive(self, ifindex: int, packets: int) -> None:
        """Count packets as the program would."""
        self.slots[self.members.get(ifindex, ifindex)]["packets"][0] += packets


class Node:
    """A node, and what keeps the program on its interfaces."""

    def __init__(self, *wanted: str) -> None:
        """Want these interfaces of a node that has none yet."""
        self.time = 0.0
        self.kernel, self.present, self.counters = Willing(), Present(), Counters()
        kernel = cast("Attacher", self.kernel)
        self.interfaces = Interfaces(
            [ingress(name) for name in wanted],
            {"ingress": {"native": kernel, "generic": kernel, "tc": kernel}, "egress": {"tc": kernel}},
            cast("Links", self.present),
            cast("InterfaceCounters", self.counters),
            structlog.get_logger(),
        )
        self.interfaces.seating = self.counters
        self.interfaces.tallies = Tallies(cast("InterfaceCounters", self.counters), lambda: self.time)

    def have(self, *links: Link) -> None:
        """Have these interfaces from now on."""
        self.present.links = links
        self.interfaces.reconcile()

    @property
    def packets(self) -> dict[str, int]:
        """The packets received, by interface name."""
        return {name: int(counters["packets"].sum()) for name, counters in self.interfaces.tallies.totals().items()}

    @property
    def all_packets(self) -> int:
        """The packets that the ledger adds up."""
        totals, departed = self.interfaces.tallies.all_totals()
        return sum(int(counters["packets"].sum()) for counters in (*totals.values(), departed))


def nic(index: int, name: str, master: int | None = None) -> Link:
    """Return a NIC."""
    return Link(index, name, ARPHRD_ETHER, 1500, master=master)


def test_a_members_packets_are_the_bonds() -> None:
    """Members of a bond are counted, limited and shown as it, from joining to leaving; the counts stay its own."""
    node = Node("bond0")
    node.have(BOND, nic(2, "eth0", master=9), nic(3, "eth1"))
    assert (node.counters.seats, node.counters.members) == ({9: "bond0"}, {2: 9})
    node.counters.receive(2, 5)

    node.have(BOND, nic(2, "eth0", master=9), nic(3, "eth1", master=9))
    assert node.counters.members == {2: 9, 3: 9}
    node.counters.receive(2, 5)
    node.counters.receive(3, 1)
    assert node.packets == {"bond0": 11}
    assert node.interfaces.tallies.names == {9: "bond0"}

    node.have(BOND, nic(2, "eth0"), nic(3, "eth1", master=9))
    assert (set(node.counters.slots), node.counters.members) == ({9}, {3: 9})
    assert node.packets == {"bond0": 11}
    node.have()
    assert (node.counters.slots, node.counters.members) == ({}, {})
    assert node.packets == {"bond0": 11}


def test_a_member_that_is_wanted_itself_has_its_own_counts() -> None:
    """A member that gets into the configuration counts under its own name from then on."""
    node = Node("bond0")
    members = nic(2, "eth0", master=9), nic(3, "eth1", master=9)
    node.have(BOND, *members)
    node.counters.receive(2, 5)

    node.interfaces.wanted = (*node.interfaces.wanted, ingress("eth0"))
    node.have(BOND, *members)
    node.counters.receive(2, 3)

    assert node.packets == {"bond0": 5, "eth0": 3}
    assert (node.counters.seats, node.counters.members) == ({2: "eth0", 9: "bond0"}, {3: 9})

    node.interfaces.wanted = node.interfaces.wanted[:1]
    node.have(BOND, *members)
    node.counters.receive(2, 4)
    assert node.packets == {"bond0": 9, "eth0": 3}


def test_members_of_a_bond_that_is_refused_at_first() -> None:
    """Whatever has the bond's slot meanwhile, its members count as the bond once it is taken."""
    node = Node("*0")
    bond, other, member = BOND, nic(4, "other0"), nic(2, "eth1", master=9)
    node.kernel.refuses = ("bond0",)
    node.have(bond, member)
    assert (node.counters.slots, node.counters.members) == ({}, {})
    node.kernel.refuses = ()
    node.have(bond, other, member)
    assert node.counters.members == {2: 9}


def test_a_mode_before_that_is_refused_is_tried_again() -> None:
    """When the kernel takes neither the mode that a reload asks for nor the one before, the one before comes back."""
    node = Node()
    node.interfaces.wanted = (ingress("eth0", "generic"),)
    eth0 = nic(1, "eth0")
    node.have(eth0)
    carrying = replace(eth0, program=Program("generic", 7))
    node.have(carrying)
    node.kernel.refuses = ("native", "generic")
    node.interfaces.wanted = (ingress("eth0", "native"),)
    node.have(carrying)
    assert [state.state for state in node.interfaces.states] == ["refused"]
    assert node.counters.slots == {}

    node.kernel.refuses = ("native",)
    node.have(eth0)

    (state,) = node.interfaces.states
    assert (state.state, state.mode, state.error) == ("attached", "generic", "interface eth0: not now")
    node.interfaces.wanted = (ingress("eth0", "auto"),)
    node.have(eth0)
    assert [state.error for state in node.interfaces.states] == [None]


def test_a_refused_interface_is_nobodys() -> None:
    """What is refused has no slot, and its packets are nobody's, until the kernel takes the program there."""
    node = Node("eth0")
    node.kernel.refuses = ("eth0",)
    node.have(nic(1, "eth0"))
    assert (node.counters.slots, node.packets) == ({}, {})
    assert [state.state for state in node.interfaces.states] == ["refused"]
    node.kernel.refuses = ()
    node.have(nic(1, "eth0"))
    node.counters.receive(1, 3)
    assert node.packets == {"eth0": 3}


def test_one_interface_too_many_is_refused_until_there_is_room() -> None:
    """The others are served, the error names the interface, and it is taken when another one has gone."""
    node = Node("*")
    node.counters.room = 2
    node.have(*(nic(index, f"eth{index}") for index in (1, 2, 3)))
    assert [state.state for state in node.interfaces.states] == ["attached", "attached", "refused"]
    assert node.interfaces.states[2].error == "interface eth3: no room"

    node.have(nic(1, "eth1"), nic(3, "eth3"))
    assert [state.state for state in node.interfaces.states] == ["attached", "attached"]


def test_departed_interfaces_are_forgotten_after_a_while() -> None:
    """Of interfaces that come and go under ever new names, the latest keep series; the sum of all stays exact."""
    node = Node("veth*")
    lives = REMEMBERED_COUNTERS + 10
    for index in range(1, lives + 1):
        node.have(nic(index, f"veth{index}"))
        node.counters.receive(index, index)
    node.have()
    node.time += SHOWN - 1
    node.have()
    assert node.packets == {f"veth{index}": index for index in range(1, lives + 1)}

    node.time += 2
    node.have()
    assert node.packets == {f"veth{index}": index for index in range(11, lives + 1)}
    assert node.all_packets == sum(range(1, lives + 1))


def test_no_more_departed_interfaces_are_shown_than_there_can_be() -> None:
    """What comes and goes within minutes is bounded, too, and the sum of all stays exact."""
    node = Node("veth*")
    node.counters.room = 100
    for index in range(1, 301):
        node.have(nic(index, f"veth{index}"))
        node.counters.receive(index, 1)
    node.have()
    assert (len(node.packets), node.all_packets) == (100, 300)


def test_the_names_of_departed_interfaces_are_bounded() -> None:
    """Names for the flows that interfaces leave behind are kept of the latest, and of all that are here."""
    node = Node("*")
    stays = nic(1, "eth0")
    for index in range(2, REMEMBERED_NAMES + 100):
        node.have(stays, nic(index, f"veth{index}"))
    assert len(node.interfaces.tallies.names) == REMEMBERED_NAMES + 2
    assert node.interfaces.tallies.names[1] == "eth0"


def test_what_is_added_up_of_series_is_what_was_received() -> None:
    """However many interfaces come and go, no series rises by what was not received on its interface."""
    node, seen, increases = Node("veth*"), dict[str, int](), 0
    for index in range(1, 3 * REMEMBERED_COUNTERS):
        node.have(nic(index, f"veth{index}"))
        for _scrape in range(2):
            node.counters.receive(index, 500)
            now = node.packets
            increases += sum(max(count - seen.get(name, 0), 0) for name, count in now.items())
            seen = now
        node.time += SHOWN / 10
    assert increases == node.all_packets == 1000 * (3 * REMEMBERED_COUNTERS - 1)


def test_interfaces_that_swap_their_names_leave_the_counts_with_the_names() -> None:
    """What was counted under a name stays there, whichever interface has the name next; no sum goes down."""
    node = Node("*")
    node.have(nic(2, "eth0"), nic(3, "eth1"))
    node.counters.receive(2, 1000)
    node.counters.receive(3, 10)
    node.have(nic(2, "swap"), nic(3, "eth0"))
    node.counters.receive(3, 1)
    node.have(nic(2, "eth1"), nic(3, "eth0"))
    node.counters.receive(2, 2)
    assert node.packets == {"eth0": 1001, "eth1": 12, "swap": 0}

    node.have(nic(2, "eth0"), nic(3, "eth1"))
    node.counters.receive(2, 4)
    assert node.packets == {"eth0": 1005, "eth1": 12, "swap": 0}
    node.have()
    assert node.packets == {"eth0": 1005, "eth1": 12, "swap": 0}
    assert node.all_packets == 1017


def test_a_daemon_goes_on_with_names_that_were_swapped() -> None:
    """What stands under which name outlives the daemon, also for an interface that was renamed while none ran."""
    node = Node("*")
    node.have(nic(2, "eth0"), nic(3, "eth1"))
    node.counters.receive(2, 5)
    node.have(nic(2, "lan"), nic(3, "eth1"))
    node.counters.receive(2, 7)
    left = node.interfaces.tallies.hand_over()

    next_one = Node("*")
    next_one.counters.slots = node.counters.slots
    next_one.interfaces.tallies.take_over(left)
    next_one.have(nic(2, "wan"), nic(3, "eth1"))
    next_one.counters.receive(2, 1)
    assert next_one.packets == {"eth0": 5, "lan": 7, "wan": 1, "eth1": 0}


def test_sums_that_cannot_be_read() -> None:
    """Where a daemon finds no sense in the sums of departed interfaces, these are incomplete from then on."""
    left = Node("*").interfaces.tallies.hand_over()
    node = Node("*")
    with pytest.raises(ValueError, match="hex"):
        node.interfaces.tallies.take_over(left | {"departed": "many"})
    assert not node.interfaces.tallies.incomplete
    node.interfaces.tallies.take_over(None)

    next_one = Node("*")
    next_one.interfaces.tallies.take_over(node.interfaces.tallies.hand_over())
    assert next_one.interfaces.tallies.incomplete


def test_an_interface_that_came_after_the_last_writing() -> None:
    """What the daemon before wrote of another one with the same number is not taken off what this one has counted."""
    node = Node("*")
    node.have(nic(2, "eth0"))
    node.counters.receive(2, 5)
    node.have(nic(2, "lan"))
    left = node.interfaces.tallies.hand_over()
    node.have()
    node.have(nic(2, "eth0"))
    node.counters.receive(2, 3)

    next_one = Node("*")
    next_one.counters.slots = node.counters.slots
    next_one.interfaces.tallies.take_over(left)
    assert next_one.packets == {"eth0": 5, "lan": 3}


def test_a_name_that_comes_back_is_not_summed_up() -> None:
    """A name that is in use, or has been until lately, keeps its counts however often it departs."""
    node = Node("*")
    for index in range(1, 2 * REMEMBERED_COUNTERS):
        node.have(nic(1000 + index, "again"), nic(index, f"veth{index}"))
        node.counters.receive(1000 + index, 1)
        node.counters.receive(index, 1)
        assert node.packets["again"] == index
