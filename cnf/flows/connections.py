"""Which flows are the two directions of a connection. Pure numpy; the program knows flows only.

A sent flow and a received one are a pair if they are of the same interface, family, protocol and VLAN, with addresses
and ports the other way round; of ICMP, if one is the request and the other its answer. What a router forwards is a pair
on each of the two interfaces, so that the sums are those of the flows.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW_EGRESS, FLOW_FRAGMENT, ICMP, ICMPV6, Family
from cnf.arrays import Mask, Records, Rows
from cnf.filter.predicates import Keyed
from cnf.flows.columns import BLOCK, KEYS
from cnf.flows.matching import identities

REQUESTS: Final[dict[Family, tuple[int, dict[int, int]]]] = {
    "ipv4": (ICMP, {8: 0, 13: 14, 15: 16, 17: 18}),
    "ipv6": (ICMPV6, {128: 129, 139: 140}),
}
"""The number of ICMP, and the types of its requests, each with that of the answer: as conntrack of Linux has them."""
OPPOSITE: Final = {"src_addr": "dst_addr", "dst_addr": "src_addr", "src_port": "dst_port", "dst_port": "src_port"}
_SENT: Final = np.uint64(1)


class Connections:
    """Join the flows of one family, or records of flows."""

    def __init__(self, flows: Keyed) -> None:
        """Look at ``flows``, N of them."""
        self._flows = flows
        self._number, requests = REQUESTS[flows.family]
        self._mirrored = np.arange(256, dtype=np.uint16)
        """By type of ICMP, the one of the other direction."""
        self._leads = np.zeros(256, np.int8)
        """By type of ICMP, 1 for a request, -1 for an answer, 0 for what has neither."""
        for request, answer in requests.items():
            self._mirrored[[request, answer]] = answer, request
            self._leads[[request, answer]] = 1, -1

    def join(self) -> tuple[Rows, Rows]:
        """Return the rows of the pairs: those received, and those sent. A row is in one pair at most."""
        count = len(self._flows)
        identity = np.empty(count, np.uint64)
        for start in range(0, count, BLOCK):
            rows = np.arange(start, min(start + BLOCK, count))
            sent = self._flows.flags[rows] & FLOW_EGRESS != 0
            identity[rows] = identities(self._as_received(rows)) & ~_SENT | sent
        order = np.argsort(identity)
        in_order = identity[order]
        # Of one identity the sent ones follow the received ones: there is one place where they meet.
        received = np.flatnonzero(in_order[1:] ^ in_order[:-1] == _SENT)
        return order[received], order[received + 1]

    def is_icmp(self, rows: Rows) -> Mask:
        """Return which flows have type and code of ICMP in place of ports."""
        is_icmp: Mask = (self._flows.protocol[rows] == self._number) & (self._flows.flags[rows] & FLOW_FRAGMENT == 0)
        return is_icmp

    def asks(self, rows: Rows) -> npt.NDArray[np.int8]:
        """Return 1 for requests of ICMP, -1 for their answers, 0 for all else."""
        return np.where(self.is_icmp(rows), self._leads[self._flows.src_port[rows] & 0xFF], np.int8(0))

    def icmp(self, name: str, rows: Rows) -> npt.NDArray[np.uint16]:
        """Return type or code, in the place of the port ``name``, of the other direction of ICMP flows."""
        values: npt.NDArray[np.uint16] = getattr(self._flows, name)[rows]
        return self._mirrored[values & 0xFF] if name == "src_port" else values

    def _as_received(self, rows: Rows) -> Records:
        """Return the keys of the flows as the received one of the pair has it; of what has no pair, the key itself."""
        flows = self._flows
        keys = np.zeros(len(rows), KEYS[flows.family])
        flags = flows.flags[rows]
        icmp = self.is_icmp(rows)
        alone = icmp & (self._leads[flows.src_port[rows] & 0xFF] == 0)
        sent = (flags & FLOW_EGRESS != 0) & ~alone
        columns = {name: getattr(flows, name)[rows] for name in OPPOSITE}
        for name, opposite in OPPOSITE.items():
            turned = sent.reshape(-1, *(1,) * (columns[name].ndim - 1))
            keys[name] = np.where(turned, columns[opposite], columns[name])
        answered = np.flatnonzero(sent & icmp)
        for name in ("src_port", "dst_port"):
            keys[name][answered] = self.icmp(name, rows[answered])
        for name in ("ifindex", "vlan", "protocol"):
            keys[name] = getattr(flows, name)[rows]
        keys["flags"] = np.where(alone, flags, flags & ~np.uint8(FLOW_EGRESS))
        return keys
