"""Packets of flows drawn by lot, on a clock that goes on between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from cnf.arrays import Records
from tests.bpf.limited import TICK_NS, Clocked
from tests.bpf.packets import TCP, UDP, IPv4, IPv6, frame

LENGTH: Final = 100


def recorded_in(made: Iterable[Records]) -> Counter[int]:
    """Return the packets of all records, by source port."""
    total: Counter[int] = Counter()
    for records in made:
        for port, packets, octets in records[["src_port", "packets", "bytes"]].tolist():
            assert octets == LENGTH * packets
            total[port] += packets
    return total


class Traffic:
    """Send, and count what was sent."""

    def __init__(self, clocked: Clocked, rng: np.random.Generator, *layers: IPv4 | IPv6) -> None:
        """Have the flows' source ports take turns with ``layers``."""
        self._clocked, self._rng = clocked, rng
        self._layers: Sequence[IPv4 | IPv6] = layers
        self.sent = Counter[int]()
        """Packets of LENGTH bytes, by source port."""

    def send(self, ports: int, times: int) -> None:
        """Draw a flow of the first ``ports`` so many times, and send one to four packets of it."""
        for port in self._rng.integers(1, ports, times).tolist():
            flags = str(self._rng.choice(["A", "FA", "A", "A"]))
            layer = TCP(src_port=port, flags=flags) if port % 3 == 0 else UDP(src_port=port)
            packet = frame(self._layers[port % len(self._layers)], layer, pad_to=LENGTH)
            self._clocked.run(packet, count := int(self._rng.integers(1, 5)))
            self.sent[port] += count
            self._clocked.show(self._clocked.now + int(self._rng.integers(3)) * TICK_NS)
