"""What the limiter adds to a packet, and to the time that one more table lookup would add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from statistics import median
from typing import Final

from bench import limited
from bench.datapath import FRAME4, FRAME6, where
from bench.report import Bar, Section
from bench.rule_sets import many_rules
from bench.turns import Run, take_turns
from cnf.kernel.program import Datapath
from tests.bpf.packets import TCP, IPv4, IPv6, frame

ALLOWED: Final = frame(IPv4(src="192.0.2.2"), TCP(), bytes(10))
DENIED4: Final = frame(IPv4(src="192.0.2.3"), TCP(), bytes(10))
DENIED6: Final = frame(IPv6(src="2001:db8:3::1"), TCP(), bytes(10))

FINE: Final = limited.ONE_RULE + "burst_packets = 10_000_000\n"  # lasts 10 ms: jiffies are too coarse for it
BOTH_RATES: Final = limited.ONE_RULE + 'bits_per_second = "1T"\n'
SLOW: Final = limited.ONE_RULE.replace("1_000_000_000", "1")
SHADOW: Final = SLOW.replace("enforce", "shadow")
OFF: Final = '[limits]\nmode = "off"\n'

BARE: Final = "bare pass"
WITHOUT: Final = "without the limiter"
ONE_MORE: Final = "without it, one more table lookup"
ONE_MORE_FLOW: Final = "without it, one more flow counted"
WITH: Final = "source under its limit"
MANY: Final = "the same, 10,000 rules"


def measure(plain: Datapath, cpus: Sequence[int], rounds: int) -> Iterator[Section]:
    """Run the program with and without the limiter by turns; on the first CPU alone, then on all ``cpus`` at once."""
    with ExitStack() as stack:
        runs = _runs(plain, stack)
        taken = take_turns(runs, cpus[:1], rounds)
        yield _packets(taken)
        yield _addition(taken)
        if len(cpus) > 1:
            names = [name for name in runs if name.endswith((BARE, WITHOUT, WITH)) or "over" in name]
            section = Section(f"limiter, one source on {where(cpus)}", reference=BARE)
            for name, values in take_turns({name: runs[name] for name in names}, cpus, rounds).items():
                section.add(name, values, "ns")
            yield section


def _runs(plain: Datapath, stack: ExitStack) -> dict[str, Run]:
    one, many, fine, both, slow, shadow, off = (
        stack.enter_context(limited.in_force(text))
        for text in (limited.ONE_RULE, many_rules(), FINE, BOTH_RATES, SLOW, SHADOW, OFF)
    )
    none = stack.enter_context(closing(limited.build(limited.read(limited.ONE_RULE))))
    runs = {BARE: Run(plain.programs["bare_pass"], FRAME4)}
    for family, packet, denied in (("4", FRAME4, DENIED4), ("6", FRAME6, DENIED6)):
        family_runs = {
            WITHOUT: Run(plain.programs["whole"], packet),
            ONE_MORE: Run(plain.programs[f"one_more_lookup{family}"], packet),
            ONE_MORE_FLOW: Run(plain.programs[f"one_more_flow{family}"], packet),
            "compiled in, no rule set yet": Run(none.programs["whole"], packet),
            "mode off": off.run(packet),
            WITH: one.run(packet),
            MANY: many.run(packet),
            "the same, fine clock": fine.run(packet),
            "the same, both rates": both.run(packet),
            "over its limit, shadow": shadow.run(packet),
            "over its limit, dropped": slow.run(packet),
            "denied": one.run(denied),
        }
        runs |= {f"IPv{family}: {name}": run for name, run in family_runs.items()}
    runs["IPv4: allowed"] = one.run(ALLOWED)
    return runs


def _packets(taken: Mapping[str, Sequence[float]]) -> Section:
    section = Section("limiter, a packet of one flow on one CPU", reference=BARE)
    for name, values in taken.items():
        section.add(name, values, "ns", Bar(4.5, "ratio") if name == f"IPv4: {WITH}" else None)
    section.notes.append(f"noise: bare passes took {min(taken[BARE]):.1f} to {max(taken[BARE]):.1f} ns")
    return section


def _addition(taken: Mapping[str, Sequence[float]]) -> Section:
    """Compare differences: within a round, since a round has one phase of the machine."""
    section = Section("what the limiter adds")
    for family in ("IPv4", "IPv6"):
        rows = {name: taken[f"{family}: {name}"] for name in (WITHOUT, ONE_MORE, ONE_MORE_FLOW, WITH, MANY)}
        lookup, flow, limiter = (_differences(rows[name], rows[WITHOUT]) for name in (ONE_MORE, ONE_MORE_FLOW, WITH))
        section.add(f"{family}: one more table lookup", lookup, "ns")
        section.add(f"{family}: one more flow: a lookup and two atomic adds", flow, "ns")
        section.add(f"{family}: the limiter", limiter, "ns")
        section.add(f"{family}: the limiter / one more lookup", [median(limiter) / median(lookup)], "x", Bar(1.4))
        section.add(f"{family}: the limiter / one more flow", [median(limiter) / median(flow)], "x")
        ratios = [many / one for many, one in zip(rows[MANY], rows[WITH], strict=True)]
        section.add(f"{family}: a packet, 10,000 rules / one rule", ratios, "x")
    section.notes.append("differences and ratios within a round, but those of the limiter: of the medians")
    return section


def _differences(values: Sequence[float], base: Sequence[float]) -> list[float]:
    return [value - without for value, without in zip(values, base, strict=True)]
