"""The ledger: every packet that the program saw is in exactly one state, and the states add up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from cnf.abi import MALFORMED, NON_IP
from cnf.counts import Count, count_of, total


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that was received, by the state that it is in."""

    received: Count
    states: Mapping[str, Count]

    @property
    def difference(self) -> Count:
        """Return what was received less the sum of the states: 0 at rest, below 0 by what came during the drain."""
        return self.received.minus(total(self.states.values()))

    def completed(self) -> Ledger:
        """Return a ledger that has received at least the sum of its states, where the counts of some are not known."""
        states = total(self.states.values())
        received = Count(max(self.received.packets, states.packets), max(self.received.bytes, states.bytes))
        return Ledger(received, self.states)


def draw_up(
    interfaces: Iterable[npt.NDArray[Any]], live: Count, expired: Count, insert_error: Count, evicted: Count | None
) -> Ledger:
    """Draw up the ledger from the counters of all ``interfaces`` and the sums of the flow tables.

    ``interfaces`` are records of INTERFACE_COUNTERS, shape ().

    ``evicted`` is None where an LRU hash has evicted flows, of which it tells nobody: then what was received and stands
    in no other state counts as evicted. Without evictions, a packet that was lost shows as a difference.
    """
    sums = {label: Count() for label in ("received", "non_ip", "malformed", "dropped")}
    for counters in interfaces:
        packets, octets = counters["packets"], counters["bytes"]
        sums["received"] = sums["received"].plus(count_of(packets, octets))
        sums["dropped"] = sums["dropped"].plus(count_of(counters["dropped_packets"], counters["dropped_bytes"]))
        for label, index in (("non_ip", NON_IP), ("malformed", MALFORMED)):
            sums[label] = sums[label].plus(Count(int(packets[index]), int(octets[index])))
    states = {
        "live": live,
        "expired": expired,
        "evicted": evicted or Count(),
        "non_ip": sums["non_ip"],
        "malformed": sums["malformed"],
        "dropped": sums["dropped"],
        "insert_error": insert_error,
    }
    if evicted is None:
        rest = sums["received"].minus(total(states.values()))
        states["evicted"] = Count(max(rest.packets, 0), max(rest.bytes, 0))
    return Ledger(sums["received"], states)
