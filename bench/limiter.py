"""What becomes of a source, by rule: what each takes beside the program without a limiter."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from bench import limited
from bench.report import Bar, Section
from bench.rule_sets import many_rules
from bench.subjects import BARE, TABLES, build, whole
from bench.turns import Run, Workers
from bench.workloads import PAYLOAD, one_flow, steered
from tests.bpf.packets import TCP, IPv4, frame

ENTRIES: Final = 1 << 16
PACKETS: Final = 100_000
FRAME: Final = one_flow("ipv4")
ALLOWED: Final = steered(frame(IPv4(src="192.0.2.2"), TCP(), PAYLOAD))
DENIED: Final = steered(frame(IPv4(src="192.0.2.3"), TCP(), PAYLOAD))

FINE: Final = limited.ONE_RULE + "burst_packets = 10_000_000\n"  # lasts 10 ms: jiffies are too coarse for it
BOTH_RATES: Final = limited.ONE_RULE + 'bits_per_second = "1T"\n'
SLOW: Final = limited.ONE_RULE.replace("1_000_000_000", "1")
SHADOW: Final = SLOW.replace("enforce", "shadow")
OFF: Final = '[limits]\nmode = "off"\n'
BARS: Final = {"over its limit, dropped": [Bar("over its limit, one flow", 2.0, 1.75, "bare")]}
TEXTS: Final = {
    "under its limit": limited.ONE_RULE,
    "under its limit, 10,000 rules": many_rules(),
    "under its limit, fine clock": FINE,
    "under its limit, both rates": BOTH_RATES,
    "over its limit, shadow": SHADOW,
    "over its limit, dropped": SLOW,
    "mode off": OFF,
}


def measure(workers: Workers, rounds: int) -> Section:
    """Run one IPv4 flow through the default table's program, with each rule set in force."""
    section = Section("limiter, one IPv4 flow, one CPU")
    sets = {name: limited.read(text) for name, text in TEXTS.items()}
    table = TABLES[0]
    blueprints = [whole(table, limited.size(limits), ENTRIES) for limits in sets.values()]
    with ExitStack() as stack:
        bare, without, *datapaths = build([BARE, whole(table, max_entries=ENTRIES), *blueprints], stack)
        enforced = {
            name: limited.enforce(datapath, limits)
            for (name, limits), datapath in zip(sets.items(), datapaths, strict=True)
        }
        runs = {
            "bare": Run(bare.programs["bare"], [FRAME]),
            "without the limiter": Run(without.programs["whole"], [FRAME]),
            **{name: one.run(FRAME) for name, one in enforced.items()},
            "allowed": enforced["under its limit"].run(ALLOWED),
            "denied": enforced["under its limit"].run(DENIED),
        }
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(rounds + 1):
            for name, run in runs.items():
                value = workers.run(run, PACKETS)
                if turn:  # the first one makes the flow and the source
                    taken[name].append(value)
    figure = section.add("bare", "ns", taken.pop("bare"))
    others = {"bare": figure}
    for name, values in taken.items():
        figure = section.add(name, "ns", values, others, *BARS.get(name, ()))
        others.setdefault("without", figure)
    return section
