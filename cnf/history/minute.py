"""The records of a minute, as they come drain by drain, and what of them goes into a block. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.abi import DIRECTIONS, FAMILIES, FLOW_EGRESS, UNASSIGNED_INTERFACE, Direction, Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.counts import Count
from cnf.flows.largest import largest
from cnf.flows.records import FLOW_RECORD
from cnf.flows.stream import RecordBatch
from cnf.history import grouping
from cnf.history.stored import ADDRESS, FLOW

FLOWS: Final = 500
"""Flows of a block."""
ADDRESSES: Final = 200
"""Sources of a block, and destinations."""
MOST: Final = 1 << 19
"""Records of a family that are kept from drain to drain: 38 MB of IPv4. Of more, the flows that are largest by then."""


class Parts(NamedTuple):
    """What a block has of its flows."""

    flows: Mapping[Family, Records]
    names: tuple[tuple[str, ...], ...]
    flow_count: int
    sources: Mapping[Family, Records]
    destinations: Mapping[Family, Records]
    lost: Mapping[Direction, Count]
    complete: bool


class Minute:
    """Keep the records of some drains."""

    def __init__(self) -> None:
        """Start with none."""
        self._runs: dict[Family, list[Records]] = {family: [] for family in FAMILIES}
        self._lost: dict[Direction, Count] = dict.fromkeys(DIRECTIONS, Count())
        self._complete = True

    def add(self, batch: RecordBatch, *, complete: bool = True) -> None:
        """Take the records of a drain; not ``complete`` if some were left out before."""
        self._complete &= complete
        for family, runs in self._runs.items():
            if sum(map(len, runs)) > MOST:
                runs[:] = [grouping.largest_groups(runs, grouping.FLOW[family], MOST // 2).records]
                self._complete = False
            runs.append(batch.records.get(family, np.empty(0, FLOW_RECORD[family])))
        for direction, count in batch.lost.items():
            self._lost[direction] = self._lost[direction].plus(count)

    def parts(self, clock: WallClock, names: Mapping[int, tuple[str, ...]]) -> Parts:
        """Return what a block has of all that came: the largest flows, and, of all flows, the largest ends.

        ``names`` has each interface's name and altnames, by ifindex.
        """
        found = {family: grouping.largest_groups(runs, grouping.FLOW[family], FLOWS) for family, runs in self._with()}
        flows = _largest({family: groups.records for family, groups in found.items()}, FLOWS)
        indexes = np.unique(np.concatenate([records["ifindex"] for records in flows.values()]))
        return Parts(
            flows={family: _as_flows(family, records, clock, indexes) for family, records in flows.items()},
            names=tuple(names.get(index, (UNASSIGNED_INTERFACE,)) for index in indexes.tolist()),
            flow_count=sum(groups.number for groups in found.values()),
            sources=self._ends("src_addr", grouping.SOURCE),
            destinations=self._ends("dst_addr", grouping.DESTINATION),
            lost=self._lost,
            complete=self._complete,
        )

    def _ends(self, field: str, by: Mapping[Family, grouping.By]) -> dict[Family, Records]:
        ends = {family: grouping.largest_groups(runs, by[family], ADDRESSES).records for family, runs in self._with()}
        return {
            family: _renamed(records, ADDRESS[family], {"addr": field})
            for family, records in _largest(ends, ADDRESSES).items()
        }

    def _with(self) -> list[tuple[Family, list[Records]]]:
        return [(family, runs or [np.empty(0, FLOW_RECORD[family])]) for family, runs in self._runs.items()]


def _largest(by_family: Mapping[Family, Records], count: int) -> dict[Family, Records]:
    """Return the ``count`` largest by bytes of all families."""
    octets = np.concatenate([records["bytes"] for records in by_family.values()])
    chosen = np.zeros(len(octets), np.bool_)
    chosen[largest(octets, count)] = True
    ends = np.cumsum([len(records) for records in by_family.values()])[:-1]
    masks = np.split(chosen, ends)
    return {family: records[mask] for (family, records), mask in zip(by_family.items(), masks, strict=True)}


def _as_flows(family: Family, records: Records, clock: WallClock, indexes: Records) -> Records:
    flows = _renamed(records, FLOW[family], {})
    flows["ifindex"] = np.searchsorted(indexes, records["ifindex"])
    for name in ("start", "end"):
        flows[name] = clock.wall_ns(records[name])
    return flows


def _renamed(records: Records, dtype: np.dtype[Any], names: Mapping[str, str]) -> Records:
    """Return ``records`` in another form, whose fields have the values of those that ``names`` has for them."""
    result = np.zeros(len(records), dtype)
    for name in dtype.names or ():
        result[name] = records[names.get(name, name)]
    if "addr" in names:
        result["flags"] &= FLOW_EGRESS
    return result
