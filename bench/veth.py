"""End to end through a veth pair: live frames from one end, the program on the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from bench import wire
from bench.limited import DROPPED
from bench.report import Bar, Figure, Section
from bench.subjects import Subjects
from bench.workloads import AT_RANDOM, ESTABLISHED, FLOWS_512K, IN_TURN, course
from cnf.datapath.blueprint import Table
from cnf.datapath.counters import InterfaceCounters
from cnf.kernel import libbpf
from cnf.kernel.attacher import Ours
from cnf.kernel.xdp import XdpAttacher

FRAMES: Final = 1 << 16
BARE: Final = "bare pass"
BARE_DROP: Final = "bare drop"
FLOWS: Final = {"one flow": 1, "512 k flows": FLOWS_512K.flows}
PASS_BARS: Final = {"one flow": (0.94, 0.97), "512 k flows": (0.50, 0.60)}
EMPTYING: Final = bytes(1460)
"""A payload that leaves nothing in a bucket of 1514 bytes."""


def measure(subjects: Subjects, rounds: int) -> Section:
    """Send by turns to bare programs and to the whole one with limiter, what passes and then what is dropped."""
    section = Section("veth, packets a second on one CPU")
    for verdict, first in (("pass", ESTABLISHED), ("drop", DROPPED)):
        taken = _measure(subjects, first, rounds)
        for flows in FLOWS:
            figures: dict[str, Figure] = {}
            for receiver in (BARE, BARE_DROP):
                others = {BARE: figures[BARE]} if figures else {}
                figures[receiver] = section.add(
                    f"{verdict}, {flows}: {receiver}", "Mpps", taken[flows, receiver], others
                )
            for table in subjects.limited:
                bars = [Bar(f"veth, {flows}", *PASS_BARS[flows], BARE, least=True)] if verdict == "pass" else []
                section.add(f"{verdict}, {flows}: cnf {table}", "Mpps", taken[flows, table], figures, *bars)
    return section


def _measure(subjects: Subjects, first: int, rounds: int) -> Mapping[tuple[str, str | Table], list[float]]:
    """Return millions of packets a second by flows and receiver, of sources from ``first`` on."""
    sender = subjects.bare.programs["send"]
    receivers: dict[str | Table, int] = {
        BARE: subjects.bare.programs["bare"],
        BARE_DROP: subjects.bare.programs["bare_drop"],
    }
    for table, one in subjects.limited.items():
        receivers[table] = one.datapath.programs["whole"]
        InterfaceCounters(one.datapath.maps).assign(wire.RECEIVER.index)
        with _attached(receivers[table]):
            wire.send(sender, course("ipv4", FLOWS_512K.flows, first, IN_TURN, EMPTYING), FLOWS_512K.flows)
    taken: dict[tuple[str, str | Table], list[float]] = {(flows, name): [] for flows in FLOWS for name in receivers}
    for _ in range(rounds):
        for name, program in receivers.items():
            with _attached(program):
                for flows, number in FLOWS.items():
                    taken[flows, name].append(_rate(sender, course("ipv4", number, first, AT_RANDOM)))
    return taken


@contextmanager
def _attached(fd: int) -> Iterator[None]:
    with XdpAttacher(Ours(fd, libbpf.program_id(fd)), {}) as attacher:
        attacher.attach(wire.RECEIVER, "native")
        try:
            yield
        finally:
            attacher.detach(wire.RECEIVER)


def _rate(sender: int, frame: bytes) -> float:
    before, started = wire.received(), time.monotonic_ns()
    wire.send(sender, frame, FRAMES)
    taken = time.monotonic_ns() - started
    return 1000 * (wire.received() - before) / taken
