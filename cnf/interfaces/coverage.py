"""Coverage: what was counted of an interface, divided by what its driver's own statistics have. Pure.

Both are taken at each look at the interfaces, one right after the other, from the first look on at which the program is
there. Drivers differ in what they count:

- Most NICs count every packet on the wire. Their bytes may have the checksum behind each frame, and its padding.
- Virtual interfaces, and the NICs of some clouds, count a super-frame as one packet, and its headers once. So they have
  fewer packets than there are on the wire, and up to 5 % fewer bytes.
- A veth with native XDP counts its received bytes without Ethernet headers.

So packets are compared; where that cannot be, since more were counted than the statistics have, bytes are. Of virtual
interfaces, whose statistics have no checksums, the lower of both ratios holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cnf.arrays import Records
from cnf.counts import Count, count_of
from cnf.direction import Direction

ENOUGH: Final = 1000
"""Packets of the statistics from which on a ratio is said: both are not read at the very same moment."""
SAME: Final = 1.01
"""Ratio of packets up to which both count the same things."""


class Reading(NamedTuple):
    """What was counted of a direction, and what the driver's statistics have."""

    counted: Count
    statistics: Count


class Coverages:
    """Compare both for each interface and direction, from when the program is there."""

    def __init__(self) -> None:
        """Start with none."""
        self._first: dict[tuple[int, Direction], Reading] = {}
        self._latest: dict[tuple[int, Direction], Reading] = {}

    def observe(self, index: int, direction: Direction, reading: Reading) -> None:
        """Take a reading of an interface that has the program. One that went down, as at a reset, begins anew."""
        key = index, direction
        latest = self._latest.get(key, reading)
        pairs = zip((*reading.counted, *reading.statistics), (*latest.counted, *latest.statistics), strict=True)
        if any(now < then for now, then in pairs):
            self.forget(index, direction)
        self._first.setdefault(key, reading)
        self._latest[key] = reading

    def forget(self, index: int, direction: Direction) -> None:
        """Begin anew when the program is there again."""
        for readings in (self._first, self._latest):
            readings.pop((index, direction), None)

    def ratio(self, index: int, direction: Direction, *, virtual: bool) -> float | None:
        """Return what share of the statistics was counted; None if there is no such interface, or too few packets."""
        first, latest = (readings.get((index, direction)) for readings in (self._first, self._latest))
        if first is None or latest is None:
            return None
        counted, statistics = (now.minus(then) for now, then in zip(latest, first, strict=True))
        if statistics.packets < ENOUGH or not statistics.bytes:
            return None
        packets, octets = counted.packets / statistics.packets, counted.bytes / statistics.bytes
        return min(packets, octets) if virtual or packets > SAME else packets


def counted_of(counters: Records) -> dict[Direction, Count]:
    """Return what INTERFACE_COUNTERS, shape (), have of each direction."""
    return {
        "ingress": count_of(counters["packets"], counters["bytes"]),
        "egress": count_of(counters["sent_packets"], counters["sent_bytes"]),
    }
