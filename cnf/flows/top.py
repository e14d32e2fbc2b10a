"""The largest flows as Prometheus counters: they never go down, and their increases miss no packet. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest
from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.abi import MALFORMED, NON_IP, PROTOCOL_LABELS, Direction, protocol_label
from cnf.arrays import Rows
from cnf.counts import Count
from cnf.flows.columns import FlowColumns, identity
from cnf.flows.fields import FIELDS, Shown, describe
from cnf.flows.largest import largest
from cnf.flows.snapshot import Part, Snapshot

OTHER: Final = "other"
PROVEN: Final = 3
"""Drains in which a flow has to grow before it gets a series: that at which it comes among the largest, and later ones.

A flood of flows with a packet each gets none, whatever its packets' size is.
"""


class FlowLabels(NamedTuple):
    """The labels of one series. Flows that differ in other fields only (VLAN, ICMP type) share a series."""

    interface: str
    protocol: str
    src: str
    dst: str
    src_port: str
    dst_port: str
    direction: str


LABELS: Final = {
    "interface": "interface",
    "src": "src_addr",
    "dst": "dst_addr",
    "src_port": "src_port",
    "dst_port": "dst_port",
    "direction": "direction",
}
"""By label, the field of /v1/flows that it shows. ``protocol`` is that of ``cnf_received_*``, for sums to compare."""
COUNTERS: Final[dict[Direction, tuple[str, str]]] = {
    "ingress": ("packets", "bytes"),
    "egress": ("sent_packets", "sent_bytes"),
}
"""The fields of INTERFACE_COUNTERS that a direction's series add up to."""

LABELLED: Final = {name: FIELDS[name] for name in LABELS.values()}


class _Flow(NamedTuple):
    """One of the largest flows."""

    labels: FlowLabels
    life: tuple[bytes, int]
    """Identity and first packet's time: together they tell the flow from one that was made anew."""
    now: Count


class _Seen(NamedTuple):
    """What the latest drain has found of one of the largest flows."""

    growths: int
    """Drains in which it has grown, counted from that at which it came among the largest."""
    counted: Count


class FlowSeries:
    """Give each of the largest flows that keep growing a series, and sum the rest by interface, protocol and direction.

    A flow gets its series after PROVEN drains. The series begins at 0: what the flow had counted before stays in the
    rest. When a flow is not among the largest any more, its series ends. A flow that is made anew meanwhile, or differs
    in no label, goes on in the series. So no series ever goes down, and the increases of all add up to those of
    ``cnf_received_*`` and ``cnf_sent_*``.
    """

    def __init__(self) -> None:
        """Start with no series."""
        self.values: dict[FlowLabels, Count] = {}
        self._seen: dict[tuple[bytes, int], _Seen] = {}
        self._credited: dict[tuple[str, str, str], Count] = {}
        """By interface, protocol and direction, what the series of flows have got."""
        self._drained_at = 0

    def hand_over(self) -> dict[str, Any]:
        """Return what the next daemon must know."""
        return {
            "values": [[*labels, *count] for labels, count in self.values.items()],
            "seen": [[key.hex(), first, seen.growths, *seen.counted] for (key, first), seen in self._seen.items()],
            "credited": [[*where, *count] for where, count in self._credited.items()],
            "drained_at": self._drained_at,
        }

    def take_over(self, document: dict[str, Any] | None) -> None:
        """Go on from what ``hand_over()`` returned."""
        if not document:
            return
        values = {FlowLabels(*row[:-2]): Count(*row[-2:]) for row in document["values"]}
        seen = {
            (bytes.fromhex(key), first): _Seen(growths, Count(*count))
            for key, first, growths, *count in document["seen"]
        }
        credited = {(name, label, way): Count(*count) for name, label, way, *count in document["credited"]}
        self._drained_at = int(document["drained_at"])
        self.values, self._seen, self._credited = values, seen, credited

    def update(self, snapshot: Snapshot, count: int) -> None:
        """Take in the next drain, with the ``count`` largest flows by bytes; ``values`` is made anew."""
        values: dict[FlowLabels, Count] = {}
        seen: dict[tuple[bytes, int], _Seen] = {}
        for labels, life, now in _largest(snapshot, count):
            # By flow and not by series: flows that share a series come among the largest at different drains.
            _key, first_seen = life
            growths, before = self._seen.get(life, _Seen(0, Count() if first_seen > self._drained_at else now))
            increase = now.minus(before)
            growths += life not in self._seen or increase.packets > 0
            seen[life] = _Seen(growths, now)
            if labels in self.values:
                values[labels] = values.get(labels, self.values[labels]).plus(increase)
                where = labels.interface, labels.protocol, labels.direction
                self._credited[where] = self._credited.get(where, Count()).plus(increase)
            elif growths >= PROVEN:
                values[labels] = Count()
        self._seen = seen
        # An interface that is shown no more counts from 0 if it comes back.
        self._credited = {where: count for where, count in self._credited.items() if where[0] in snapshot.received}
        self._drained_at = snapshot.clock.now.jiffies
        # The rest comes first: where there are too many series, the smallest flows are left out.
        self.values = self._rest(snapshot) | values

    def _rest(self, snapshot: Snapshot) -> dict[FlowLabels, Count]:
        rest: dict[FlowLabels, Count] = {}
        for (name, counters), (way, (packets, octets)) in product(snapshot.received.items(), COUNTERS.items()):
            for index in np.flatnonzero(counters[packets]):
                if index in (NON_IP, MALFORMED):
                    continue
                seen = Count(int(counters[packets][index]), int(counters[octets][index]))
                label = PROTOCOL_LABELS[index]
                now = seen.minus(self._credited.get((name, label, way), Count()))
                labels = FlowLabels(name, label, OTHER, OTHER, "", "", way)
                # Flows are read after the counters, so that under traffic the rest may seem to shrink.
                before = self.values.get(labels, Count())
                rest[labels] = Count(max(now.packets, before.packets), max(now.bytes, before.bytes))
        return rest


def _largest(snapshot: Snapshot, count: int) -> list[_Flow]:
    found: list[_Flow] = []
    for flows in snapshot.flows.values():
        found += _flows(snapshot, flows, largest(flows.bytes, count))
    return nlargest(count, found, key=lambda flow: flow.now.bytes)


def _flows(snapshot: Snapshot, flows: FlowColumns, rows: Rows) -> Iterator[_Flow]:
    shown = Shown(Part(flows, None), rows, snapshot.clock, snapshot.names)
    for row, fields in zip(rows, describe(shown, LABELLED), strict=True):
        texts = {label: "" if fields[name] is None else str(fields[name]) for label, name in LABELS.items()}
        labels = FlowLabels(protocol=protocol_label(flows.family, int(flows.protocol[row])), **texts)
        life = identity(flows, row), int(flows.first_seen[row])
        yield _Flow(labels, life, Count(int(flows.packets[row]), int(flows.bytes[row])))
