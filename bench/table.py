"""A flow table full of made-up flows, written from user space, and what the daemon reads it with."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import structlog

from bench import calls, wire
from cnf import config
from cnf.daemon import M_MMAP_THRESHOLD
from cnf.interfaces import Interfaces
from cnf.kernel.attach import Attacher
from cnf.kernel.counters import InterfaceCounters
from cnf.kernel.links import Links
from cnf.kernel.program import Blueprint, load
from cnf.records import FLOW4_KEY, FLOW_VALUE, TCP, UDP
from cnf.tracker import Tracker

Records = npt.NDArray[Any]

MAX_ENTRIES: Final = 1 << 20
FLOWS: Final = 1_000_000
"""A little below the table's size: a full one evicts."""
LONG_AGO: Final = 0
YET_TO_COME: Final = 1 << 36
"""Jiffies that flows are stamped with, to expire at the next drain or never."""


def made_up(count: int) -> tuple[Records, Records]:
    """Return keys and values of ``count`` flows of the receiver that do not expire."""
    random = np.random.default_rng(1)
    keys, values = np.zeros(count, FLOW4_KEY), np.zeros(count, FLOW_VALUE)
    keys["src_addr"] = (np.arange(count, dtype=">u4") + (10 << 24)).view("<u4")
    keys["dst_addr"] = random.integers(0, 1 << 32, count)
    keys["src_port"] = random.integers(1024, 1 << 16, count)
    keys["dst_port"] = random.choice((53, 80, 123, 443, 8080), count)
    keys["ifindex"] = wire.RECEIVER.index
    keys["protocol"] = random.choice((TCP, UDP), count)
    values["packets"] = random.geometric(0.1, count)
    values["bytes"] = values["packets"] * random.integers(60, 1515, count)
    values["first_seen"] = values["last_seen"] = YET_TO_COME
    values["tcp_flags"] = 0x10
    return keys, values


@dataclass(slots=True)
class Table:
    """The daemon's parts around a table of FLOWS flows."""

    fd: int
    bcc_version: str
    keys: Records
    values: Records
    settings: config.Settings
    interfaces: Interfaces
    tracker: Tracker

    def change(self, part: slice, seen: int = YET_TO_COME) -> None:
        """Count another packet in the flows ``part``, as of ``seen``."""
        values = self.values[part]
        values["packets"] += 1
        values["bytes"] += 1000
        values["last_seen"] = seen
        calls.update(self.fd, self.keys[part], values)


@contextmanager
def filled() -> Iterator[Table]:
    """Load the program, attach it to the wire, and fill its IPv4 table."""
    settings = config.for_interfaces([wire.RECEIVER.name])
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)  # as the daemon does
    datapath = load(Blueprint(MAX_ENTRIES))
    try:
        with Attacher(datapath.programs["cnf_ingress"], datapath.program_id, {}) as attacher, Links() as links:
            counters = InterfaceCounters(datapath.maps)
            interfaces = Interfaces(settings.interfaces, attacher, links, counters, structlog.get_logger())
            interfaces.reconcile()
            fd, (keys, values) = datapath.maps["flows4"], made_up(FLOWS)
            calls.update(fd, keys, values)
            tracker = Tracker(datapath, interfaces, settings.flows)
            try:
                yield Table(fd, datapath.bcc_version, keys, values, settings, interfaces, tracker)
            finally:
                interfaces.detach_all()
    finally:
        datapath.close()
