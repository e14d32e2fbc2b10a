"""Connections: both directions in one row, joined when somebody asks. Pure numpy.

A flow that was evicted is in no pair.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW_EGRESS, FLOW_OPENED, TCP, Family
from cnf.arrays import Mask, Rows
from cnf.flows.connections import OPPOSITE, Connections
from cnf.flows.snapshot import Finish, Part

NONE: Final = -1
"""In place of a row, where a connection was seen in one direction only."""
SYN: Final = 0x02
ACK: Final = 0x10

_COUNTS: Final = ("packets", "bytes", "dropped_packets", "dropped_bytes", "packet_rate", "byte_rate")
_TOGETHER: Final[dict[str, np.ufunc]] = dict.fromkeys(_COUNTS, np.add) | {"tcp_flags": np.bitwise_or}
"""By column, what makes one value of those of both directions."""


class Pairs:
    """The connections of one family, each as the row of its initiator's flow, and that of the other one."""

    def __init__(self, part: Part) -> None:
        """Join the flows of ``part``."""
        flows = part.flows
        self.family: Family = flows.family
        self.finish: Finish | None = part.finish
        self._flows = flows
        self._connections = Connections(flows)
        first, second = (
            self._connections.join() if part.finish is None else (np.empty(0, np.intp), np.empty(0, np.intp))
        )
        alone = np.ones(len(flows), np.bool_)
        alone[first] = alone[second] = False
        self.forward, self.reverse = self._in_order(first, second, np.flatnonzero(alone))
        """Rows of the flows, shape (N,), or NONE; not both."""

    @property
    def size(self) -> int:
        """Return the number of connections."""
        return len(self.forward)

    def matching(self, mask: Mask) -> Mask:
        """Return which connections have a flow that ``mask``, of the flows, marks."""
        marked = np.append(mask, False)
        either: Mask = marked[self.forward] | marked[self.reverse]
        return either

    def column(self, name: str, rows: Rows | slice) -> npt.NDArray[Any]:
        """Return the values of some connections: of the direction that ``name`` begins with, or of both together."""
        forward, reverse = self.forward[rows], self.reverse[rows]
        direction, _, rest = name.partition("_")
        if direction in ("forward", "reverse"):
            return self._of(rest, forward if direction == "forward" else reverse)
        if name in _TOGETHER:
            both: npt.NDArray[Any] = _TOGETHER[name](self._of(name, forward), self._of(name, reverse))
            return both
        one, other = (np.where(row == NONE, instead, row) for row, instead in ((forward, reverse), (reverse, forward)))
        values: npt.NDArray[Any] = getattr(self._flows, name)[one]
        match name:
            case "first_seen":
                np.minimum(values, self._flows.first_seen[other], out=values)
            case "last_seen":
                np.maximum(values, self._flows.last_seen[other], out=values)
            case _:
                self._turn(name, values, one, forward == NONE)
        return values

    def _of(self, name: str, rows: Rows) -> npt.NDArray[Any]:
        """Return the flows' values, 0 for NONE."""
        column = getattr(self._flows, name)
        values = np.zeros(len(rows), column.dtype)
        there = rows != NONE
        values[there] = column[rows[there]]
        return values

    def _turn(self, name: str, values: npt.NDArray[Any], rows: Rows, turned: Mask) -> None:
        """Write into ``values``, of the flows ``rows``, those that the other direction of the ``turned`` ones has."""
        rows = rows[turned]
        if name == "flags":
            values[turned] ^= np.uint8(FLOW_EGRESS)
        elif name in OPPOSITE:
            opposite = getattr(self._flows, OPPOSITE[name])[rows]
            if name.endswith("port"):
                icmp = self._connections.is_icmp(rows)
                opposite[icmp] = self._connections.icmp(name, rows[icmp])
            values[turned] = opposite

    def _in_order(self, first: Rows, second: Rows, alone: Rows) -> tuple[Rows, Rows]:
        """Return the rows of both directions, of pairs and then of flows that are alone, the initiator's first."""
        flows = self._flows
        lead = self._initiates(first).astype(np.int64) - self._initiates(second)
        # Then the one that was seen first; the time is that of a tick, so that both may be of one: then the received.
        begun = flows.first_seen[second].astype(np.int64) - flows.first_seen[first].astype(np.int64)
        received = (flows.flags[second] & FLOW_EGRESS).astype(np.int64) - (flows.flags[first] & FLOW_EGRESS)
        swapped = np.where(lead, lead, np.where(begun, begun, received)) < 0
        answer = self._initiates(alone) < 0
        none = np.full(len(alone), NONE)
        return (
            np.concatenate((np.where(swapped, second, first), np.where(answer, none, alone))),
            np.concatenate((np.where(swapped, first, second), np.where(answer, alone, none))),
        )

    def _initiates(self, rows: Rows) -> npt.NDArray[np.int8]:
        """Return 1 for flows that show to be the initiator's, -1 for the other one's, 0 for what does not tell."""
        flows = self._flows
        tcp_flags, protocol = flows.tcp_flags[rows], flows.protocol[rows]
        opens = (tcp_flags & FLOW_OPENED != 0) | (tcp_flags & (SYN | ACK) == SYN)
        answers = ~opens & (tcp_flags & SYN != 0)
        return np.where(protocol == TCP, opens.astype(np.int8) - answers.astype(np.int8), self._connections.asks(rows))
