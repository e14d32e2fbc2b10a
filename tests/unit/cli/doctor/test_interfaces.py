"""What the doctor says of interfaces is what cnfd will do with them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from cnf import config
from cnf.cli.doctor.interfaces import SERIES, judge_interfaces
from cnf.cli.doctor.report import Finding
from cnf.direction import Direction
from cnf.interfaces.stacking import ON_ONE, OVER_MEMBERS
from cnf.kernel.links import Link, Mode, Program
from cnf.kernel.nics import Nic

ETHERNET, LOOPBACK, CAN, NONE = 1, 772, 280, 65534  # ARPHRD_ of linux/if_arp.h
MOST = os.sysconf("SC_PAGE_SIZE") - 590


def nic(
    name: str = "eth0", index: int = 2, *, hardware: int = ETHERNET, mtu: int = 1500, program: Program | None = None
) -> Nic:
    """Return an interface on which native XDP works."""
    return Nic(Link(index, name, hardware, mtu, program=program), driver="ice", native=True)


def veth(mtu: int, peer_mtu: int | None, *, tx_vlan: bool = False) -> Nic:
    """Return one end of a veth pair, and the other end's MTU and offload, if that can be seen."""
    peer = None if peer_mtu is None else Nic(Link(3, "eth1", ETHERNET, peer_mtu), driver="veth", tx_vlan=tx_vlan)
    return Nic(Link(2, "eth0", ETHERNET, mtu, "veth"), driver="veth", native=True, rx_vlan=True, peer=peer)


def judged(
    nics: Sequence[Nic],
    *names: str,
    mode: config.Mode = "auto",
    ours: Collection[int] | None = (),
    directions: tuple[Direction, ...] = ("ingress",),
) -> list[Finding]:
    """Return what is said of ``nics`` when the configuration names ``names``."""
    interfaces = tuple(config.Interface(name, mode, directions) for name in names or ("eth0",))
    return list(judge_interfaces(nics, config.Settings(interfaces), ours))


def test_native() -> None:
    """A driver that has native XDP is named with it; a kernel that does not tell leaves it open."""
    (known,) = judged([nic()])
    assert known == Finding("interface eth0", "ok", "ice, MTU 1500: native XDP")
    (open_,) = judged([Nic(Link(2, "eth0", ETHERNET, 1500))])
    assert open_.seen == "no driver, MTU 1500: native XDP, if its driver has it"


def test_generic_asked_for() -> None:
    """Mode generic is what the configuration wants, and no warning."""
    (found,) = judged([veth(9000, 9000)], mode="generic")
    assert (found.state, found.seen) == ("ok", "veth, MTU 9000: generic XDP, as configured")


@pytest.mark.parametrize(
    ("mtu", "peer_mtu", "native"),
    [(1500, MOST, True), (1500, MOST + 1, False), (9000, 1500, True), (MOST + 1, None, False), (MOST, None, True)],
)
def test_mtu_of_veth(mtu: int, peer_mtu: int | None, native: bool) -> None:  # noqa: FBT001 - a column of the table
    """What counts is the MTU at the other end of a veth pair; where that cannot be seen, it is taken to be equal."""
    auto, *_ = judged([veth(mtu, peer_mtu)])
    forced, *_ = judged([veth(mtu, peer_mtu)], mode="native")
    assert (auto.state, forced.state) == ("ok", "ok" if native else "problem")
    assert auto.seen.endswith("TC, native XDP would turn segmentation off at its other end")


def test_both_directions() -> None:
    """What goes out is counted at TC, wherever what comes in is."""
    (found,) = judged([nic()], directions=("ingress", "egress"))
    assert found.seen == "ice, MTU 1500: native XDP; egress: TC, XDP does not see what goes out"
    (tunnel,) = judged([nic("wg0", hardware=NONE)], "wg0", directions=("ingress", "egress"))
    assert tunnel.seen.startswith("ice, MTU 1500: TC, its packets have no Ethernet header")


def test_egress_that_is_counted_twice() -> None:
    """What goes out through a VLAN device passes the interface below, too."""
    upper = Nic(Link(3, "up0", ETHERNET, 1500, "vlan", lower=2), driver="vlan", native=False)
    warnings = [found.seen for found in judged([nic(), upper], "eth0", "up0", directions=("egress",))][2:]
    assert warnings == ["what it sends is counted here, and on eth0 once more"]


def test_programs_before_ours() -> None:
    """What runs before cnfd's program, at XDP or at TC, is named: it may hide packets."""
    crowded = replace(nic(program=Program("native", 117)), at_tc={"ingress": (5, 118, 6), "egress": (119, 7)})
    found = judged([crowded], mode="tc", ours={118, 119}, directions=("ingress", "egress"))
    assert [each.state for each in found] == ["ok", "warning"]
    assert found[0].seen == "ice, MTU 1500: cnfd's program 118 (tc) is on it; egress: cnfd's program 119 (tc) is on it"
    assert found[1].seen.startswith("ingress: program 117, program 5 runs before cnfd's program")


def test_driver_without_native_xdp() -> None:
    """Such a driver is served in mode auto, and ends cnfd in mode native."""
    plain = Nic(Link(2, "eth0", ETHERNET, 1500), driver="tg3", native=False)
    (auto,) = judged([plain])
    assert (auto.state, auto.seen) == ("ok", "tg3, MTU 1500: TC, no native XDP: its driver has none")
    (native,) = judged([plain], mode="native")
    assert (native.state, native.exit_status) == ("problem", 71)
    assert native.remedy == "mode auto or generic works on any interface"


@pytest.mark.parametrize(
    ("mode", "keyword"), [("native", "xdpdrv"), ("generic", "xdpgeneric"), ("offloaded", "xdpoffload")]
)
def test_program_of_another(mode: Mode, keyword: str) -> None:
    """Where XDP is asked for, somebody else's program is a problem, with how to see it and how to take it off."""
    taken = nic("eth 0", program=Program(mode, 117))
    (foreign,) = judged([taken], "eth?0", mode="native")
    assert (foreign.state, foreign.exit_status) == ("problem", 71)
    assert foreign.seen == f"program 117 ({mode}) is on it and is left alone"
    assert foreign.remedy is not None
    assert "bpftool prog show id 117" in foreign.remedy
    assert f"ip link set dev 'eth 0' {keyword} off" in foreign.remedy
    (auto,) = judged([taken], "eth?0")
    assert auto.seen == f"ice, MTU 1500: TC, no XDP: program 117 ({mode}) is on it and is left alone"
    (own,) = judged([taken], "eth?0", ours={117})
    assert (own.state, own.seen) == ("ok", f"ice, MTU 1500: cnfd's program 117 ({mode}) is on it")


def test_program_of_nobody_knows_whom() -> None:
    """Where the user may not see which programs are cnfd's, none is advised to be taken off."""
    taken = nic(program=Program("native", 117))
    (found,) = judged([taken], ours=None)
    assert (found.state, found.remedy, found.exit_status) == ("unknown", "run the doctor as root", 0)
    assert "program 117 (native)" in found.seen


def test_one_refusal_among_others() -> None:
    """An interface that refuses stops cnfd only if no other is served, and none is missing."""
    tunnel = nic("can0", 3, hardware=CAN)
    assert [(f.state, f.exit_status) for f in judged([tunnel], "can0")] == [("problem", 71)]
    assert [(f.state, f.exit_status) for f in judged([tunnel, nic()], "can0", "eth0")] == [("warning", 0), ("ok", 0)]
    assert [f.state for f in judged([tunnel], "can0", "eth9")] == ["warning", "warning"]


def test_pattern_and_loopback() -> None:
    """A pattern means what it matches but the loopback interface, which has to be named."""
    there = [nic("lo", 1, hardware=LOOPBACK), nic("eth0", 2), nic("wan", 3)]
    assert [found.name for found in judged(there, "*o", "eth*")] == ["interface eth0", "interface *o"]
    assert [found.name for found in judged(there, "lo")] == ["interface lo"]


def test_missing_interface() -> None:
    """An interface that is not there is a warning: cnfd waits for it."""
    (found,) = judged([], "eth7")
    assert (found.name, found.state, found.exit_status) == ("interface eth7", "warning", 0)


def test_hidden_vlan_tags() -> None:
    """A NIC that takes VLAN tags off is a warning with the command against it, where tags are looked at at all."""
    stripping = Nic(Link(2, "eth0", ETHERNET, 1500), driver="ice", native=True, rx_vlan=True)
    assert [found.remedy for found in judged([stripping])] == [None, "ethtool -K eth0 rxvlan off"]
    settings = config.Settings((config.Interface("eth0"),), flows=config.Flows(vlan=False))
    assert len(list(judge_interfaces([stripping], settings, ()))) == 1


@pytest.mark.parametrize(
    ("end", "remedy"),
    [
        (veth(1500, 1500), None),
        (veth(1500, 1500, tx_vlan=True), "ethtool -K eth1 txvlan off tx-vlan-stag-hw-insert off"),
        (veth(1500, None), "ethtool -K NAME txvlan off tx-vlan-stag-hw-insert off"),
    ],
)
def test_tags_beside_the_frame(end: Nic, remedy: str | None) -> None:
    """Over a veth it is the other end that hides tags from XDP, and shows them, whatever this one offloads."""
    _, *found = judged([end], mode="native")
    assert [found.name for found in judged([end])] == ["interface eth0"]
    assert [(each.name, each.state, each.remedy) for each in found] == (
        [("vlan tags", "warning", f"at the other end: {remedy}")] if remedy else []
    )


def test_tags_of_many_veths_are_one_finding() -> None:
    """A node with a thousand veths is told once."""
    ends = [replace(veth(1500, None), link=Link(index, f"eth{index}", ETHERNET, 1500)) for index in range(10, 20)]
    (found,) = [each for each in judged(ends, "eth*", mode="native") if each.name == "vlan tags"]
    assert found.seen.startswith("eth10, eth11, eth12 and 7 more: over a veth")


def test_tags_that_are_taken_off_below() -> None:
    """What stands on a NIC has its tags taken off there, whatever it says of itself."""
    below = replace(nic("eth0", 2), rx_vlan=True)
    above = Nic(Link(3, "eth0.5", ETHERNET, 1500, "vlan", lower=2), driver="802.1Q VLAN Support", rx_vlan=False)
    member = Nic(Link(4, "eth4", ETHERNET, 1500, master=5), driver="ice", native=True, rx_vlan=True)
    bond = Nic(Link(5, "bond0", ETHERNET, 1500, "bond"), driver="bonding", native=True, rx_vlan=True)
    for top in ("eth0.5", "bond0"):
        remedies = [
            each.remedy for each in judged([below, above, member, bond], top, mode="generic") if each.state == "warning"
        ]
        assert remedies == [f"ethtool -K {'eth4' if top == 'bond0' else 'eth0'} rxvlan off"]


def test_large_receive_offload() -> None:
    """Large receive offload is a warning with the command against it."""
    joining = Nic(Link(2, "eth0", ETHERNET, 1500), driver="ice", native=True, lro=True)
    assert [found.remedy for found in judged([joining])] == [None, "ethtool -K eth0 lro off"]


@pytest.mark.parametrize("kind", sorted(ON_ONE))
def test_what_is_counted_twice(kind: str) -> None:
    """Of every kind that stands on another interface, doctor says what cnfd will: which is counted once more."""
    upper = Nic(Link(3, "up0", ETHERNET, 1500, kind, lower=2), driver=kind, native=False)
    _, _, warning = judged([nic(), upper], "eth0", "up*")
    assert warning == Finding(
        "interface up0",
        "warning",
        "what it receives is counted, and charged to limits, on eth0 and here once more",
        "leave up0 out of the interfaces, that is, narrow the pattern up*",
    )
    assert len(judged([nic(), upper], "eth0")) == 1
    foreign = nic(program=Program("native", 117))
    assert [found.state for found in judged([foreign, upper], "eth0", "up0", mode="generic")] == ["warning", "ok"]


@pytest.mark.parametrize("kind", sorted(OVER_MEMBERS))
def test_member_and_master(kind: str) -> None:
    """Of every kind that has members, too."""
    member = Nic(Link(2, "eth0", ETHERNET, 1500, master=3), driver="ice", native=True)
    master = Nic(Link(3, "top0", ETHERNET, 1500, kind), driver=kind, native=True)
    (_, _, warning) = judged([member, master], "eth0", "top0")
    assert (warning.name, warning.remedy) == ("interface top0", "leave top0 out of the interfaces")
    assert len(judged([member, master], "eth0")) == 1


def test_a_program_above() -> None:
    """The kernel takes no program below one: doctor says so before cnfd finds out, unless it is there already."""
    bridge = Nic(Link(3, "br0", ETHERNET, 1500, "bridge", program=Program("generic", 117)), driver="bridge")
    port = Link(2, "eth0", ETHERNET, 1500, master=3)
    (refused,) = judged([Nic(port, driver="ice", native=True), bridge])
    assert (refused.state, refused.exit_status) == ("problem", 71)
    assert refused.seen == "the bond, bridge or VLAN device above it has a program"
    assert refused.remedy == "leave one of the two out of the interfaces"
    there = replace(port, program=Program("native", 118))
    assert [found.state for found in judged([Nic(there, driver="ice", native=True), bridge], ours={118})] == ["ok"]


@pytest.mark.parametrize("names", [("bond0",), ("eth0", "bond0")])
def test_native_on_a_bond(names: tuple[str, ...]) -> None:
    """A bond's driver takes the program only while no member has one of its own, by cnfd or another."""
    bond = Nic(Link(3, "bond0", ETHERNET, 1500, "bond"), driver="bonding", native=True)
    member = Link(2, "eth0", ETHERNET, 1500, master=3)
    alone, *_ = judged([Nic(member, driver="ice"), bond], "bond0")
    assert (alone.state, alone.seen) == ("ok", "bonding, MTU 1500: native XDP")
    program = None if "eth0" in names else Program("generic", 117)
    found = judged([Nic(replace(member, program=program), driver="ice"), bond], *names)
    (crowded,) = (each for each in found if each.name == "interface bond0" and "MTU" in each.seen)
    assert crowded.state == "warning"
    assert crowded.seen == "bonding, MTU 1500: TC, no native XDP: a member has a program of its own: eth0"
    foreign = Nic(replace(member, program=Program("generic", 117)), driver="ice")
    (native,) = judged([foreign, bond], "bond0", mode="native")
    assert (native.state, native.remedy) == ("problem", crowded.remedy)


def test_altname() -> None:
    """An altname means its interface; a name in two entries is nobody's that is missing."""
    named = Nic(Link(2, "eth0", ETHERNET, 1500, altnames=("enp3s0f0np0-a-long-one",)), driver="ice", native=True)
    assert [found.name for found in judged([named], "enp3s0f0np0-a-long-one")] == ["interface eth0"]
    assert [found.name for found in judged([named], "eth*", "eth0")] == ["interface eth0"]


def test_more_interfaces_than_may_be() -> None:
    """Doctor says that some will be refused, and of how many series scrapes leave some out, each with what to set."""
    many = [nic(f"eth{index}", index) for index in range(2, 502)]
    settings = config.Settings((config.Interface("eth*"),), max_interfaces=400)
    room, series = list(judge_interfaces(many, settings, ()))[-2:]
    assert room.seen == "500 interfaces are meant, and 400 can be counted: the others will be refused"
    assert (room.name, room.state, room.remedy) == ("max_interfaces", "warning", "max_interfaces = 512")
    assert (
        series.seen
        == f"400 interfaces and the largest flows have {400 * SERIES + 100:,} series: scrapes leave some out"
    )
