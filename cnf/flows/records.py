"""Flow records: what a flow has counted from one record to the next, for those who keep flows. Pure."""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

from cnf.abi import FLOW4_KEY, FLOW6_KEY, Family

Reason = Literal["idle", "active", "ended", "stopped", "evicted"]
REASONS: Final[tuple[Reason, ...]] = ("idle", "active", "ended", "stopped", "evicted")
"""Why a record was made; in the order of flowEndReason (IANA), which counts from 1."""

_COUNTS: Final[list[Any]] = [
    (name, "<u8")
    for name in (
        "packets",
        "bytes",  # on the wire, as in a flow
        "dropped_packets",
        "dropped_bytes",
        "start",  # jiffies
        "end",  # jiffies
    )
]


def _record(key: np.dtype[Any]) -> np.dtype[Any]:
    names = [name for name in key.names or () if name != "zero"]
    rest = [("tcp_flags", "u1"), ("reason", "u1"), ("link_bytes", "u1"), ("zero", "u1")]
    return np.dtype([*((name, key[name]) for name in names), *rest, *_COUNTS])


FLOW_RECORD: Final[dict[Family, np.dtype[Any]]] = {"ipv4": _record(FLOW4_KEY), "ipv6": _record(FLOW6_KEY)}
"""By family. ``reason`` is an index of REASONS. ``link_bytes`` are what a packet has before its IP header: 14, and 4
for each VLAN tag; 0 where there is no Ethernet."""
