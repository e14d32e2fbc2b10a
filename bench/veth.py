"""End to end through a veth pair: live frames from one end, the program on the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench import calls, wire
from bench.datapath import FRAME4
from bench.report import Section
from cnf.kernel import libbpf
from cnf.kernel.attach import Attacher
from cnf.kernel.counters import InterfaceCounters
from cnf.kernel.program import Datapath

FRAMES: Final = 1 << 18
SENDERS: Final = {"one flow": "send_one", "16 k flows": "send_many"}
RECEIVERS: Final = {"bare pass": "bare_pass", "whole program": "whole"}


def measure(datapath: Datapath, rounds: int) -> Iterator[Section]:
    """Send in turns to a bare pass and to the whole program, one flow and many."""
    InterfaceCounters(datapath.maps).assign(wire.RECEIVER.index)
    taken: dict[tuple[str, str], list[float]] = {(flows, what): [] for flows in SENDERS for what in RECEIVERS}
    for _ in range(rounds):
        for what, receiver in RECEIVERS.items():
            with _attached(datapath.programs[receiver]):
                for flows, sender in SENDERS.items():
                    taken[flows, what].append(_nanoseconds(datapath.programs[sender]))
    for flows in SENDERS:
        section = Section(f"a packet through a veth pair, {flows}", reference="bare pass")
        for what in RECEIVERS:
            values = taken[flows, what]
            section.add(what, values, "ns")
            section.notes.append(f"{what}: {1000 / min(values):.2f} million packets a second on one CPU")
        yield section


@contextmanager
def _attached(fd: int) -> Iterator[None]:
    with Attacher(fd, libbpf.program_id(fd), {}) as attacher:
        attacher.attach(wire.RECEIVER, "native")
        try:
            yield
        finally:
            attacher.detach(wire.RECEIVER)


def _nanoseconds(sender: int) -> float:
    before, started = wire.received(), time.monotonic_ns()
    calls.send_live(sender, FRAME4, FRAMES)
    taken = time.monotonic_ns() - started
    return taken / (wire.received() - before)
