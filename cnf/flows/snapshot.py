"""The result of one drain. It is immutable: scrapes and cnfctl calls read it while the next drain runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import Direction, Family
from cnf.arrays import Mask, Rows
from cnf.clock import WallClock
from cnf.filter.predicates import Filter, Names
from cnf.flows.columns import FlowColumns
from cnf.flows.ledger import Counts, Ledger
from cnf.flows.matching import Order


@dataclass(frozen=True, slots=True)
class TableState:
    """One flow table: its fill, and the flows that came and went since the start."""

    entries: int
    capacity: int
    """Flows that have room."""
    made_for: int
    """``flows.max_entries``. A cache has room for twice as many, and up to this number evicts few."""
    created: int
    expired: int
    evicted: int
    insert_errors: Mapping[str, int]
    """Packets whose flow could not be inserted, by cause."""


Finish = Literal["evicted", "expired"]
"""Why a flow is not in its table any more."""


class Part(NamedTuple):
    """Flows of one family that all live, or have all finished in one way."""

    flows: FlowColumns
    finish: Finish | None
    """None while they live."""

    @property
    def family(self) -> Family:
        """Return the IP version."""
        return self.flows.family

    @property
    def size(self) -> int:
        """Return the number of flows."""
        return len(self.flows)

    def column(self, name: str, rows: Rows | slice) -> npt.NDArray[Any]:
        """Return the values of some flows."""
        values: npt.NDArray[Any] = getattr(self.flows, name)[rows]
        return values

    def matching(self, matches: Filter, names: Names) -> Mask:
        """Return a mask of the flows that match; ``names`` are the interfaces'."""
        mask = np.empty(len(self.flows), np.bool_)
        for start, block in self.flows.blocks():
            mask[start : start + len(block)] = matches.mask(block, names)
        return mask


@dataclass(frozen=True, slots=True)
class TableDrain:
    """The findings of one reading of a flow table."""

    flows: FlowColumns
    order: Order
    """Of the flows, to find them again at the next drain."""
    state: TableState
    expired: Counts
    """The counts of flows that have expired since the start."""
    evicted: Counts | None
    """The counts of evicted flows; None where there are some, but nobody knows their counts."""
    insert_error: Counts
    gone: Counts
    """The counts of flows that this table has seen expire, and the program has not booked yet."""
    recorded: Counts | None = None
    """What is recorded of live flows, where that was asked for."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The flows and sums of one drain."""

    clock: WallClock
    duration: float
    """Seconds that the drain took."""
    flows: Mapping[Family, FlowColumns]
    tables: Mapping[Family, TableState]
    received: Mapping[str, npt.NDArray[Any]]
    """INTERFACE_COUNTERS, shape (), by interface name; read before the flows."""
    ledgers: Mapping[Direction, Ledger]
    names: Mapping[int, str]
    """Interface name by ifindex, also of departed interfaces."""
    altnames: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """By ifindex, further names of interfaces."""
    finished: tuple[Part, ...] = ()
    """Flows that are in no table any more but still shown; no sum here counts them."""

    def all_names(self) -> dict[int, tuple[str, ...]]:
        """Return each interface's name and altnames, by ifindex."""
        return {index: (name, *self.altnames.get(index, ())) for index, name in self.names.items()}

    def parts(self) -> tuple[Part, ...]:
        """Return all flows that are shown."""
        return (*(Part(flows, None) for flows in self.flows.values()), *self.finished)
