"""A flow table of a million flows, as packets have made them, and what the daemon reads it with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from bench import wire
from bench.subjects import BARE, LOOPBACK, MAX_ENTRIES, TABLES, build
from bench.workloads import AT_RANDOM, ESTABLISHED, IN_TURN, course
from cnf import config
from cnf.config import Settings
from cnf.datapath.blueprint import Blueprint, Table
from cnf.datapath.build import Datapath
from cnf.datapath.counters import InterfaceCounters
from cnf.flows.drain import Tracker
from cnf.flows.stream import Stream
from cnf.interfaces.attachers import attachers_for
from cnf.interfaces.reconcile import Interfaces
from cnf.kernel.hooks import HOOKS
from cnf.kernel.links import Links
from cnf.process.gc_tuning import return_large_blocks

FLOWS: Final = 1_000_000
"""A little below MAX_ENTRIES: a full table evicts."""
SETTINGS: Final = f"""
interfaces = [{{name = "{wire.RECEIVER.name}", mode = "native", directions = ["ingress"]}}]
flows = {{idle_timeout = "1h"}}
"""
FRAME: Final = course("ipv4", FLOWS, ESTABLISHED, IN_TURN)


@dataclass(frozen=True, slots=True)
class Filled:
    """The daemon's parts around a table of FLOWS flows."""

    datapath: Datapath
    settings: Settings
    interfaces: Interfaces
    tracker: Tracker
    sender: int

    def touch(self, flows: int) -> None:
        """Send a packet of each of the next ``flows`` flows."""
        wire.send(self.sender, FRAME, flows)

    def touch_at_random(self, packets: int) -> None:
        """Send so many packets, so that flows come to differ in size."""
        wire.send(self.sender, course("ipv4", FLOWS, ESTABLISHED, AT_RANDOM), packets)

    @contextmanager
    def on_the_wire(self) -> Iterator[None]:
        """Attach the program."""
        self.interfaces.reconcile()
        try:
            yield
        finally:
            self.interfaces.detach_all()


@contextmanager
def filled() -> Iterator[Mapping[Table, Filled]]:
    """Load the program with each table, and send it a packet of every flow."""
    return_large_blocks()  # as the daemon does
    with ExitStack() as stack:
        bare, *datapaths = build([BARE, *(Blueprint(MAX_ENTRIES, table, hooks=HOOKS) for table in TABLES)], stack)
        tables = {}
        for table, datapath in zip(TABLES, datapaths, strict=True):
            tables[table] = around(datapath, bare.programs["send"], stack)
            with tables[table].on_the_wire():
                tables[table].touch(FLOWS)
        yield tables


def around(datapath: Datapath, sender: int, stack: ExitStack, stream: Stream | None = None) -> Filled:
    """Return what is around a datapath; ``stream`` gets the records of its flows."""
    settings = config.parse(SETTINGS, "bench")
    attachers = attachers_for(datapath, {}, None, stack)
    links, counters = stack.enter_context(Links()), InterfaceCounters(datapath.maps)
    counters.release(LOOPBACK)  # where BPF_PROG_TEST_RUN lets packets come in
    interfaces = Interfaces(settings.interfaces, attachers, links, counters, structlog.get_logger())
    return Filled(datapath, settings, interfaces, Tracker(datapath, interfaces.tallies, settings.flows, stream), sender)
