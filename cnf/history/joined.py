"""Some blocks as one: summed up one after the other, so that a day of them takes little more than its result. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from cnf.abi import DIRECTIONS, FAMILIES, Direction, Family
from cnf.arrays import Records
from cnf.counts import Count
from cnf.flows.largest import largest
from cnf.history import grouping
from cnf.history.block import Block, Interfaces
from cnf.history.held import COUNTS
from cnf.history.increase import NOTHING, sum_of
from cnf.history.stored import ADDRESS, FLOW

EndPart = Literal["sources", "destinations"]
"""The parts of a block that have one end of its flows."""
END_PARTS: Final[tuple[EndPart, ...]] = ("sources", "destinations")

MOST: Final = 1 << 16
"""Flows, or addresses, of a family that are told apart: of more, those stay that are largest by then."""


class Span(NamedTuple):
    """The time of a block, in ns since the epoch."""

    begin: int
    end: int


class Joined:
    """The sums of the blocks that are added, oldest first."""

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        """Add ``blocks``."""
        self.spans: list[Span] = []
        self.interfaces: Interfaces = {}
        """INTERFACE_COUNTERS, shape (), by interface name."""
        self.rules: dict[str, Sequence[Count]] = {}
        """By rule, in the order of VERDICTS."""
        self.lost: dict[Direction, Count] = dict.fromkeys(DIRECTIONS, Count())
        """What finished flows had counted and is in no record."""
        self.flow_count = 0
        """The sum of the blocks' numbers of flows."""
        self.complete = True
        self.names: dict[tuple[str, ...], int] = {}
        """By interface, its name and altnames, the ``ifindex`` in ``flows``."""
        self._flows = {family: _Sum(FLOW[family], grouping.FLOW[family]) for family in FAMILIES}
        self._ends = {
            part: {family: _Sum(ADDRESS[family], grouping.ADDRESS[family]) for family in FAMILIES} for part in END_PARTS
        }
        self._held: dict[tuple[object, ...], dict[str, Any]] = {}
        for block in blocks:
            self.add(block)

    @property
    def seconds(self) -> float:
        """Return how long the blocks are together."""
        return sum(span.end - span.begin for span in self.spans) / 1e9

    @property
    def flows(self) -> Mapping[Family, Records]:
        """Return the flows: FLOW, shape (N,). One that several blocks have is one."""
        return {family: flows.records for family, flows in self._flows.items()}

    @property
    def held(self) -> Sequence[Mapping[str, Any]]:
        """Return the sources that were over a limit, with the sums of what they have counted."""
        return [*self._held.values()]

    def ends(self, part: EndPart) -> Mapping[Family, Records]:
        """Return the sources, or destinations: ADDRESS, shape (N,)."""
        return {family: addresses.records for family, addresses in self._ends[part].items()}

    def add(self, block: Block) -> None:
        """Add a block that is later than all so far."""
        self.spans.append(Span(block.begin, block.end))
        self.interfaces = sum_of((self.interfaces, block.interfaces))
        for rule, counts in block.rules.items():
            self.rules[rule] = [old.plus(new) for old, new in zip(self.rules.get(rule, NOTHING), counts, strict=True)]
        for way, count in block.lost.items():
            self.lost[way] = self.lost[way].plus(count)
        self.flow_count += block.flow_count
        self.complete = self.complete and block.complete
        numbers = np.array([self.names.setdefault(each, len(self.names)) for each in block.names], np.uint32)
        for family, flows in block.flows.items():
            if len(flows):
                own = flows.copy()
                own["ifindex"] = numbers[flows["ifindex"]]
                self._flows[family].add(own)
        for part, by_family in zip(END_PARTS, (block.sources, block.destinations), strict=True):
            for family, addresses in by_family.items():
                self._ends[part][family].add(addresses)
        for each in block.held:
            key = tuple(each[name] for name in ("source", "shared", "rule", "mode"))
            before = self._held.get(key)
            self._held[key] = {**each, **({name: before[name] + each[name] for name in COUNTS} if before else {})}


class _Sum:
    """Records of many blocks, one for each key."""

    def __init__(self, dtype: np.dtype[Any], by: grouping.By) -> None:
        self._by = by
        self._sum: Records = np.empty(0, dtype)
        self._added: list[Records] = []
        self._room = grouping.PART

    @property
    def records(self) -> Records:
        """Return one record for each key, in no order."""
        if self._added:
            self._sum = grouping.grouped(np.concatenate((self._sum, *self._added)), self._by)
            self._added.clear()
            if len(self._sum) > MOST:
                self._sum = self._sum[largest(self._sum["bytes"], MOST)]
        return self._sum

    def add(self, records: Records) -> None:
        """Take records, of which some may have a key that was there before."""
        self._added.append(records)
        self._room -= len(records)
        if self._room < 0:  # as often as makes the work linear
            self._room = max(grouping.PART, len(self.records))
