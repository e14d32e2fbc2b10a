"""A program under test whose every frame is of another flow: which, a list says that the test writes."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from cnf.abi import CACHE_SECRETS, FAMILIES, SECRETS, Family
from cnf.arrays import Records
from cnf.datapath.blueprint import Blueprint, LimiterSize, Table
from cnf.kernel import libbpf
from cnf.kernel.maps import Array, DirectArray
from tests.bpf import kept
from tests.bpf.conftest import Datapath
from tests.bpf.limited import Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame

SOURCE: Final = Path(__file__).with_name("changing.c")
CLOCKED_SOURCE: Final = Path(__file__).with_name("changing_clocked.c")
LENGTH: Final = 1 << 20
"""Flows of the list, a power of two."""
FLOW: Final = np.dtype([("addr", ">u4"), ("src_port", ">u2"), ("dst_port", ">u2")])
FRAMES: Final[Mapping[Family, bytes]] = {
    "ipv4": frame(IPv4(), UDP(), bytes(30)),
    "ipv6": frame(IPv6(), UDP(), bytes(30)),
}

Flows = npt.NDArray[Any]
"""Shape (N,) of FLOW."""


@dataclass(frozen=True, slots=True)
class ChangingBlueprint(Blueprint):
    """That of changing.c, which has two maps more."""

    source: Path = SOURCE

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps."""
        return (*super(ChangingBlueprint, self).maps, "test_list", "test_turns")

    @property
    def defines(self) -> dict[str, int]:
        """Return the preprocessor's definitions."""
        return {**super(ChangingBlueprint, self).defines, "TEST_FLOWS": LENGTH}


@dataclass(frozen=True, slots=True)
class ClockedChangingBlueprint(ChangingBlueprint):
    """That of changing_clocked.c, which has a map more."""

    source: Path = CLOCKED_SOURCE

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps."""
        return (*super(ClockedChangingBlueprint, self).maps, "test_clock")


class Changing:
    """A datapath and its list."""

    blueprint: type[ChangingBlueprint] = ChangingBlueprint

    def __init__(self, table: Table, max_entries: int, *, limiter: LimiterSize | None = None) -> None:
        """Load it; a cache has the same secrets each time, and so puts the same flows in the same place."""
        blueprint = self.blueprint(max_entries, table, limiter=limiter)
        loaded = kept.load(blueprint)
        self.datapath = Limited(loaded) if limiter else Datapath(loaded)
        if table == "cache":
            self.draw_secrets(0)
        self._turns = Array("test_turns", loaded.maps["test_turns"], np.dtype("<u8"), libbpf.possible_cpus())

    def draw_secrets(self, seed: int) -> None:
        """Hash by other secrets, the same for the same seed; the tables must be empty."""
        secrets = np.zeros((), CACHE_SECRETS)
        secrets["words"] = draw(seed)
        maps = self.datapath.loaded.maps
        DirectArray("cache_secrets", maps["cache_secrets"], CACHE_SECRETS).write(0, secrets)

    def start(self, flows: Flows) -> None:
        """Empty tables and counters; go through ``flows`` from the first one on, over and over, on every CPU."""
        self.datapath.reset()
        self.go_on(flows)

    def go_on(self, flows: Flows) -> None:
        """Go through ``flows`` from the first one on, with tables and counters as they are."""
        self.list = np.resize(flows.view("u8"), LENGTH).view(FLOW)  # as words: resize() would turn the bytes round
        fd = self.datapath.loaded.maps["test_list"]
        with mmap.mmap(fd, LENGTH * FLOW.itemsize) as memory:
            np.frombuffer(memory, FLOW)[:] = self.list
        for family in range(len(FAMILIES)):
            self._turns.write(family, np.array(0, "<u8"))

    def sent(self, family: Family) -> tuple[Flows, npt.NDArray[np.int64]]:
        """Return which flows have been sent, each once, and how many packets of each."""
        flows, number = np.unique(self.list.view("u8"), return_inverse=True)
        packets = np.zeros(len(flows), np.int64)
        for turn in self._turns.read(FAMILIES.index(family)).tolist():
            packets += turn // LENGTH * np.bincount(number, minlength=len(flows))
            packets += np.bincount(number[: turn % LENGTH], minlength=len(flows))
        return flows[packets > 0].view(FLOW), packets[packets > 0]

    def run(self, family: Family, packets: int) -> None:
        """Send the next ``packets`` of the list from this CPU."""
        self.datapath.run(FRAMES[family], packets)

    def close(self) -> None:
        """Let it go."""
        self.datapath.loaded.close()


class ClockedChanging(Changing):
    """The same, whose jiffies are what the test sets: so it evicts the same flows each time."""

    blueprint = ClockedChangingBlueprint

    def show(self, jiffies: int) -> None:
        """Let jiffies be so many."""
        Array("test_clock", self.datapath.loaded.maps["test_clock"], np.dtype("<u8")).write(0, np.array(jiffies, "<u8"))


def flows_of(keys: Records) -> Flows:
    """Return what the list says of the flows with these keys: shape (N,) of FLOW."""
    flows = np.empty(len(keys), FLOW)
    address = keys["src_addr"]
    flows["addr"] = (address if address.ndim == 1 else address[:, 1] >> np.uint64(32)).astype("<u4").view(">u4")
    flows["src_port"], flows["dst_port"] = keys["src_port"], keys["dst_port"]
    return flows


def numbered(numbers: npt.ArrayLike) -> Flows:
    """Return flows that differ in their address only: shape (N,)."""
    numbers = np.asarray(numbers)
    flows = np.zeros(len(numbers), FLOW)
    flows["addr"] = cast("Any", numbers)
    return flows


def draw(seed: int) -> npt.NDArray[np.uint64]:
    """Return secrets, the same for the same seed."""
    return np.random.default_rng(seed).integers(1 << 64, size=SECRETS, dtype=np.uint64)
