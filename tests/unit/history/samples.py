"""Records, counters and drains of a history that a test makes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

import numpy as np

from cnf.abi import DIRECTIONS, DROP_REASONS, FAMILIES, FLOW_EGRESS, PROTOCOL_LABELS, Direction, Family
from cnf.arrays import Records
from cnf.clock import Reading, WallClock
from cnf.counts import Count
from cnf.flows.records import FLOW_RECORD
from cnf.flows.stream import RecordBatch
from cnf.history.block import Block, Sums
from cnf.history.stored import ADDRESS, FLOW
from cnf.history.writer import Drained
from tests.unit.samples import REALTIME, TICK_NS, Flow, interface_counters

SECOND: Final = 10**9
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
START: Final = REALTIME // HOUR * HOUR
"""An hour begins, in ns since the epoch."""
BOOTED: Final = START - 10 * HOUR


def records(*flows: Flow) -> dict[Family, Records]:
    """Return a record of each flow, by family."""
    return {family: _records(family, [flow for flow in flows if flow.family == family]) for family in FAMILIES}


def _records(family: Family, flows: Sequence[Flow]) -> Records:
    result = np.zeros(len(flows), FLOW_RECORD[family])
    for row, flow in enumerate(flows):
        for name, address in (("src_addr", flow.src), ("dst_addr", flow.dst)):
            field = result[name][row : row + 1]
            field[:] = np.frombuffer(ip_address(address).packed, field.dtype).reshape(field.shape)
        for name in ("src_port", "dst_port", "ifindex", "protocol", "tcp_flags", "packets", "bytes"):
            result[name][row] = getattr(flow, name)
        result["dropped_packets"][row], result["dropped_bytes"][row] = flow.dropped_packets, flow.dropped_bytes
        result["flags"][row] = FLOW_EGRESS * flow.sent
        result["start"][row], result["end"][row] = flow.first_seen, flow.last_seen
    return result


def clock(now: int, *, boottime: int | None = None) -> WallClock:
    """Return the clock of a drain at ``now``, in ns since the epoch."""
    since_boot = now - BOOTED if boottime is None else boottime
    return WallClock(Reading(since_boot // TICK_NS, since_boot, since_boot, now), TICK_NS)


def batch(now: int, *flows: Flow, boottime: int | None = None, lost: int = 0) -> RecordBatch:
    """Return what a drain at ``now`` gives to sinks."""
    counts: Mapping[Direction, Count] = {"ingress": Count(lost, 100 * lost), "egress": Count()}
    names = {1: "eth0", 2: "eth1"}
    return RecordBatch(1, clock(now, boottime=boottime), records(*flows), names, {1: ("wan",)}, counts)


def sums(packets: int, rules: Mapping[str, int] | None = None, **interfaces: int) -> Sums:
    """Return counters of eth0, and of further interfaces, that have counted so many TCP packets of 100 bytes.

    ``rules`` have so many passed packets.
    """
    counted = {
        name: interface_counters({"tcp": number}, {"tcp": 100 * number})
        for name, number in ({"eth0": packets} | interfaces).items()
    }
    return Sums(counted, {name: [Count(number, number), Count(), Count()] for name, number in (rules or {}).items()})


def drained(now: int, packets: int | None, *flows: Flow, boottime: int | None = None) -> Drained:
    """Return a drain at ``now``; it ends a block if it says how many packets eth0 has counted."""
    return Drained(batch(now, *flows, boottime=boottime), None if packets is None else sums(packets))


def block(begin: int = START, end: int = START + MINUTE, **parts: Any) -> Block:  # noqa: ANN401 - any part of a block
    """Return a block with one flow, unless ``parts`` say otherwise."""
    empty = {family: np.empty(0, ADDRESS[family]) for family in FAMILIES}
    flows = {family: np.empty(0, FLOW[family]) for family in FAMILIES}
    flows["ipv4"] = np.ones(1, FLOW["ipv4"])
    flows["ipv4"]["ifindex"] = 0
    whole: dict[str, Any] = {
        "begin": begin,
        "end": end,
        "boottime": end - BOOTED,
        "maps": 7,
        "interfaces": sums(5).interfaces,
        "began": (),
        "rules": {"dns": [Count(3, 300), Count(2, 200), Count()]},
        "lost": dict.fromkeys(DIRECTIONS, Count()),
        "names": (("eth0", "wan"),),
        "flows": flows,
        "flow_count": 1,
        "sources": empty,
        "destinations": empty,
    }
    return Block(**(whole | parts))


def packets_of(interfaces: Mapping[str, Records]) -> dict[str, int]:
    """Return how many packets interfaces have received."""
    return {name: int(counters["packets"].sum()) for name, counters in interfaces.items()}


def dropped(packets: int, reason: str = "limited") -> Records:
    """Return the counters of an interface that has dropped so many packets of 100 bytes."""
    counters = interface_counters({"udp": packets}, {"udp": 100 * packets})
    place = DROP_REASONS.index(reason)
    counters["dropped_packets"][place], counters["dropped_bytes"][place] = packets, 100 * packets
    assert counters["packets"][PROTOCOL_LABELS.index("udp")] == packets
    return counters
