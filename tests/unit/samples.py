"""Flows as a person would write them, and the records, columns and snapshots that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import numpy as np

from cnf.abi import (
    DIRECTIONS,
    FAMILIES,
    FLOW4_KEY,
    FLOW6_KEY,
    FLOW_EGRESS,
    FLOW_FRAGMENT,
    FLOW_VALUE,
    INSERT_ERRORS,
    INTERFACE_COUNTERS,
    PROTOCOL_LABELS,
    TCP,
    VLAN_PRESENT,
    Family,
)
from cnf.arrays import Records
from cnf.clock import Reading, WallClock
from cnf.counts import Count, total
from cnf.flows.columns import FlowColumns
from cnf.flows.ledger import InTables, draw_up
from cnf.flows.snapshot import Snapshot, TableState

TICK_NS: Final = 4_000_000
JIFFIES: Final = (1 << 32) + 1_000_000
REALTIME: Final = 1_700_000_000_000_000_000  # 2023-11-14T22:13:20Z
NOW: Final = Reading(JIFFIES, JIFFIES * TICK_NS, JIFFIES * TICK_NS, REALTIME)
CLOCK: Final = WallClock(NOW, TICK_NS)
NAMES: Final = {1: "eth0", 2: "eth1"}


@dataclass(frozen=True)
class Flow:
    """A flow and what it has counted; for ICMP the ports are type and code."""

    src: str = "192.0.2.1"
    src_port: int = 40000
    dst: str = "198.51.100.2"
    dst_port: int = 443
    protocol: int = TCP
    ifindex: int = 1
    vlan: int | None = None
    fragment: bool = False
    packets: int = 1
    bytes: int = 100
    first_seen: int = JIFFIES
    last_seen: int = JIFFIES
    tcp_flags: int = 0
    dropped_packets: int = 0
    dropped_bytes: int = 0
    sent: bool = False

    @property
    def family(self) -> Family:
        """Return the IP version."""
        return "ipv4" if ip_address(self.src).version == 4 else "ipv6"


def records(flows: Sequence[Flow], family: Family) -> tuple[Records, Records]:
    """Return keys and values as the kernel would have them."""
    keys = np.zeros(len(flows), FLOW4_KEY if family == "ipv4" else FLOW6_KEY)
    values = np.zeros(len(flows), FLOW_VALUE)
    for row, flow in enumerate(flows):
        for name, address in (("src_addr", flow.src), ("dst_addr", flow.dst)):
            keys[name][row : row + 1] = np.frombuffer(ip_address(address).packed, keys[name].dtype).reshape(
                keys[name][row : row + 1].shape
            )
        for name in ("src_port", "dst_port", "ifindex", "protocol"):
            keys[name][row] = getattr(flow, name)
        keys["vlan"][row] = 0 if flow.vlan is None else VLAN_PRESENT | flow.vlan
        keys["flags"][row] = FLOW_FRAGMENT * flow.fragment | FLOW_EGRESS * flow.sent
        for name in FLOW_VALUE.names or ():
            values[name][row] = getattr(flow, name)
    return keys, values


def columns(flows: Iterable[Flow], family: Family) -> FlowColumns:
    """Return the flows of ``family`` as columns."""
    chosen = [flow for flow in flows if flow.family == family]
    result = FlowColumns.empty(family, len(chosen))
    result.fill(0, *records(chosen, family))
    return result


def interface_counters(*counts: Mapping[str, int]) -> Records:
    """Return the counters of an interface from packets and bytes by label, received and then sent."""
    counters = np.zeros((), INTERFACE_COUNTERS)
    for field, by_label in zip(("packets", "bytes", "sent_packets", "sent_bytes"), counts, strict=False):
        for label, count in by_label.items():
            counters[field][PROTOCOL_LABELS.index(label)] = count
    return counters


def snapshot(
    *flows: Flow,
    received: Mapping[str, Records] | None = None,
    clock: WallClock = CLOCK,
    names: Mapping[int, str] = NAMES,
) -> Snapshot:
    """Return what a drain would leave that found ``flows``."""
    tables = {family: columns(flows, family) for family in FAMILIES}
    live = {
        direction: total(Count(flow.packets, flow.bytes) for flow in flows if flow.sent == bool(place))
        for place, direction in enumerate(DIRECTIONS)
    }
    received = received or {}
    return Snapshot(
        clock=clock,
        duration=0.25,
        flows=tables,
        tables={
            family: TableState(len(table), 1000, 1000, len(table), 0, 0, dict.fromkeys(INSERT_ERRORS, 0))
            for family, table in tables.items()
        },
        received=received,
        ledgers={
            direction: draw_up(direction, received.values(), InTables(live[direction], Count(), Count(), Count()))
            for direction in DIRECTIONS
        },
        names=names,
    )
