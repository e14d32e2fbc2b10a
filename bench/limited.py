"""The program with limits in force, for benchmarks to send packets to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from bench import datapath
from bench.turns import Run
from cnf import config
from cnf.bank import Numbering, lay_out, no_rules
from cnf.config import Flows
from cnf.kernel.limiter import LimiterMaps
from cnf.kernel.program import Datapath, LimiterSize, tick_ns
from cnf.limits import OVERFLOW, work_out
from cnf.rules import Limits, room

INTERFACES: Final = '[[interfaces]]\nname = "lo"\n'
ONE_RULE: Final = """
[limits]
mode = "enforce"
allow = ["192.0.2.2/32"]
deny = ["192.0.2.3/32", "2001:db8:3::/48"]

[[limits.rules]]
name = "default"
prefixes = ["0.0.0.0/0", "::/0"]
packets_per_second = 1_000_000_000
"""
PROGRAMS: Final = ("whole", "whole_new4")


@dataclass(frozen=True, slots=True)
class Limited:
    """A loaded program with limits in force."""

    datapath: Datapath
    limits: Limits
    maps: LimiterMaps
    numbering: Numbering

    def run(self, frame: bytes, program: str = "whole") -> Run:
        """Return what runs ``program`` on ``frame``."""
        return Run(self.datapath.programs[program], frame)


def read(text: str) -> Limits:
    """Read the ``[limits]`` table of a configuration."""
    limits = config.parse(INTERFACES + text, "bench").limits
    if limits is None:
        raise LookupError("a configuration without limits")
    return limits


def build(limits: Limits, programs: Sequence[str] = PROGRAMS) -> Datapath:
    """Load ``programs`` of bench.c with room for ``limits``, which are not yet in force: every packet passes."""
    places = room(limits)
    size = LimiterSize(limits.max_sources, places.rules, places.prefixes)
    return datapath.build(Flows().max_entries, programs, size)


@contextmanager
def in_force(text: str) -> Iterator[Limited]:
    """Load the program and put the ``[limits]`` table of ``text`` in force."""
    limits = read(text)
    places = room(limits)
    with closing(build(limits)) as loaded:
        maps = LimiterMaps(loaded.maps, places.rules)
        bank = lay_out(work_out(limits, (OVERFLOW,)), no_rules(places.rules), places.prefixes, tick_ns())
        maps.install(bank, {})
        yield Limited(loaded, limits, maps, bank.numbering)
