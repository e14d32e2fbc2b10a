"""Flow records: what a flow has counted from one record to the next, for those who keep flows. Pure."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW4_KEY, FLOW4_SLOT, FLOW6_KEY, LINK_BYTES_SHIFT, PART_FLAGS_SHIFT, Family
from cnf.arrays import Records, Rows, chosen
from cnf.flows.expiry import TCP_FIN, TCP_RST

Reason = Literal["idle", "active", "ended", "stopped", "evicted"]
REASONS: Final[tuple[Reason, ...]] = ("idle", "active", "ended", "stopped", "evicted")
"""Why a record was made; in the order of flowEndReason (IANA), which counts from 1."""

KEY_FIELDS: Final = [name for name in FLOW4_KEY.names or () if name != "zero"]
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
    rest = [("tcp_flags", "u1"), ("reason", "u1"), ("link_bytes", "<u2")]
    return np.dtype([*((name, key[name]) for name in KEY_FIELDS), *rest, *_COUNTS])


FLOW_RECORD: Final[dict[Family, np.dtype[Any]]] = {"ipv4": _record(FLOW4_KEY), "ipv6": _record(FLOW6_KEY)}
"""By family. ``reason`` is an index of REASONS. ``tcp_flags`` are those of the part; ``link_bytes`` are what the
flow's first packet had before its IP header: 14, and 4 for each VLAN tag; 0 where there is no Ethernet."""


class Before(NamedTuple):
    """What has been recorded of each flow, or of another one that was in its slot before it."""

    counts: Records
    """FLOW_RECORDED, shape (N,)."""
    until: npt.NDArray[np.uint64]
    """Jiffies up to which, shape (N,). If another flow's, they are not after the first packet of this one."""


def part_of(flows: Records, dropped: Records, before: Before, reasons: npt.NDArray[np.uint8]) -> tuple[Records, Rows]:
    """Return what ``flows`` have counted since ``before``, and the rows of those that have counted anything.

    ``flows`` are slots of a flow cache, ``dropped`` FLOW_DROPS and ``reasons`` indexes of REASONS, all of shape (N,).
    A flow that ``before`` is not about counts in whole.
    """
    known = before.counts["first_seen"] == flows["first_seen"]
    counts = {
        "packets": flows["packets"],
        "bytes": flows["bytes"],
        "dropped_packets": dropped["packets"],
        "dropped_bytes": dropped["bytes"],
    }
    since = {name: values - np.where(known, before.counts[name], 0) for name, values in counts.items()}
    rows = np.flatnonzero((since["packets"] != 0) | (since["dropped_packets"] != 0))
    flows = chosen(flows, rows)
    family: Family = "ipv4" if flows.dtype == FLOW4_SLOT else "ipv6"
    records = np.zeros(len(rows), FLOW_RECORD[family])
    for name in KEY_FIELDS:
        records[name] = flows["key"][name]
    for name, values in since.items():
        records[name] = chosen(values, rows)
    tcp_flags = flows["tcp_flags"]
    records["tcp_flags"] = tcp_flags >> np.uint64(PART_FLAGS_SHIFT) & np.uint64(0xFF)
    records["link_bytes"] = tcp_flags >> np.uint64(LINK_BYTES_SHIFT)
    records["reason"] = chosen(reasons, rows)
    records["start"] = np.maximum(chosen(before.until, rows), flows["first_seen"])
    records["end"] = flows["last_seen"]
    return records, rows


def note(elements: Records, places: Rows, flows: Records, dropped: Records) -> None:
    """Write to ``places`` of ``elements``, FLOW_RECORDED, that ``flows``, as above, are recorded.

    Which flow it is about is written last: of a writing that is cut off, a flow counts in whole.
    """
    for name in ("packets", "bytes"):
        elements[name][places], elements[f"dropped_{name}"][places] = flows[name], dropped[name]
    elements["first_seen"][places] = flows["first_seen"]


def reasons_of(slots: Records) -> npt.NDArray[np.uint8]:
    """Return why flows that have expired, slots of a flow cache, did: by the flags that they have shown."""
    ended = slots["tcp_flags"] & np.uint64(TCP_FIN | TCP_RST) != 0
    return np.where(ended, REASONS.index("ended"), REASONS.index("idle")).astype(np.uint8)
