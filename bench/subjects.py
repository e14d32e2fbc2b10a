"""The programs that are measured, each loaded with tables of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from bench import limited, wire
from cnf.clock import in_ticks, tick_ns
from cnf.datapath.blueprint import Blueprint, LimiterSize, Table
from cnf.datapath.build import Build, Datapath
from cnf.datapath.cache import FlowSettings
from cnf.datapath.counters import InterfaceCounters
from cnf.kernel.hooks import TC_INGRESS, XDP

Program = Literal["bare", "parse", "naive", "cnf"]

TABLES: Final[tuple[Table, ...]] = ("cache", "lru_hash")
"""The flow tables to choose from, the default first."""
MAX_ENTRIES: Final = 1 << 20
LOOPBACK: Final = 1  # where test runs come in
LASTING: Final = 3600.0
"""Seconds without a packet after which flows expire: none does."""
FOLDER: Final = Path(__file__).parent


class Subject(NamedTuple):
    """A program, by its descriptor."""

    program: Program
    table: Table | None
    limiter: bool
    fd: int

    @property
    def title(self) -> str:
        """Return its name in words."""
        words = [self.program, *([self.table] if self.table else []), *(["with limiter"] if self.limiter else [])]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Apart(Blueprint):
    """A program that is none of cnf's, and has other maps."""

    own_maps: tuple[str, ...] = ()

    @property
    def maps(self) -> tuple[str, ...]:
        """Return their names, with that of change.h."""
        return (*self.own_maps, "turns")


class Changing(Blueprint):
    """A program of cnf's, on frames that change.h changes first."""

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps, with that of change.h."""
        return (*super().maps, "turns")


def xdp(*names: str) -> dict[str, int]:
    """Return the names of XDP programs, with their type."""
    return dict.fromkeys(names, XDP.program_type)


BARE: Final = Apart(
    1,
    hooks=(),
    source=FOLDER / "bare.c",
    others=xdp("bare", "bare_drop", "send") | {"bare_skb": TC_INGRESS.program_type},
)
NAIVE: Final = Apart(
    MAX_ENTRIES,
    "lru_hash",
    limiter=LimiterSize(MAX_ENTRIES, 1, 1),
    hooks=(),
    source=FOLDER / "naive.c",
    others=xdp("naive", "naive_bucket"),
    own_maps=("flows4", "flows6", "buckets4", "buckets6"),
)


def whole(table: Table, limiter: LimiterSize | None = None, max_entries: int = MAX_ENTRIES) -> Blueprint:
    """Return what builds the programs of whole.c."""
    others = xdp("whole", "cnf_clock") if limiter else xdp("whole", "parse_only", "cnf_clock")
    return Changing(max_entries, table, limiter=limiter, hooks=(), source=FOLDER / "whole.c", others=others)


def build(blueprints: Sequence[Blueprint], stack: ExitStack) -> list[Datapath]:
    """Compile side by side, load and park; ``stack`` closes the datapaths, which are ready for test runs."""
    builds = [Build(blueprint) for blueprint in blueprints]
    for each in builds:
        stack.callback(each.cancel)
    datapaths = [stack.enter_context(closing(each.finish())) for each in builds]
    for datapath in datapaths:
        for name, fd in datapath.programs.items():
            if name != "cnf_clock" and datapath.blueprint.programs[name] == XDP.program_type:
                stack.enter_context(wire.parked(fd))
        if "interfaces" in datapath.maps:
            InterfaceCounters(datapath.maps).assign(LOOPBACK)
        if "flow_settings" in datapath.maps:
            ticks = in_ticks(LASTING, tick_ns())
            FlowSettings(datapath.maps).write(ticks, ticks)
    return datapaths


@dataclass(frozen=True, slots=True)
class Subjects:
    """All of them, and the datapaths that they are programs of."""

    bare: Datapath
    naive: Datapath
    plain: Mapping[Table, Datapath]
    limited: Mapping[Table, limited.Limited]

    def __iter__(self) -> Iterator[Subject]:
        """Yield bare pass, parse only, naive, and the whole program with each table; without and with limiter."""
        yield Subject("bare", None, limiter=False, fd=self.bare.programs["bare"])
        yield Subject("parse", None, limiter=False, fd=self.plain[TABLES[0]].programs["parse_only"])
        yield Subject("naive", None, limiter=False, fd=self.naive.programs["naive"])
        yield Subject("naive", None, limiter=True, fd=self.naive.programs["naive_bucket"])
        for table in TABLES:
            yield Subject("cnf", table, limiter=False, fd=self.plain[table].programs["whole"])
            yield Subject("cnf", table, limiter=True, fd=self.limited[table].datapath.programs["whole"])


@contextmanager
def loaded() -> Iterator[Subjects]:
    """Compile them side by side and load them, limits in force where there is a limiter."""
    limits = limited.read(limited.RULES)
    size = limited.size(limits)
    blueprints = [BARE, NAIVE, *map(whole, TABLES), *(whole(table, size) for table in TABLES)]
    with ExitStack() as stack:
        bare, naive, *datapaths = build(blueprints, stack)
        plain = dict(zip(TABLES, datapaths[: len(TABLES)], strict=True))
        enforced = [limited.enforce(datapath, limits) for datapath in datapaths[len(TABLES) :]]
        yield Subjects(bare, naive, plain, dict(zip(TABLES, enforced, strict=True)))
