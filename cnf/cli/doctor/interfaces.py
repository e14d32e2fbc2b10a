"""A forecast of cnfd on the interfaces: which will refuse it, in which mode the others will have it, and caveats."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from cnf import config
from cnf.abi import DROP_REASONS, PROTOCOL_LABELS, UNPARSED_REASONS
from cnf.cli.doctor.report import Finding
from cnf.direction import Direction
from cnf.interfaces.matching import match, unreadable
from cnf.interfaces.modes import choose
from cnf.interfaces.stacking import Stacks, leave_out, listed
from cnf.kernel import foreign
from cnf.kernel.links import Link
from cnf.kernel.nics import Nic
from cnf.kernel.xdp import TAKEN_ABOVE

TX_TAGS: Final = "txvlan off tx-vlan-stag-hw-insert off"
SERIES: Final = 2 * len(PROTOCOL_LABELS) + len(UNPARSED_REASONS) + 2 * len(DROP_REASONS)
"""The number of series of an interface, in a scrape."""
VETH_RESERVE: Final = 590
"""Bytes of a page that native XDP on veth takes beside the payload (veth_xdp_set() of drivers/net/veth.c)."""


class _Reason(NamedTuple):
    """Why something will not be, and the remedy, if there is one."""

    why: str
    remedy: str | None = None


def judge_interfaces(nics: Iterable[Nic], settings: config.Settings, ours: Collection[int] | None) -> Iterator[Finding]:
    """Say what cnfd would make of the interfaces.

    ``ours`` are the ids of the programs that are cnfd's; None: this user cannot tell.
    """
    known = {nic.link.index: nic for nic in nics}
    links = [nic.link for nic in known.values()]
    stacks = Stacks(links)
    chosen, missing = match(links, settings.interfaces)
    no_native = {index: why for index in chosen if (why := _not_native(known[index], _crowding(index, links, chosen)))}
    below_programs = {each for link in links if link.program for each in stacks.below(link.index)}
    refusals: dict[int, _Reason] = {}
    for index, request in chosen.items():
        taken_above = index in below_programs
        if refusal := _refusal(known[index], request, ours, no_native.get(index), taken_above=taken_above):
            refusals[index] = refusal
    served = chosen.keys() - refusals.keys()
    # cnfd ends when every interface refuses it; else it serves the others, or waits for those that are missing.
    ends = len(refusals) == len(chosen) and not missing
    for index, request in chosen.items():
        nic = known[index]
        name = f"interface {nic.link.shown}"
        if index not in refusals:
            yield _expected(name, nic, request, no_native.get(index), ours)
            yield from _behind(name, nic, ours)
        elif ends:
            yield Finding(name, "problem", *refusals[index], os.EX_OSERR)
        else:
            yield Finding(name, "warning", *refusals[index])
        for direction in request.directions if index in served else ():
            others = [each for each in served if direction in chosen[each].directions]
            if repetition := stacks.repetition(index, others, direction):
                yield Finding(name, "warning", repetition, leave_out(nic.link.shown, request.name))
        yield from _joining(name, nic)
    if settings.flows.vlan:
        at_xdp = [known[index] for index in chosen if _is_at_xdp(known[index], chosen[index], no_native.get(index))]
        yield from _hidden_tags(at_xdp, known, stacks)
    yield from map(_missing, missing)
    yield from _room(len(served), settings)


def _refusal(
    nic: Nic,
    request: config.Interface,
    ours: Collection[int] | None,
    no_native: _Reason | None,
    *,
    taken_above: bool,
) -> _Reason | None:
    """Return why the program will not get onto ``nic``; None if it will.

    ``taken_above`` tells that an interface which stands on it has a program.
    """
    choice = choose(nic.link, request.directions[0], request.mode)
    unread = [why for mode in choice.modes if (why := unreadable(nic.link, mode))]
    if len(unread) == len(choice.modes):
        return _Reason(unread[-1])
    program = nic.link.program
    if choice.modes == ("tc",) or (program and ours is not None and program.id in ours):
        return None
    if program is None and taken_above:
        return _Reason(*TAKEN_ABOVE)
    if "tc" in choice.modes:
        return None
    if program is not None and ours is not None:
        return _Reason(*foreign.left_alone(nic.link, program))
    return _native_refused(no_native) if choice.modes == ("native",) and no_native else None


def _not_native(nic: Nic, crowding: Collection[Link]) -> _Reason | None:
    """Return why native XDP is not to be had on ``nic`` as far as is known; None if it may be."""
    if nic.native is False:
        return _Reason("its driver has none")
    if nic.link.kind == "bond" and crowding:  # bond_xdp_set() of drivers/net/bonding/bond_main.c
        return _Reason(f"a member has a program of its own: {listed(crowding)}", "name the bond, or its members")
    most = os.sysconf("SC_PAGE_SIZE") - VETH_RESERVE
    mtu = nic.peer.link.mtu if nic.peer else nic.link.mtu
    if nic.driver == "veth" and mtu > most:
        where = "its other end" if nic.peer else "this end, and so probably its other end,"
        remedy = f"give both ends of the veth pair MTU {most} or less, or use mode generic"
        return _Reason(f"{where} has MTU {mtu}", remedy)
    return None


def _crowding(index: int, links: Iterable[Link], chosen: Collection[int]) -> list[Link]:
    """Return the members of ``index`` that have a program of their own, or will have one."""
    return [link for link in links if link.master == index and (link.index in chosen or link.program)]


def _native_refused(reason: _Reason) -> _Reason:
    remedy = reason.remedy or "mode auto or generic works on any interface"
    return _Reason(f"the kernel will refuse native XDP: {reason.why}", remedy)


def _expected(
    name: str, nic: Nic, request: config.Interface, no_native: _Reason | None, ours: Collection[int] | None
) -> Finding:
    """Say how each direction will be attached on ``nic``, or is."""
    about = f"{nic.driver or 'no driver'}, MTU {nic.link.mtu}"
    if nic.link.program and ours is None and request.directions[0] == "ingress":
        mode, number = nic.link.program
        seen = f"{about}: program {number} ({mode}) is on it, and whether it is cnfd's, this user cannot tell"
        return Finding(name, "unknown", seen, "run the doctor as root")
    parts, remedy = [], None
    for direction in request.directions:
        there = _there(nic, direction, ours or ())
        if there is None:
            there, advice = _forecast(nic, direction, request, no_native, ours or ())
            remedy = remedy or advice
        parts.append(there if direction == "ingress" else f"egress: {there}")
    return Finding(name, "warning" if remedy else "ok", f"{about}: {'; '.join(parts)}", remedy)


def _there(nic: Nic, direction: Direction, ours: Collection[int]) -> str | None:
    """Return the words for the program of cnfd's that is on ``nic`` in this direction; None if none is."""
    program = nic.link.program
    if direction == "ingress" and program and program.id in ours:
        return f"cnfd's program {program.id} ({program.mode}) is on it"
    number = next((each for each in nic.at_tc.get(direction, ()) if each in ours), None)
    return f"cnfd's program {number} (tc) is on it" if number is not None else None


def _forecast(
    nic: Nic, direction: Direction, request: config.Interface, no_native: _Reason | None, ours: Collection[int]
) -> tuple[str, str | None]:
    """Return in which mode the program will be on ``nic`` in this direction, and a remedy if that may be improved."""
    choice = choose(nic.link, direction, request.mode)
    program = nic.link.program
    if choice.modes[0] == "generic":
        return f"generic XDP, {choice.why}", None
    if choice.modes[0] == "tc":
        return f"TC, {choice.why}", None
    if program and program.id not in ours:
        return f"TC, no XDP: {foreign.left_alone(nic.link, program)[0]}", None
    if no_native:
        return f"TC, no native XDP: {no_native.why}", no_native.remedy
    return "native XDP" + ("" if nic.native else ", if its driver has it"), None


def _behind(name: str, nic: Nic, ours: Collection[int] | None) -> Iterator[Finding]:
    """Name what stands before cnfd's program at TC."""
    for direction, at_tc in nic.at_tc.items():
        programs = (nic.link.program.id, *at_tc) if nic.link.program and direction == "ingress" else at_tc
        place = next((place for place, each in enumerate(programs) if each in (ours or ())), 0)
        if place:
            before = ", ".join(map(foreign.named, programs[:place]))
            seen = f"{direction}: {before} runs before cnfd's program: what is dropped or ended there is not counted"
            yield Finding(name, "warning", seen, "stop and start cnfd, no restart: its program will be the first")


def _joining(name: str, nic: Nic) -> Iterator[Finding]:
    if nic.lro:
        seen = "large receive offload joins packets, and some drivers refuse XDP with it"
        yield Finding(name, "warning", seen, f"ethtool -K {shlex.quote(nic.link.shown)} lro off")


def _missing(request: config.Interface) -> Finding:
    seen = "no such interface in this network namespace; cnfd waits for it"
    return Finding(f"interface {request.name}", "warning", seen, "see the names: ip link")


def _is_at_xdp(nic: Nic, request: config.Interface, no_native: _Reason | None) -> bool:
    """Tell whether what comes in on ``nic`` will be counted at XDP: at TC, tags beside the frame are seen."""
    modes = choose(nic.link, request.directions[0], request.mode).modes
    return modes[0] != "tc" and not (no_native and "tc" in modes)


def _hidden_tags(chosen: Iterable[Nic], known: Mapping[int, Nic], stacks: Stacks) -> Iterator[Finding]:
    """Name what takes VLAN tags out of the frame before the program sees it, and where to switch that off.

    A NIC takes them off as it receives; what stands on others has them taken off there. Over a veth it is the other
    end's stack that leaves them beside the frame as it sends.
    """
    stripping: dict[int, Nic] = {}
    ends: list[Nic] = []
    for nic in chosen:
        below = [known[index] for index in stacks.below(nic.link.index)]
        for each in below or [nic]:
            if each.driver == "veth":
                ends += [each] if each.peer is None or each.peer.tx_vlan else []
            elif each.rx_vlan and not stacks.below(each.link.index):
                stripping[each.link.index] = each
    for nic in stripping.values():
        seen = "VLAN tags are taken off before the program sees them: flows show no vlan"
        yield Finding(f"interface {nic.link.shown}", "warning", seen, _switch_off([nic.link], "rxvlan off"))
    if ends:
        links = {nic.link.index: nic.link for nic in ends}.values()
        peers = [nic.peer.link for nic in ends if nic.peer] if len(ends) == 1 else []
        seen = (
            f"{listed(links)}: over a veth, VLAN tags that the other end's node puts on stand beside the frame:"
            " flows show no vlan, of two tags the inner one"
        )
        yield Finding("vlan tags", "warning", seen, f"at the other end: {_switch_off(peers, TX_TAGS)}")


def _switch_off(links: Sequence[Link], features: str) -> str:
    return f"ethtool -K {shlex.quote(links[0].shown) if links else 'NAME'} {features}"


def _room(served: int, settings: config.Settings) -> Iterator[Finding]:
    """Say whether there are counters, and series, for all interfaces."""
    most, metrics = settings.max_interfaces, settings.metrics
    if served > most:
        seen = f"{served:,} interfaces are meant, and {most:,} can be counted: the others will be refused"
        yield Finding("max_interfaces", "warning", seen, f"max_interfaces = {1 << (served - 1).bit_length()}")
    counted = min(served, most)
    series = SERIES * counted + 2 * metrics.top_flows
    if series > metrics.max_series:
        seen = f"{counted:,} interfaces and the largest flows have {series:,} series: scrapes leave some out"
        yield Finding(
            "metrics.max_series", "warning", seen, f"metrics.max_series = {1 << (2 * series - 1).bit_length()}"
        )
