"""The largest flows as counters that never go down, and whose increases miss nothing. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from cnf.flows import largest
from cnf.ledger import Count
from cnf.listing import address
from cnf.records import MALFORMED, NON_IP, PROTOCOL_LABELS, SCTP, TCP, UDP, protocol_label
from cnf.snapshot import Snapshot

OTHER: Final = "other"


class FlowLabels(NamedTuple):
    """The labels of one series; flows that differ in nothing shown here (VLAN, ICMP type) share it."""

    interface: str
    protocol: str
    src: str
    dst: str
    src_port: str
    dst_port: str


@dataclass(slots=True)
class _Followed:
    """What a series' flows had counted at the last drain, and the series' own value."""

    seen: Count
    value: Count


class FlowSeries:
    """Give the largest flows a series each, from drain to drain, and sum the rest by interface and protocol.

    A flow's series counts from when the flow came among the largest: for one that was there from its first drain on,
    all it has. What it counted before stays in the rest. A flow that leaves takes its series with it. So no series ever
    goes down, and their increases add up to those of ``cnf_received_*``.
    """

    def __init__(self) -> None:
        """Start with no series."""
        self.values: dict[FlowLabels, Count] = {}
        self._followed: dict[FlowLabels, _Followed] = {}
        self._credited: dict[tuple[str, str], Count] = {}
        self._drained_at = 0

    def update(self, snapshot: Snapshot, count: int) -> None:
        """Take in the next drain, with the ``count`` largest flows by bytes; ``values`` is made anew."""
        followed: dict[FlowLabels, _Followed] = {}
        for labels, (now, fresh) in self._largest(snapshot, count).items():
            before = self._followed.get(labels, _Followed(Count() if fresh else now, Count()))
            went_back = now.packets < before.seen.packets  # the flow ended, and was made anew
            increase = now if went_back else now.minus(before.seen)
            followed[labels] = _Followed(now, before.value.plus(increase))
            where = labels.interface, labels.protocol
            self._credited[where] = self._credited.get(where, Count()).plus(increase)
        self._followed = followed
        self._drained_at = snapshot.clock.now.jiffies
        self.values = {labels: series.value for labels, series in followed.items()} | self._rest(snapshot)

    def _largest(self, snapshot: Snapshot, count: int) -> dict[FlowLabels, tuple[Count, bool]]:
        """Return counts by labels, and whether all flows behind them are younger than the drain before."""
        rows = [
            (int(flows.bytes[row]), int(flows.packets[row]), flows, int(row))
            for flows in snapshot.flows.values()
            for row in largest(flows.bytes, count)
        ]
        rows.sort(key=lambda entry: entry[0], reverse=True)
        result: dict[FlowLabels, tuple[Count, bool]] = {}
        for octets, packets, flows, row in rows[:count]:
            protocol = int(flows.protocol[row])
            ports = protocol in (TCP, UDP, SCTP)
            labels = FlowLabels(
                interface=snapshot.names.get(int(flows.ifindex[row]), str(flows.ifindex[row])),
                protocol=protocol_label(flows.family, protocol),
                src=address(flows, "src_addr", row),
                dst=address(flows, "dst_addr", row),
                src_port=str(flows.src_port[row]) if ports else "",
                dst_port=str(flows.dst_port[row]) if ports else "",
            )
            sum_before, fresh = result.get(labels, (Count(), True))
            fresh = fresh and int(flows.first_seen[row]) > self._drained_at
            result[labels] = sum_before.plus(Count(packets, octets)), fresh
        return result

    def _rest(self, snapshot: Snapshot) -> dict[FlowLabels, Count]:
        rest: dict[FlowLabels, Count] = {}
        for name, counters in snapshot.received.items():
            for index in np.flatnonzero(counters["packets"]):
                if index in (NON_IP, MALFORMED):
                    continue
                received = Count(int(counters["packets"][index]), int(counters["bytes"][index]))
                label = PROTOCOL_LABELS[index]
                now = received.minus(self._credited.get((name, label), Count()))
                labels = FlowLabels(name, label, OTHER, OTHER, "", "")
                # The flows are read after the counters, so that under traffic the rest can seem to shrink.
                before = self.values.get(labels, Count())
                rest[labels] = Count(max(now.packets, before.packets), max(now.bytes, before.bytes))
        return rest
