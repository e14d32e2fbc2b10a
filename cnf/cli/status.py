"""``cnfctl status``: the daemon at a glance, with warnings."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, cast

from cnf.cli.api.client import Client
from cnf.cli.api.replies import LEDGER_STATES, Drain, FlowTable, Interface, SentTally, Status, Tally
from cnf.cli.export.glance import glance as export_glance
from cnf.cli.limits.glance import glance as limits_glance
from cnf.cli.show.table import SPARE, Column, Style, print_lines, render, style_for
from cnf.cli.show.warnings import fill_bar, troubles, warning
from cnf.units import bit_rate, count, duration, moment, number_of, packets, printable, size

LATE_DRAIN: Final = 3
"""Intervals after which a drain is overdue."""

LEAST_COVERAGE: Final = 0.9
"""Share of the driver's packets from which on nothing is missing: see docs/operations.md."""

_NONE: Final = "-"
_SEEN: Final = {"ingress": "received", "egress": "sent"}


def run(arguments: argparse.Namespace) -> int:
    """Show the status as the command line that ``cnf.cli`` parsed asks, and return the exit status."""
    status = Client(arguments.socket).status()
    if arguments.output == "json":
        print(json.dumps(status, indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print_lines(page(status, width, style_for(sys.stdout)))
    return 0


def page(status: Status, width: int | None, style: Style) -> Iterator[str]:
    """Yield the lines of the page. Tables are at most ``width`` wide; None is no bound."""
    sections = (
        _daemon(status, style),
        _interfaces(status["interfaces"], width, style),
        _flow_tables(status["flow_table"], width, style),
        limits_glance(status["limiter"], width, style) if status["limiter"] else (),
        _ledgers(status["ledger"], status["sent_ledger"], width, style),
        export_glance(status["records"], width, style) if status["records"] else (),
        _drain(status["drain"], width, style),
    )
    for index, lines in enumerate(filter(None, map(list, sections))):
        yield from ["", *lines] if index else lines


def _daemon(status: Status, style: Style) -> Iterator[str]:
    daemon = status["daemon"]
    started = datetime.fromisoformat(daemon["started"])
    running = f"pid {daemon['pid']}, up {duration(daemon['uptime_seconds'])} (since {moment(started)})"
    yield f"{style.bold(printable('cnfd ' + daemon['version']))}  {running}"
    config = daemon["config"] or "no configuration file"
    yield printable(f"Linux {daemon['kernel']}, BCC {daemon['bcc_version'] or 'unknown'}, {config}")
    ways = (("receiving", status["rates"]), ("sending", status["sent_rates"]))
    yield "; ".join(
        f"{verb} {bit_rate(rates['bits_per_second'])}, {packets(rates['packets_per_second'])}/s"
        for verb, rates in ways
        if verb == "receiving" or rates["packets_per_second"]
    )


def _interfaces(interfaces: list[Interface], width: int | None, style: Style) -> Iterator[str]:
    columns: tuple[Column[Interface], ...] = (
        Column("INTERFACE", lambda interface: interface["name"]),
        Column("STATE", lambda interface: interface["state"]),
        Column("MODE", lambda interface: interface["mode"] or _NONE),
        Column("EGRESS", lambda interface: _mode(interface, "egress"), priority=SPARE),
        Column("ASKED", lambda interface: interface["requested_mode"]),
        Column("PROGRAM", lambda interface: str(interface["program_id"] or _NONE), right=True),
        Column("PACKETS", lambda interface: f"{interface['received_packets']:,}", right=True),
        Column("BYTES", lambda interface: size(interface["received_bytes"]), right=True),
        Column("COVERAGE", _coverage, right=True, priority=SPARE + 1),
        Column("SENT PACKETS", lambda interface: f"{interface['sent_packets']:,}", right=True, priority=SPARE),
        Column("SENT BYTES", lambda interface: size(interface["sent_bytes"]), right=True, priority=SPARE),
    )
    yield from render(columns, interfaces, width, style)
    for interface in interfaces:
        if interface["error"]:
            yield from warning(f"{interface['name']}: {interface['error']}", width, style)
        elif interface["state"] == "missing":
            yield from warning(f"{interface['name']}: no such interface; attached when it appears", width, style)
        if interface["warning"]:
            yield from warning(f"{interface['name']}: {interface['warning']}", width, style)
        for there in interface["directions"]:
            if there["coverage"] is not None and there["coverage"] < LEAST_COVERAGE:
                share = f"{there['coverage']:.1%}".replace("%", " %")
                what = f"of what its driver counts as {_SEEN[there['direction']]}, {share} was seen"
                yield from warning(f"{interface['name']}: {what} (docs/operations.md, coverage)", width, style)


def _mode(interface: Interface, direction: str) -> str:
    """Return the mode of one direction."""
    modes = (there["mode"] for there in interface["directions"] if there["direction"] == direction)
    return next(modes, None) or _NONE


def _coverage(interface: Interface) -> str:
    """Return the share of packets, of those received and of those sent."""
    shares = [there["coverage"] for there in interface["directions"]]
    return ", ".join(_NONE if share is None else f"{100 * share:.1f} %" for share in shares) or _NONE


def _flow_tables(tables: dict[str, FlowTable], width: int | None, style: Style) -> Iterator[str]:
    if not tables:
        return

    def number(field: Callable[[FlowTable], int]) -> Callable[[tuple[str, FlowTable]], str]:
        return lambda row: f"{field(row[1]):,}"

    columns: tuple[Column[tuple[str, FlowTable]], ...] = (
        Column("FLOWS", lambda row: row[0]),
        Column("ENTRIES", number(lambda table: table["entries"]), right=True),
        Column("CAPACITY", number(lambda table: table["capacity"]), right=True),
        Column("FILL", lambda row: fill_bar(row[1])),
        Column("CREATED", lambda row: count(row[1]["created"]), right=True, priority=SPARE),
        Column("EXPIRED", lambda row: count(row[1]["expired"]), right=True, priority=SPARE),
        Column("EVICTED", lambda row: count(row[1]["evicted"]), right=True),
        Column("ERRORS", lambda row: count(row[1]["insert_errors"]), right=True),
    )
    yield from render(columns, list(tables.items()), width, style)
    for family, table in tables.items():
        for trouble in troubles(family, table, "flow", "flows.max_entries", table["created"]):
            yield from warning(trouble, width, style)


def _ledgers(received: dict[str, Tally], sent: dict[str, SentTally], width: int | None, style: Style) -> Iterator[str]:
    """Yield what was received by state, and beside it what was sent, if anything was."""
    if not received.keys() & sent.keys() >= {"packets", "bytes"}:
        return
    both = received["packets"], received["bytes"], sent["packets"], sent["bytes"]
    tallies = [cast("dict[str, int]", tally) for tally in both]
    every = [received["packets"]["received"], received["bytes"]["received"]]
    every += [sent["packets"]["sent"], sent["bytes"]["sent"]]
    rows = [(state, [tally[state] for tally in tallies]) for state in LEDGER_STATES]
    rows.append(("sum", [count - tally["difference"] for count, tally in zip(every, tallies, strict=True)]))
    rows.append(("all", every))
    columns: tuple[Column[tuple[str, list[int]]], ...] = (
        Column("LEDGER", lambda row: row[0]),
        Column("RECEIVED", lambda row: f"{row[1][0]:,}", right=True),
        Column("BYTES", lambda row: f"{row[1][1]:,}", right=True),
        Column("SENT", lambda row: f"{row[1][2]:,}", right=True),
        Column("BYTES", lambda row: f"{row[1][3]:,}", right=True),
    )
    yield from render(columns if any(every[2:]) else columns[:3], rows, width, style)
    late = [abs(tally["difference"]) for tally in tallies]
    if any(late):
        packets_late, bytes_late = late[0] + late[2], late[1] + late[3]
        yield f"{number_of(packets_late, 'packet')} ({number_of(bytes_late, 'byte')}) passed during the drain"
    else:
        yield "balanced: every packet stands in exactly one state"


def _drain(drain: Drain, width: int | None, style: Style) -> Iterator[str]:
    age, took, interval = drain["age_seconds"], drain["duration_seconds"], drain["interval_seconds"]
    every = f"every {duration(interval)}"
    yield (
        f"drained {duration(age)} ago in {duration(took)}; {every}" if took is not None else f"not drained yet; {every}"
    )
    if age > LATE_DRAIN * interval:
        yield from warning("the drain is overdue: all numbers are as old as it (journalctl -u cnfd)", width, style)
    if drain["errors"]:
        latest = f", the latest: {drain['last_error']}" if drain["last_error"] else ""
        yield from warning(f"{number_of(drain['errors'], 'drain')} failed{latest}", width, style)
