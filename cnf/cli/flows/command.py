"""``cnfctl flows``: once or repeatedly, as a table, JSON, JSON lines or CSV."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from cnf.cli.api.client import Client, Query
from cnf.cli.api.replies import Flows, Pairs
from cnf.cli.api.stream import print_array, print_raw
from cnf.cli.flows.table import flow_lines, pair_lines
from cnf.cli.show import watch
from cnf.cli.show.past import in_local_time
from cnf.cli.show.table import is_screen, print_lines, style_for
from cnf.cli.show.units import clock_time, cut_end, duration, packets, printable, size
from cnf.cli.times import asked
from cnf.errors import UsageError

TABLE_ROWS: Final = 20


def run(arguments: argparse.Namespace) -> int:
    """Show flows as the command line that ``cnf.cli`` parsed asks, and return the exit status."""
    client, past = Client(arguments.socket), asked(arguments)
    if past and arguments.watch is not None:
        raise UsageError("the past does not change: expected --watch without --at, --from and --to")
    if arguments.watch is None:
        with in_local_time():
            _print(client, arguments, again=False)
        return 0
    seconds = arguments.watch or client.status()["drain"]["interval_seconds"]
    if arguments.output == "table" and is_screen(sys.stdout):
        watch.on_screen(lambda terminal: _frame(client, arguments, terminal, seconds), seconds)
    else:
        watch.as_stream(lambda shown: _print(client, arguments, again=shown > 0), seconds)
    return 0


def _query(arguments: argparse.Namespace, top: int | None) -> Query:
    chosen = {"top": top, "sort": arguments.sort, "filter": arguments.filter, "pairs": 1 if arguments.pairs else None}
    return {name: value for name, value in chosen.items() if value is not None} | asked(arguments)


def _print(client: Client, arguments: argparse.Namespace, *, again: bool) -> None:
    if arguments.output == "table":
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        table = _table(_reply(client, arguments, arguments.top or TABLE_ROWS), arguments, width)
        print_lines(["", *table] if again else table)
    elif arguments.output == "json":
        print_array(client.each_flow(_query(arguments, arguments.top)))
    else:
        lines = client.flow_lines(_query(arguments, arguments.top), arguments.output)
        # A stream of CSV has one header line, so that it can be read as one file.
        print_raw(islice(lines, 1 if again and arguments.output == "csv" else 0, None))


def _reply(client: Client, arguments: argparse.Namespace, top: int) -> Flows | Pairs:
    query = _query(arguments, top)
    return client.pairs(query) if arguments.pairs else client.flows(query)


def _table(reply: Flows | Pairs, arguments: argparse.Namespace, width: int | None) -> list[str]:
    lines: Callable[..., list[str]] = pair_lines if arguments.pairs else flow_lines
    return lines(
        reply, width=width, style=style_for(sys.stdout), now=datetime.now(UTC), filtered=arguments.filter is not None
    )


def _frame(client: Client, arguments: argparse.Namespace, terminal: os.terminal_size, seconds: float) -> list[str]:
    """Return a screenful: title, filter, as many flows as fit, and the summary."""
    rows = max(terminal.lines - 4, 1)
    reply = _reply(client, arguments, min(arguments.top or rows, rows))
    width = terminal.columns
    restriction = "" if arguments.filter is None else cut_end(f"filter: {printable(arguments.filter)}", width)
    return [_title(reply, arguments.sort, seconds, width), restriction, *_table(reply, arguments, width)]


def _title(reply: Flows | Pairs, sort: str, seconds: float, width: int) -> str:
    style = style_for(sys.stdout)
    name, leave = "cnfctl flows", "q quits"
    totals = f"{packets(reply['totals']['packets'])}, {size(reply['totals']['bytes'])}"
    text = f"  {clock_time(datetime.now(UTC))}, every {duration(seconds)}, by {sort}: {totals}"
    text = cut_end(text, max(width - len(name), 1))
    room = width - len(name) - len(text)
    return style.bold(name) + text + (style.dim(leave.rjust(room)) if room > len(leave) else "")
