"""Groups of what there was: of the flows that blocks have, or of their sources or destinations, with all the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from cnf.abi import Family
from cnf.counts import Count, total
from cnf.flows.columns import FlowColumns
from cnf.flows.groups import Groups, More, group
from cnf.flows.snapshot import Snapshot
from cnf.history.joined import EndPart, Joined
from cnf.history.past import balance, columns, dropped_of, snapshot_of
from cnf.history.stored import FLOW


class End(NamedTuple):
    """One end of flows, by its part of a block and its field of a flow."""

    part: EndPart
    field: str


ENDS: Final[Mapping[End, frozenset[str]]] = {
    End("sources", "src_addr"): frozenset(("src_addr", "src_net")),
    End("destinations", "dst_addr"): frozenset(("dst_addr", "dst_net")),
}
"""By end, the fields of groups that an address tells."""
_COUNTED: Final = ("packets", "bytes", "dropped_packets", "dropped_bytes")


def ends_as_snapshot(joined: Joined, end: End) -> Snapshot:
    """Return the sources or destinations as flows that have no other field than this address."""
    length = joined.seconds
    flows: dict[Family, FlowColumns] = {}
    for family, addresses in joined.ends(end.part).items():
        records = np.zeros(len(addresses), FLOW[family])
        records[end.field] = addresses["addr"]
        for name in ("flags", *_COUNTED):
            records[name] = addresses[name]
        flows[family] = columns(family, records, length)
    return snapshot_of(joined, flows)


class Wanted(NamedTuple):
    """What ``group()`` is asked for."""

    expression: str
    by: str
    sort: str
    top: int | None


def group_past(joined: Joined, past: Snapshot, wanted: Wanted, more: More) -> Groups:
    """Return groups, as ``group()`` does of the present, and what is in none of them; ``past`` has the flows.

    ``more`` has further words for what to group by.
    By sources, or by destinations, they are made of the largest of these, where these have more of the bytes than the
    largest flows have. Of what matches a filter, nobody knows how much is not in the largest flows.

    Raises:
        UsageError: the expression, what to group by, or the name of the field.

    """
    groups = group(past, *wanted, more=more)
    if wanted.expression.strip():
        return groups
    fields = {dimension.field for dimension in groups.dimensions} - {"direction"}
    rest = _rest_of(past, joined.seconds)
    for end, names in ENDS.items():
        if fields and fields <= names and groups.sort != "flows":
            ends = ends_as_snapshot(joined, end)
            rest_of_ends = _rest_of(ends, joined.seconds)
            if rest_of_ends["bytes"] <= rest["bytes"]:
                groups, rest = replace(group(ends, *wanted), flows=None), rest_of_ends
    return groups.with_rest(rest) if any(rest.values()) else groups


def _rest_of(past: Snapshot, length: float) -> dict[str, float]:
    """Return, by SUMS, what was counted and is in none of the flows of ``past``; rates are in bytes.

    It is below 0 where flows have more, by what came while the drain that began the time was reading.
    """
    rest = total(balance(past)["rest"].values())
    dropped = dropped_of(past.received)
    listed = past.flows.values()
    length = max(length, 1e-3)
    return {
        **rest._asdict(),
        **{
            name: getattr(dropped, unit) - sum(int(getattr(flows, name).sum()) for flows in listed)
            for unit in Count._fields
            for name in (f"dropped_{unit}",)
        },
        "packets_per_second": rest.packets / length,
        "bits_per_second": rest.bytes / length,
    }
