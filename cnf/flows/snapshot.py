"""What one drain leaves behind: immutable, and read by scrapes and cnfctl calls while the next drain runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy.typing as npt

from cnf.abi import Family
from cnf.clock import WallClock
from cnf.counts import Count
from cnf.flows.columns import FlowColumns
from cnf.flows.ledger import Ledger


@dataclass(frozen=True, slots=True)
class TableState:
    """One flow table: its fill, and flows that came and went since the start."""

    entries: int
    capacity: int
    """Flows that there are places for."""
    made_for: int
    """Flows that were asked for; a cache has twice as many places, and up to here lets few go early."""
    created: int
    expired: int
    evicted: int
    insert_errors: Mapping[str, int]
    """Packets that found no place, by cause."""


Finish = Literal["evicted"]
"""How a flow has finished that is not in its table any more."""


class Part(NamedTuple):
    """Flows of one family that live, or have finished alike."""

    flows: FlowColumns
    finish: Finish | None
    """None if they live."""


@dataclass(frozen=True, slots=True)
class TableDrain:
    """What one reading of a flow table has found."""

    flows: FlowColumns
    state: TableState
    expired: Count
    """What flows that have expired had counted, since the start."""
    evicted: Count | None
    """The same of those that made room early; None where nobody knows, but there were some."""
    insert_error: Count


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
    ledger: Ledger
    names: Mapping[int, str]
    """Interface name by ifindex, of departed interfaces too."""
    altnames: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Names that interfaces have besides, by ifindex."""
    finished: tuple[Part, ...] = ()
    """Flows that are in no table any more, but still shown; no sum here counts them."""

    def all_names(self) -> dict[int, tuple[str, ...]]:
        """Return each interface's name and altnames, by ifindex."""
        return {index: (name, *self.altnames.get(index, ())) for index, name in self.names.items()}

    def parts(self) -> tuple[Part, ...]:
        """Return all flows that are shown."""
        return (*(Part(flows, None) for flows in self.flows.values()), *self.finished)
