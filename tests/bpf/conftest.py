"""The loaded program, run packet by packet with BPF_PROG_TEST_RUN."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import pytest

from cnf.abi import (
    DIRECTIONS,
    FLOW_FRAGMENT,
    PROTOCOL_LABELS,
    TABLE_COUNT,
    TABLE_COUNTERS,
    UNPARSED_REASONS,
    VLAN_PRESENT,
    Family,
)
from cnf.arrays import Records
from cnf.counts import Count
from cnf.datapath import build, program_file
from cnf.datapath.blueprint import Blueprint, Table
from cnf.datapath.counters import InterfaceCounters, TableCounters
from cnf.kernel import libbpf, pins
from cnf.kernel.hooks import XDP, Hook
from cnf.kernel.maps import CounterArray
from tests.bpf import kept
from tests.bpf.reference import Key, Value
from tests.bpf.skb import run_skb
from tests.bpf.tables import let_none_expire, tables_of

if TYPE_CHECKING:
    from tests.bpf.limited import Clocked, Limited

TABLES: Final = ("cache", "lru_hash")
SMALL_TABLE: Final = 4096
FEW: Final = 1000
"""Packets that are sooner run one by one: to run an XDP program twice, the kernel first waits 10 ms for all CPUs."""
LOOPBACK: Final = 1  # test runs come in on the loopback interface of the namespace that they are made in


class Datapath:
    """A program under test; what it counted is read from its maps."""

    ifindex = LOOPBACK

    def __init__(self, loaded: build.Datapath, hook: Hook = XDP) -> None:
        """Give the loopback interface its counters; frames come by ``hook``."""
        self.loaded = loaded
        self.hook = hook
        self.tables = tables_of(loaded)
        let_none_expire(loaded)
        self.table_counters = TableCounters(loaded.maps)
        self.interfaces = InterfaceCounters(loaded.maps)
        self.interfaces.assign(LOOPBACK)

    @property
    def sends(self) -> bool:
        """Whether its frames are sent, rather than received."""
        return self.hook.direction == "egress"

    def run(self, frame: bytes, repeat: int = 1, **skb: int) -> int:
        """Run the program on ``frame`` and return its verdict; ``skb`` are fields of TC's struct __sk_buff."""
        program = self.loaded.programs[self.hook.entry]
        if self.hook != XDP:
            return run_skb(program, frame, repeat, **skb)
        runs, each = (repeat, 1) if repeat <= FEW else (1, repeat)
        for _ in range(runs):
            verdict, _frame, _duration = libbpf.run(program, frame, each)
        return verdict

    def flows(self) -> dict[Key, Value]:
        """Return both tables."""
        return {
            _key(family, key): Value(int(value["packets"]), int(value["bytes"]), int(value["tcp_flags"]))
            for family, table in self.tables.items()
            for keys, values in table.batches()
            for key, value in zip(keys, values, strict=True)
        }

    def counters(self) -> Records:
        """Return the sums of the interface that test runs come in on."""
        return self.interfaces.read()[self.ifindex]

    def received(self) -> dict[str, tuple[int, int]]:
        """Return label -> (packets, bytes) where not zero; of a hook for what is sent, those are sent."""
        total = self.counters()
        packets, octets = (total[f"sent_{field}" if self.sends else field] for field in ("packets", "bytes"))
        rows = zip(PROTOCOL_LABELS, packets, octets, strict=True)
        return {label: (int(count), int(size)) for label, count, size in rows if count or size}

    def unparsed(self) -> dict[str, int]:
        """Return reason -> packets where not zero."""
        rows = zip(UNPARSED_REASONS, self.counters()["unparsed"], strict=True)
        return {reason: int(packets) for reason, packets in rows if packets}

    def inserted(self, family: Family = "ipv4") -> int:
        """Return how many flows a table has taken in since the last reset."""
        return self.table_counters.read(family).inserted

    def insert_errors(self, family: Family = "ipv4") -> dict[str, Count]:
        """Return cause -> (packets, bytes) where not zero."""
        return {cause: count for cause, count in self.table_counters.read(family).errors.items() if count.packets}

    def reset(self) -> None:
        """Empty the tables and zero the counters."""
        for table in self.tables.values():
            table.clear()
        let_none_expire(self.loaded)
        counters = CounterArray("table_counters", self.loaded.maps["table_counters"])
        counters.zero_range(0, len(DIRECTIONS) * TABLE_COUNT * TABLE_COUNTERS)
        self.interfaces.release(LOOPBACK)
        self.interfaces.assign(LOOPBACK)


def _key(family: Family, key: Records) -> Key:
    vlan = int(key["vlan"])
    return Key(
        family=family,
        src_addr=key["src_addr"].tobytes(),
        dst_addr=key["dst_addr"].tobytes(),
        src_port=int(key["src_port"]),
        dst_port=int(key["dst_port"]),
        protocol=int(key["protocol"]),
        vlan=vlan & 0xFFF if vlan & VLAN_PRESENT else None,
        fragment=bool(key["flags"] & FLOW_FRAGMENT),
    )


def only(table: Table) -> pytest.MarkDecorator:
    """Mark a test of what holds for tables of one kind, and not of the other."""
    return pytest.mark.parametrize("table", [table], indirect=True)


@pytest.fixture(autouse=True, scope="package")
def all_programs_are_kept() -> Iterator[None]:
    """Keep every program of these tests, which are many more than a node has."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(program_file, "MOST", 1000)
        yield


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a test a folder of bpffs."""
    path = pins.BPFFS / f"cnf-t-{os.getpid()}"
    path.mkdir()
    yield path
    pins.remove(path)


@pytest.fixture(scope="session", params=TABLES)
def table(request: pytest.FixtureRequest) -> Table:
    """Have every test run on tables of either kind."""
    return cast("Table", request.param)


@pytest.fixture(scope="session")
def loaded(table: Table) -> Iterator[Datapath]:
    """Load the program once."""
    datapath = kept.load(Blueprint(65536, table))
    yield Datapath(datapath)
    datapath.close()


@pytest.fixture
def datapath(loaded: Datapath) -> Datapath:
    """Give each test empty tables and zero counters."""
    loaded.reset()
    return loaded


@pytest.fixture(scope="session")
def small_loaded(table: Table) -> Iterator[Datapath]:
    """Load the program once with tables that are soon full."""
    datapath = kept.load(Blueprint(SMALL_TABLE, table))
    yield Datapath(datapath)
    datapath.close()


@pytest.fixture
def small_datapath(small_loaded: Datapath) -> Datapath:
    """Give each test empty tables, for SMALL_TABLE flows, and zero counters."""
    small_loaded.reset()
    return small_loaded


@pytest.fixture(scope="session")
def limited_loaded(table: Table) -> Iterator[Limited]:
    """Load the program with a limiter once."""
    from tests.bpf.limited import load  # noqa: PLC0415 - it builds on Datapath

    limited = load(table)
    yield limited
    limited.loaded.close()


@pytest.fixture
def limited(limited_loaded: Limited) -> Limited:
    """Give each test empty tables, zero counters, and no limits of a test before."""
    limited_loaded.start({})
    return limited_loaded


@pytest.fixture(scope="session")
def clocked(table: Table) -> Iterator[Clocked]:
    """Load the program whose clocks are an input once; a test, or each of its examples, begins with ``start()``."""
    from tests.bpf.limited import load_clocked  # noqa: PLC0415 - it builds on Datapath

    clocked = load_clocked(table)
    yield clocked
    clocked.loaded.close()
