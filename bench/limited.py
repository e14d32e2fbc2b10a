"""A program with limits in force, for benchmarks to send packets to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.turns import Run
from cnf import config
from cnf.clock import tick_ns
from cnf.datapath.blueprint import LimiterSize
from cnf.datapath.build import Datapath
from cnf.limiter.maps import LimiterMaps
from cnf.limits.groups import OVERFLOW
from cnf.limits.layout import Numbering, lay_out, no_rules
from cnf.limits.ruleset import work_out
from cnf.limits.table import Limits, room

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
DROPPED: Final = 0xAC100000
"""172.16.0.0, from where on RULES lets 1514 bytes pass, and then a byte a second."""
RULES: Final = (
    ONE_RULE.replace("[limits]", "[limits]\nmax_sources = 1048576")
    + """
[[limits.rules]]
name = "slow"
prefixes = ["172.16.0.0/12"]
bits_per_second = 8
burst_bytes = 1514
"""
)


@dataclass(frozen=True, slots=True)
class Limited:
    """A loaded program with limits in force."""

    datapath: Datapath
    limits: Limits
    maps: LimiterMaps
    numbering: Numbering

    def run(self, frame: bytes) -> Run:
        """Return what runs the whole program on ``frame``, on one CPU."""
        return Run(self.datapath.programs["whole"], [frame])


def read(text: str) -> Limits:
    """Read the ``[limits]`` table of a configuration."""
    return config.parse(INTERFACES + text, "bench").limits


def size(limits: Limits) -> LimiterSize:
    """Return the room that ``limits`` take."""
    places = room(limits)
    return LimiterSize(limits.max_sources, places.rules, places.prefixes)


def enforce(datapath: Datapath, limits: Limits) -> Limited:
    """Put ``limits`` in force in a program built with their size."""
    places = room(limits)
    maps = LimiterMaps(datapath.maps, places.rules)
    bank = lay_out(work_out(limits, (OVERFLOW,)), no_rules(places.rules), places.prefixes, tick_ns())
    maps.install(bank, {})
    return Limited(datapath, limits, maps, bank.numbering)
