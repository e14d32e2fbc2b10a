"""Memory that cnfd takes, at its start and at most, held against what there is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from cnf import config
from cnf.cli.doctor.report import Finding
from cnf.datapath import sizes
from cnf.datapath.blueprint import plan
from cnf.limits.prefix_file import RefusedLinesError, read
from cnf.limits.table import NO_TABLE, Limits
from cnf.units import size

START_BYTES: Final = 120_000_000
"""Bytes that the daemon, and the compiler beside it, take at the start; the tables stand in memory already."""
DAEMON_BYTES: Final = 95_000_000
FLOW_BYTES: Final = 300
SOURCE_BYTES: Final = 320
"""Bytes that the daemon itself takes at most: once it is ready, for each flow, and for each source."""
PREFIX_BYTES: Final = 160
"""And for each prefix of a set, while its file is read anew."""
LISTED_FLOW_BYTES: Final = 110
LISTED_SOURCE_BYTES: Final = 160
"""Bytes that a listing slower than a drain takes of each; cnfd writes so many listings at a time:"""
LISTINGS: Final = 2


class Room(NamedTuple):
    """Memory that there is: what it is called, how much, and what else makes more of it."""

    name: str
    bytes: int
    remedy: str = ""


def table_bytes(settings: config.Settings) -> int:
    """Return what the tables take, all of it from the start."""
    blueprint = plan(settings)
    sources = sizes.source_bytes(blueprint, settings.limits.max_sources)
    return sizes.flow_bytes(blueprint) + sizes.interface_bytes(blueprint) + sources


def daemon_bytes(flows: config.Flows, limits: Limits, prefixes: int = 0) -> tuple[int, int]:
    """Return what the daemon takes at most with all tables full, and while all of them is listed besides.

    ``prefixes`` are those in all sets.
    """
    families = 1 + flows.ipv6
    many_flows, many_sources = flows.max_entries * families, limits.max_sources * 2
    daemon = DAEMON_BYTES + FLOW_BYTES * many_flows + SOURCE_BYTES * many_sources + PREFIX_BYTES * prefixes
    return daemon, daemon + LISTINGS * max(LISTED_FLOW_BYTES * many_flows, LISTED_SOURCE_BYTES * many_sources)


def set_prefixes(limits: Limits) -> int:
    """Return how many prefixes are in the files of the sets that can be read."""
    count = 0
    for path in (Path(each.file) for each in limits.sets):
        with suppress(OSError, RefusedLinesError):
            if path.is_file():
                with path.open("rb") as file:
                    count += len(read(file))
    return count


def judge_memory(settings: config.Settings, room: Room) -> Finding:
    """Compare the start, and a daemon with all tables full, with the memory that there is."""
    limits, tables = settings.limits, table_bytes(settings)
    daemon, listing = daemon_bytes(settings.flows, limits, set_prefixes(limits))
    remedy = f"lower flows.max_entries, it is {settings.flows.max_entries}"
    if limits != NO_TABLE:
        remedy += f", or limits.max_sources, it is {limits.max_sources}"
    seen = (
        f"tables of flows, interfaces and sources {size(tables)}, cnfd {size(START_BYTES)} at its start,"
        f" up to {size(daemon)}, {size(listing)} while all is listed; {room.name} {size(room.bytes)}"
    )
    if room.remedy:
        remedy = f"{room.remedy}; or {remedy}"
    if tables + START_BYTES > room.bytes:
        return Finding("memory", "problem", seen, remedy, os.EX_OSERR)
    if tables + listing > room.bytes:
        return Finding("memory", "warning", seen, remedy)
    return Finding("memory", "ok", seen)
