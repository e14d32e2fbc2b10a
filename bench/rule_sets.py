"""Ten thousand rules: from the text of a configuration to being in force, part by part."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Final

from bench import limited
from bench.report import Section
from bench.subjects import TABLES, build, whole
from cnf.clock import tick_ns
from cnf.limiter.maps import LimiterMaps
from cnf.limits.groups import OVERFLOW
from cnf.limits.layout import lay_out, no_rules
from cnf.limits.ruleset import work_out
from cnf.limits.table import room

ENTRIES: Final = 1 << 10
RULES: Final = 10_000


def many_rules(more: int = 0) -> str:
    """Return a configuration of RULES rules besides the default, each with a /24 and a rate, ``more`` of it."""
    rules = (
        f'[[limits.rules]]\nname = "r{number}"\nprefixes = ["10.{number >> 8}.{number & 255}.0/24"]\n'
        f"packets_per_second = {10_000 + number + more}\n"
        for number in range(RULES)
    )
    return limited.ONE_RULE + "\n".join(rules)


class Laps:
    """A stopwatch: what each part of a thing took, round by round."""

    def __init__(self) -> None:
        """Start it."""
        self.taken: dict[str, list[float]] = {}
        self.restart()

    def restart(self) -> None:
        """Leave out what has passed since the last lap."""
        self._last = time.monotonic()

    def lap(self, part: str) -> None:
        """Take the seconds since the last lap as a round of ``part``."""
        now = time.monotonic()
        self.taken.setdefault(part, []).append(now - self._last)
        self._last = now


def measure(rounds: int) -> Section:
    """Put RULES rules in force, then ``rounds`` times the same with every rate changed, as a reload may."""
    section = Section(f"{RULES:,} rules, from TOML to in force")
    texts = [many_rules(turn) for turn in range(rounds + 1)]
    places = room(limited.read(texts[0]))
    laps = Laps()
    with ExitStack() as stack:
        (datapath,) = build([whole(TABLES[0], limited.size(limited.read(texts[0])), ENTRIES)], stack)
        maps, numbering, ruleset = LimiterMaps(datapath.maps, places.rules), no_rules(places.rules), None
        for text in texts:
            maps.wait()
            laps.restart()
            limits = limited.read(text)
            laps.lap("read the configuration")
            ruleset = work_out(limits, (OVERFLOW, "lo"), before=ruleset.groups if ruleset else {})
            laps.lap("work the rules out")
            bank = lay_out(ruleset, numbering, places.prefixes, tick_ns())
            laps.lap("lay them out")
            maps.install(bank, {})
            laps.lap("install them")
            numbering = bank.numbering
    totals = [sum(parts) for parts in zip(*laps.taken.values(), strict=True)]
    section.add("at the start", "s", totals[:1])
    reload = section.add("reload, every rate changed", "s", totals[1:])
    for part, values in laps.taken.items():
        section.add(part, "s", values[1:], {"reload": reload})
    return section
