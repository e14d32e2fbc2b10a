"""How the flows and addresses of a block are stored: each address once, and times in ms before the end. Pure.

Addresses do not get smaller when they are compressed: so each stands in a table, and rows have its place there.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import Family
from cnf.arrays import Records
from cnf.flows.columns import KEYS
from cnf.flows.records import KEY_FIELDS

COUNTS: Final[list[Any]] = [(name, "<u8") for name in ("packets", "bytes", "dropped_packets", "dropped_bytes")]
FLOW: Final[dict[Family, np.dtype[Any]]] = {
    family: np.dtype(
        [*((name, key[name]) for name in KEY_FIELDS), ("tcp_flags", "<u2"), *COUNTS, ("start", "<u8"), ("end", "<u8")]
    )
    for family, key in KEYS.items()
}
"""A flow in a block, by family: ``ifindex`` is its interface's place in ``names``; times are ns since the epoch."""
ADDRESS: Final[dict[Family, np.dtype[Any]]] = {
    family: np.dtype([("addr", key["src_addr"]), ("flags", "u1"), *COUNTS]) for family, key in KEYS.items()
}
"""A source or a destination, by family, and its direction: ``flags`` has FLOW_EGRESS or nothing."""

_SHORT: Final = dict.fromkeys(("src_addr", "dst_addr", "addr"), "<u2") | dict.fromkeys(("start", "end"), "<u4")
"""The fields that are stored in another form: a block has fewer than 65,536 addresses."""
_MS: Final = 10**6
_MOST: Final = (1 << 32) - 1


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype([(name, _SHORT.get(name, dtype[name])) for name in dtype.names or ()])


class Table(NamedTuple):
    """The flows, sources and destinations of one family."""

    flows: Records
    """FLOW, shape (N,)."""
    sources: Records
    """ADDRESS, shape (N,)."""
    destinations: Records


def dtypes(family: Family) -> tuple[np.dtype[Any], ...]:
    """Return how what ``store()`` returns is stored."""
    flow, address = _stored(FLOW[family]), _stored(ADDRESS[family])
    return np.dtype(f"V{KEYS[family]['src_addr'].itemsize}"), flow, address, address


def store(family: Family, table: Table, end: int) -> tuple[Records, ...]:
    """Return the addresses, and the rows of the table in an order that suits them; the block ends at ``end``, in ns.

    Of a flow's times, those of its end are in ms before the block's, and those of its start before its own end.
    """
    columns = [table.flows["src_addr"], table.flows["dst_addr"], table.sources["addr"], table.destinations["addr"]]
    size = KEYS[family]["src_addr"].itemsize
    texts = np.concatenate([np.ascontiguousarray(column).view(f"S{size}").reshape(-1) for column in columns])
    addresses, places = np.unique(texts, return_inverse=True)  # in the order of the network
    src, dst, *ends = np.split(places, np.cumsum([len(column) for column in columns[:-1]]))
    _, flow, address, _ = dtypes(family)
    lasted = np.subtract(table.flows["end"], table.flows["start"], dtype=np.int64, casting="unsafe")
    ago = end - table.flows["end"].astype(np.int64)
    flows = _with(table.flows, flow, {"src_addr": src, "dst_addr": dst, "start": _ms(lasted), "end": _ms(ago)})
    flows = flows[np.lexsort((src, flows["tcp_flags"], flows["flags"]))]
    others = (_with(records, address, {"addr": each}) for records, each in zip(table[1:], ends, strict=True))
    return addresses.view(f"V{size}"), flows, *(records[np.argsort(records["addr"])] for records in others)


def restore(family: Family, stored: tuple[Records, ...], end: int) -> Table:
    """Return the table of what ``store()`` returned."""
    texts, flows, *ends = stored
    key = KEYS[family]["src_addr"]
    addresses = np.ascontiguousarray(texts).view(key.base).reshape(len(texts), *key.shape)
    ended = end - _MS * flows["end"].astype(np.int64)
    started = ended - _MS * flows["start"].astype(np.int64)
    known = {name: addresses[flows[name]] for name in ("src_addr", "dst_addr")}
    return Table(
        _with(flows, FLOW[family], {**known, "start": started, "end": ended}),
        *(_with(records, ADDRESS[family], {"addr": addresses[records["addr"]]}) for records in ends),
    )


def _with(records: Records, dtype: np.dtype[Any], columns: dict[str, npt.NDArray[Any]]) -> Records:
    result = np.empty(len(records), dtype)
    for name in dtype.names or ():
        result[name] = columns[name] if name in columns else records[name]
    return result


def _ms(times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.clip(times // _MS, 0, _MOST)
