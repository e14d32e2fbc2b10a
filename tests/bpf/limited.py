"""A program with a limiter under test: install rule sets, run packets, and read what it counted and remembers."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from cnf.abi import DROP_REASONS, LIMIT4_PREFIX, LIMIT6_PREFIX, VERDICTS, Family
from cnf.arrays import Records
from cnf.clock import tick_ns
from cnf.counts import Count
from cnf.datapath import build
from cnf.datapath.blueprint import Blueprint, LimiterSize, Table
from cnf.kernel import libbpf
from cnf.kernel.hooks import XDP, Hook
from cnf.kernel.maps import Array
from cnf.limiter.maps import LimiterMaps
from cnf.limits.groups import OVERFLOW
from cnf.limits.layout import Bank, lay_out, no_rules, parameters
from cnf.limits.ruleset import RuleSet, work_out
from cnf.limits.table import LIMITS, Limits, Network
from tests.bpf import kept
from tests.bpf.conftest import LOOPBACK, Datapath
from tests.bpf.tables import sources_of

XDP_DROP: Final = 1
SIZE: Final = LimiterSize(sources=4096, rules=64, prefixes=1024)
FLOWS: Final = 4096
TICK_NS: Final = 4_000_000
UPTIME_NS: Final = 1_000_000_000
CLOCKED: Final = Path(__file__).with_name("clocked.c")


def read(table: Mapping[str, Any]) -> Limits:
    """Read a ``[limits]`` table."""
    limits: Limits = LIMITS(dict(table), "limits")
    return limits


class Maps(LimiterMaps):
    """The maps of a test, in which no packet is under way between two runs."""

    under_load = False
    """Threads send while rules are switched."""

    def wait(self) -> None:
        """Wait only if need be."""
        if self.under_load:
            super().wait()


class Limited(Datapath):
    """A program with a limiter; at first it has no rules."""

    def __init__(self, loaded: build.Datapath, hook: Hook = XDP) -> None:
        """Give the loopback interface its counters; frames come by ``hook``."""
        super().__init__(loaded, hook)
        assert loaded.blueprint.limiter
        self.size = loaded.blueprint.limiter
        self.tick_ns = tick_ns()
        self.maps = Maps(loaded.maps, self.size.rules)
        self.sources_by_family = sources_of(loaded)
        self._numbering = no_rules(self.size.rules)
        self._ruleset: RuleSet | None = None

    def start(self, limits: Limits | Mapping[str, Any], **options: Any) -> Bank:  # noqa: ANN401 - those of switch()
        """Empty all tables and counters, then install ``limits`` as the first ones."""
        self.reset()
        return self.switch(limits, **options)

    def switch(  # noqa: PLR0913 - all that a rule set depends on
        self,
        limits: Limits | Mapping[str, Any],
        *,
        protected: Iterable[Network] = (),
        interface: str = "lo",
        others: Iterable[str] = (),
        ends: Mapping[tuple[str, Network], int] = MappingProxyType({}),
        later: Mapping[int, Iterable[Mapping[str, Any]]] = MappingProxyType({}),
        sets: Mapping[str, int] = MappingProxyType({}),
    ) -> Bank:
        """Install ``limits`` after those before; packets come in on ``interface``; entries end at jiffies.

        ``later`` are all rules from a jiffy on. ``sets`` are the words of ``struct limit_settings`` about sets.
        """
        if not isinstance(limits, Limits):
            limits = read(limits)
        names = (OVERFLOW, interface, *others)
        before = self._ruleset.groups if self._ruleset else {}
        rules = {float(jiffy): read({"rules": [*then]}).rules for jiffy, then in later.items()}
        self._ruleset = work_out(limits, names, protected, before, ends=ends, later=rules)
        bank = lay_out(self._ruleset, self._numbering, self.size.prefixes, self.tick_ns)
        self._numbering = bank.numbering
        self.maps.install(bank, {self.interfaces.assign(LOOPBACK): interface}, sets)
        return bank

    @property
    def ruleset(self) -> RuleSet:
        """Return the rules in force."""
        assert self._ruleset
        return self._ruleset

    def reset(self) -> None:
        """Empty the tables, zero the counters, and have the next rules be the first."""
        super().reset()
        for table in self.sources_by_family.values():
            table.clear()
        self._numbering, self._ruleset = no_rules(self.size.rules), None

    def place(self, name: str) -> int:
        """Return where the rule in force that is called so has its place."""
        (rule,) = (rule for rule in self.ruleset.limits.rules if rule.name == name)
        return self._numbering.rules.place(parameters(rule))

    def counts(self) -> dict[str, dict[str, Count]]:
        """Return rule -> verdict -> (packets, bytes) where not zero."""
        counts = {
            rule.name: dict(zip(VERDICTS, self.maps.counts(self.place(rule.name)), strict=True))
            for rule in self.ruleset.limits.rules
        }
        return {
            name: {verdict: count for verdict, count in row.items() if count.packets}
            for name, row in counts.items()
            if any(count.packets for count in row.values())
        }

    def packets(self) -> dict[str, dict[str, int]]:
        """Return rule -> verdict -> packets where not zero."""
        return {name: {verdict: n.packets for verdict, n in row.items()} for name, row in self.counts().items()}

    def denied(self) -> dict[str, tuple[int, int, bool]]:
        """Return prefix -> (packets, bytes, whether a time is noted) of each entry of ``deny``."""
        counts, times = self.maps.denied(self.size.denied)
        return {
            str(network): (*counts[place].tolist(), bool(times[place]["first_seen"] and times[place]["last_seen"]))
            for network, place in self._numbering.denied.items()
        }

    def dropped(self) -> dict[str, Count]:
        """Return reason -> (packets, bytes) where not zero."""
        total = self.counters()
        rows = zip(DROP_REASONS, total["dropped_packets"].tolist(), total["dropped_bytes"].tolist(), strict=True)
        return {reason: Count(packets, octets) for reason, packets, octets in rows if packets or octets}

    def sources(self) -> list[tuple[Network, int, Records]]:
        """Return (source, group, value) of both tables."""
        ipv6_bits = self.ruleset.limits.ipv6_source_prefix
        return [
            (
                IPv4Network(key["addr"].tobytes())
                if family == "ipv4"
                else IPv6Network((key["addr"].tobytes(), int(key["part"]) or ipv6_bits)),
                int(key["group"]),
                value.copy(),
            )
            for family, table in self.sources_by_family.items()
            for keys, values in table.batches()
            for key, value in zip(keys, values, strict=True)
        ]

    def write_source(self, family: Family, key: Records, value: Records) -> None:
        """Change what the program remembers of a source."""
        self.sources_by_family[family].put(key, value)

    def prefixes(self, family: Family) -> list[tuple[int, Network]]:
        """Return (bank, prefix) of every entry of the kernel's table, in order."""
        key = np.zeros((), LIMIT4_PREFIX if family == "ipv4" else LIMIT6_PREFIX)
        fd = ctypes.c_int(self.loaded.maps[f"limit_prefixes{family[-1]}"])
        found: list[tuple[int, Network]] = []
        kind = IPv4Network if family == "ipv4" else IPv6Network
        current: int | None = None
        while (
            libbpf.library().bpf_map_get_next_key(fd, ctypes.c_void_p(current), ctypes.c_void_p(key.ctypes.data)) == 0
        ):
            current = key.ctypes.data
            found.append((int(key["bank"]), kind((key["addr"].tobytes(), int(key["length"]) - 32))))
        return sorted(found, key=lambda entry: (entry[0], entry[1].network_address.packed, entry[1].prefixlen))


class Clocked(Limited):
    """A program whose clocks show what the test sets, on a kernel whose ticks are as long as it says."""

    def __init__(self, loaded: build.Datapath, hook: Hook = XDP) -> None:
        """Let it be the time of ``reset()``."""
        super().__init__(loaded, hook)
        self._clock = Array("test_clock", loaded.maps["test_clock"], np.dtype("<u8"))
        self.tick_ns = TICK_NS
        self.show(UPTIME_NS)

    def reset(self) -> None:
        """Begin anew, the clocks at a whole tick."""
        super().reset()
        self.show(UPTIME_NS)

    @property
    def jiffies(self) -> int:
        """Return what the clock of ticks shows; it starts at INITIAL_JIFFIES of linux/jiffies.h."""
        return (1 << 32) - 300 * round(10**9 / self.tick_ns) + self.now // self.tick_ns

    def show(self, now: int) -> None:
        """Let it be ``now`` ns since boot."""
        self.now = now
        self._clock.write(0, np.array(self.jiffies, "<u8"))
        self._clock.write(1, np.array(now, "<u8"))

    @contextmanager
    def ticking(self, tick_ns: int) -> Iterator[None]:
        """Have ticks of another length."""
        self.tick_ns = tick_ns
        try:
            yield
        finally:
            self.tick_ns = TICK_NS


class ClockedBlueprint(Blueprint):
    """That of clocked.c, which has a map more."""

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps."""
        return (*super().maps, "test_clock")


def load(table: Table, size: LimiterSize = SIZE, *, ipv6: bool = True) -> Limited:
    """Load the program with a limiter."""
    return Limited(kept.load(Blueprint(FLOWS, table, ipv6=ipv6, limiter=size)))


def load_clocked(table: Table) -> Clocked:
    """Load the program whose clocks are an input."""
    return Clocked(kept.load(ClockedBlueprint(FLOWS, table, limiter=SIZE, source=CLOCKED)))
