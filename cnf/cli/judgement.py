"""What cnfd will make of the interfaces: which refuse it, in which mode it will be on the others, and caveats."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Final

from cnf import config
from cnf.cli.findings import Finding
from cnf.kernel import foreign
from cnf.kernel.links import ARPHRD_LOOPBACK
from cnf.kernel.nics import Nic

VETH_RESERVE: Final = 590
"""What native XDP on veth keeps of a page beside the payload (veth_xdp_set() of drivers/net/veth.c)."""


def judge_interfaces(nics: Iterable[Nic], settings: config.Settings, ours: Collection[int | None]) -> Iterator[Finding]:
    """Say what cnfd would make of the interfaces; ``ours`` are the ids of a running cnfd's programs."""
    chosen = {nic.link.index: (nic, request) for nic in nics if (request := _request(nic, settings.interfaces))}
    refusals = {index: refusal for index, (nic, request) in chosen.items() if (refusal := _refusal(nic, request, ours))}
    shown = {index: nic.link.shown for index, (nic, _) in chosen.items()}
    met = {request.name for _, request in chosen.values()}
    missing = [request.name for request in settings.interfaces if request.name not in met]
    # cnfd ends when every interface refuses it; else it serves the others, or waits for those that are missing.
    ends = len(refusals) == len(chosen) and not missing
    for index, (nic, request) in chosen.items():
        name = f"interface {shown[index]}"
        if index not in refusals:
            yield _expected(name, nic, request)
        elif ends:
            yield Finding(name, "problem", *refusals[index], os.EX_OSERR)
        else:
            yield Finding(name, "warning", *refusals[index])
        yield from _advice(name, nic, settings.flows, shown)
    for name in missing:
        seen = "no such interface in this network namespace; cnfd waits for it"
        yield Finding(f"interface {name}", "warning", seen, "see the names: ip link")


def _request(nic: Nic, wanted: Iterable[config.Interface]) -> config.Interface | None:
    """Return the entry of the configuration that means ``nic``, as cnfd does."""
    for request in wanted:
        if request.name == nic.link.name:
            return request
        if nic.link.hardware != ARPHRD_LOOPBACK and fnmatchcase(nic.link.name, request.name):
            return request
    return None


def _refusal(nic: Nic, request: config.Interface, ours: Collection[int | None]) -> tuple[str, str | None] | None:
    """Return why the program will not get onto ``nic``, and the remedy; None if it will."""
    if not nic.link.is_ethernet:
        return f"its frames have no Ethernet header (ARP type {nic.link.hardware})", None
    if nic.program and nic.program[1] not in ours:
        mode, number = nic.program
        known, remedy = foreign.describe(nic.link, mode, number)
        return f"program {number} ({known}) is on it and is left alone", remedy
    why = _not_native(nic)
    if why and request.mode == "native":
        return f"the kernel will refuse native XDP: {why[0]}", why[1] or "mode auto or generic works on any interface"
    return None


def _not_native(nic: Nic) -> tuple[str, str | None] | None:
    """Return why native XDP is not to be had on ``nic`` as far as is known, and the remedy; None if it may be."""
    if nic.native is False:
        return "its driver has none", None
    most = os.sysconf("SC_PAGE_SIZE") - VETH_RESERVE
    mtu = nic.link.mtu if nic.peer_mtu is None else nic.peer_mtu
    if nic.driver == "veth" and mtu > most:
        where = "its other end" if nic.peer_mtu is not None else "this end, and so probably its other end,"
        return f"{where} has MTU {mtu}", f"give both ends of the veth pair MTU {most} or less, or use mode generic"
    return None


def _expected(name: str, nic: Nic, request: config.Interface) -> Finding:
    """Say in which mode the program will be on ``nic``."""
    about = f"{nic.driver or 'no driver'}, MTU {nic.link.mtu}"
    if nic.program:
        mode, number = nic.program
        return Finding(name, "ok", f"{about}: cnfd's program {number} ({mode}) is on it")
    if request.mode == "generic":
        return Finding(name, "ok", f"{about}: generic XDP, as configured")
    why = _not_native(nic)
    if why is None:
        return Finding(name, "ok", f"{about}: native XDP" + ("" if nic.native else ", if its driver has it"))
    reason, remedy = why
    return Finding(name, "warning" if remedy else "ok", f"{about}: generic XDP, no native: {reason}", remedy)


def _advice(name: str, nic: Nic, flows: config.Flows, chosen: dict[int, str]) -> Iterator[Finding]:
    """Name what does not stop cnfd and makes its numbers wrong."""
    quoted = shlex.quote(nic.link.shown)
    # The tags of a veth are those that its other end sends; its own setting changes nothing.
    if nic.rx_vlan and flows.vlan and nic.driver != "veth":
        seen = "VLAN tags are taken off before the program sees them: flows show no vlan"
        yield Finding(name, "warning", seen, f"ethtool -K {quoted} rxvlan off")
    if nic.lro:
        seen = "large receive offload joins packets, and some drivers refuse XDP with it"
        yield Finding(name, "warning", seen, f"ethtool -K {quoted} lro off")
    if nic.master in chosen:
        seen = f"a member of {chosen[nic.master]}, which is tracked too: its packets count twice"
        yield Finding(name, "warning", seen, "name one of the two under [[interfaces]]")
