"""The ledger: every packet that the program saw is in exactly one state, and the states add up. Pure.

There is one of what was received, and one of what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import DIRECTIONS, FLOW_EGRESS, MALFORMED, NON_IP, Direction
from cnf.counts import Count, count_of, total

Counts = Mapping[Direction, Count]
NOTHING: Final[Counts] = dict.fromkeys(DIRECTIONS, Count())


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that was seen in one direction, by the state that it is in."""

    seen: Count
    states: Mapping[str, Count]

    @property
    def difference(self) -> Count:
        """Return what was seen less the sum of the states: 0 at rest, below 0 by what came during the drain."""
        return self.seen.minus(total(self.states.values()))

    def completed(self) -> Ledger:
        """Return a ledger that has seen at least the sum of its states, where the counts of some are not known."""
        states = total(self.states.values())
        seen = Count(max(self.seen.packets, states.packets), max(self.seen.bytes, states.bytes))
        return Ledger(seen, self.states)


def by_direction(
    flags: npt.NDArray[np.uint8], packets: npt.NDArray[np.uint64], octets: npt.NDArray[np.uint64]
) -> dict[Direction, Count]:
    """Return the sums of two columns of flows, which have these ``flags`` in their keys."""
    sent = (flags & FLOW_EGRESS) != 0
    every, egress = count_of(packets, octets), Count()
    if sent.any():
        egress = count_of(packets[sent], octets[sent])
    return {"ingress": every.minus(egress), "egress": egress}


def plus(some: Counts, others: Counts) -> dict[Direction, Count]:
    """Add up two counts, direction by direction."""
    return {direction: some[direction].plus(others[direction]) for direction in DIRECTIONS}


class InTables(NamedTuple):
    """What the flow tables know of the packets of one direction."""

    live: Count
    expired: Count
    insert_error: Count
    evicted: Count | None
    """None where an LRU hash has evicted flows, of which it tells nobody."""


def draw_up(direction: Direction, interfaces: Iterable[npt.NDArray[Any]], flows: InTables) -> Ledger:
    """Draw up one direction's ledger from the counters of all ``interfaces`` and the sums of the flow tables.

    ``interfaces`` are records of INTERFACE_COUNTERS, shape ().

    Where nobody knows what evicted flows had counted, what was seen and stands in no other state counts as evicted.
    Without evictions, a packet that was lost shows as a difference.
    """
    sums = {label: Count() for label in ("seen", "non_ip", "malformed", "dropped")}
    way = "" if direction == "ingress" else "sent_"
    for counters in interfaces:
        packets, octets = counters[f"{way}packets"], counters[f"{way}bytes"]
        sums["seen"] = sums["seen"].plus(count_of(packets, octets))
        if direction == "ingress":  # nothing that is sent is dropped
            sums["dropped"] = sums["dropped"].plus(count_of(counters["dropped_packets"], counters["dropped_bytes"]))
        for label, index in (("non_ip", NON_IP), ("malformed", MALFORMED)):
            sums[label] = sums[label].plus(Count(int(packets[index]), int(octets[index])))
    states = {
        "live": flows.live,
        "expired": flows.expired,
        "evicted": flows.evicted or Count(),
        "non_ip": sums["non_ip"],
        "malformed": sums["malformed"],
        "dropped": sums["dropped"],
        "insert_error": flows.insert_error,
    }
    if flows.evicted is None:
        rest = sums["seen"].minus(total(states.values()))
        states["evicted"] = Count(max(rest.packets, 0), max(rest.bytes, 0))
    return Ledger(sums["seen"], states)
