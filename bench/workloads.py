"""What a program is given to do: how many flows, on how many CPUs, and the frames that say so to ``change.h``."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from cnf.abi import Family
from tests.bpf.packets import TCP, IPv4, IPv6, frame

Name = Literal["one_flow", "flows_16k", "flows_512k", "new_flows"]

AT_RANDOM: Final = 0
IN_TURN: Final = 1
"""Orders of ``struct course``."""

ESTABLISHED: Final = 10 << 24
NEW: Final = 2 << 28
"""Where the addresses of these flows begin; those of established ones are the same in every workload."""
NEVER_TWICE: Final = 1 << 28
PAYLOAD: Final = bytes(10)


class Workload(NamedTuple):
    """Flows to send packets of; ``flows`` 0 leaves the frame as it is."""

    name: Name
    flows: int
    packets: int
    """What one run sends."""
    order: int = AT_RANDOM
    first: int = ESTABLISHED


ONE_FLOW: Final = Workload("one_flow", 0, 50_000)
FLOWS_16K: Final = Workload("flows_16k", 1 << 14, 20_000)
FLOWS_512K: Final = Workload("flows_512k", 1 << 19, 20_000)
NEW_FLOWS: Final = Workload("new_flows", NEVER_TWICE, 20_000, IN_TURN, NEW)


class Case(NamedTuple):
    """A workload on so many CPUs: all on the same flow, or each on flows of its own, which share the number."""

    workload: Workload
    cpus: int
    same_flow: bool | None = None


ESTABLISHED_CASES: Final = (
    *(Case(workload, 1) for workload in (ONE_FLOW, FLOWS_16K, FLOWS_512K)),
    Case(ONE_FLOW, 2, same_flow=True),
    *(Case(workload, 2, same_flow=False) for workload in (ONE_FLOW, FLOWS_16K, FLOWS_512K)),
)
NEW_CASES: Final = (Case(NEW_FLOWS, 1), Case(NEW_FLOWS, 2, same_flow=False))


def course(family: Family, flows: int, first: int, order: int, payload: bytes = PAYLOAD) -> bytes:
    """Return a frame that change.h gives one of ``flows`` source addresses from ``first`` on."""
    return steered(frame(IPv4() if family == "ipv4" else IPv6(), TCP(), payload), flows, first, order)


def one_flow(family: Family, number: int = 0) -> bytes:
    """Return a frame of the flow ``number``, below 250, that stays as it is."""
    host = number + 1
    source = IPv4(src=f"198.51.100.{host}") if family == "ipv4" else IPv6(src=f"2001:db8:0:{host}::1")
    return steered(frame(source, TCP(), PAYLOAD))


def steered(packet: bytes, flows: int = 0, first: int = 0, order: int = AT_RANDOM) -> bytes:
    """Return ``packet`` with a ``struct course`` in place of its MAC addresses."""
    addresses = struct.pack("=III", flows, first, order)
    return addresses + packet[len(addresses) :]


def frames(case: Case, family: Family) -> Sequence[bytes]:
    """Return a frame for each CPU."""
    workload, together = case.workload, case.same_flow
    if not workload.flows:
        return [one_flow(family, 0 if together else index) for index in range(case.cpus)]
    share = workload.flows // case.cpus
    return [course(family, share, workload.first + index * share, workload.order) for index in range(case.cpus)]
