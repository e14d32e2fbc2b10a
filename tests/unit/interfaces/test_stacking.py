"""Interfaces that stand on others."""

from __future__ import annotations

from typing import Final

import pytest

from cnf.interfaces.stacking import Stacks
from cnf.kernel.links import ARPHRD_ETHER, Link

# A bond of two NICs, a VLAN device on it, a bridge with that and a veth as ports, and a macvlan on the bridge.
BRIDGE, NIC, OTHER_NIC, BOND, VLAN, VETH, PEER, MACVLAN = range(1, 9)


def link(index: int, name: str, kind: str = "", *, master: int | None = None, lower: int | None = None) -> Link:
    """Return an interface."""
    return Link(index, name, ARPHRD_ETHER, 1500, kind, master, lower)


LINKS: Final = (
    link(BRIDGE, "br0", "bridge"),
    link(NIC, "eth0", master=BOND),
    link(OTHER_NIC, "eth1", master=BOND),
    link(BOND, "bond0", "bond"),
    link(VLAN, "bond0.5", "vlan", master=BRIDGE, lower=BOND),
    link(VETH, "veth0", "veth", master=BRIDGE, lower=PEER),
    link(PEER, "veth1", "veth", lower=VETH),
    link(MACVLAN, "mv0", "macvlan", lower=BRIDGE),
)


@pytest.mark.parametrize(
    ("index", "below"),
    [
        (NIC, set()),
        (BOND, {NIC, OTHER_NIC}),
        (VLAN, {BOND, NIC, OTHER_NIC}),
        (BRIDGE, {VLAN, VETH, BOND, NIC, OTHER_NIC}),
        (MACVLAN, {BRIDGE, VLAN, VETH, BOND, NIC, OTHER_NIC}),
        (VETH, set()),
    ],
)
def test_what_an_interface_stands_on(index: int, below: set[int]) -> None:
    """Members, ports and lower devices count, down to the last; the other end of a pair does not."""
    assert Stacks(LINKS).below(index) == below


def test_kinds_that_name_what_they_stand_on_in_their_own_way() -> None:
    """A ring's two interfaces have no master, and a switch's port to this node stands on the switch's other ports."""
    ring = Link(3, "hsr0", ARPHRD_ETHER, 1500, "hsr", ring=(1, 2))
    switch = (
        link(10, "ovs-system", "openvswitch"),
        link(11, "br0", "openvswitch", master=10),
        link(12, "eth2", master=10),
    )
    stacks = Stacks((link(1, "eth0"), link(2, "eth1"), ring, *switch))
    assert (stacks.below(3), stacks.below(11), stacks.below(10)) == ({1, 2}, {12}, set())


def test_a_vrf_repeats_nothing() -> None:
    """What a VRF has taken over meets no program any more."""
    assert Stacks((link(1, "eth0", master=2), link(2, "vrf0", "vrf"))).below(2) == set()


def test_lower_interfaces_come_first() -> None:
    """Whatever their numbers, an interface comes after all that it stands on."""
    stacks = Stacks(LINKS)
    order = stacks.upwards([link.index for link in LINKS])
    assert sorted(order) == sorted(link.index for link in LINKS)
    for place, index in enumerate(order):
        assert stacks.below(index) <= {*order[:place]}


@pytest.mark.parametrize(
    ("index", "attached", "repetition"),
    [
        (NIC, {NIC, OTHER_NIC, BOND}, None),
        (BOND, {BOND}, None),
        (VETH, {VETH, PEER}, None),
        (BOND, {NIC, BOND}, "what it receives is counted, and charged to limits, on eth0 and here once more"),
        (VLAN, {OTHER_NIC, VLAN}, "what it receives is counted, and charged to limits, on eth1 and here once more"),
        (
            BRIDGE,
            {VETH, BRIDGE},
            "what it hands to this node is counted, and charged to limits, on veth0 and here once more",
        ),
        (
            MACVLAN,
            {link.index for link in LINKS},
            "what it receives is counted, and charged to limits, on br0, eth0, eth1 and 3 more and here once more",
        ),
    ],
)
def test_what_is_counted_twice(index: int, attached: set[int], repetition: str | None) -> None:
    """It is what comes through an attached interface below, which is named; of many, the first three."""
    assert Stacks(LINKS).repetition(index, attached) == repetition


@pytest.mark.parametrize(
    ("wanted", "members"),
    [({BOND}, {NIC: BOND, OTHER_NIC: BOND}), ({BOND, NIC}, {OTHER_NIC: BOND}), ({BRIDGE}, {}), ({NIC}, {})],
)
def test_members_of_a_bond(wanted: set[int], members: dict[int, int]) -> None:
    """Those of a bond that is wanted are its own, unless they are wanted themselves; a bridge's ports are not."""
    assert Stacks(LINKS).members(wanted) == members


def test_a_lower_interface_in_another_namespace() -> None:
    """An interface whose master or lower one is not among the links stands on nothing."""
    stacks = Stacks([link(7, "n0", "vlan", master=90, lower=91)])
    assert stacks.below(7) == set()
    assert stacks.members({7}) == {}
