"""``cnfctl flows``: once or repeatedly, as a table, JSON, JSON lines or CSV."""

from __future__ import annotations

import argparse
import shutil
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from cnf.cli.api.client import Client
from cnf.cli.api.stream import print_array, print_raw
from cnf.cli.flows.choices import PAIRS, Choices
from cnf.cli.flows.listing import Asked, ask, lines_of
from cnf.cli.flows.names import MOST, PATIENCE, Names, in_csv, in_jsonl
from cnf.cli.flows.screen import FlowScreen
from cnf.cli.flows.table import View
from cnf.cli.show import watch
from cnf.cli.show.past import in_local_time, missing
from cnf.cli.show.table import is_screen, print_lines, style_for
from cnf.cli.times import asked as asked_past
from cnf.errors import UsageError
from cnf.units import number_of

TABLE_ROWS: Final = 20
WATCHED_PATIENCE: Final = 0.2
"""Seconds that a table that is shown again waits for names: the next one has them."""
NO_SCREEN: Final = "this terminal cannot be drawn on again (TERM): one table follows the other, and no keys"


def run(arguments: argparse.Namespace) -> int:
    """Show flows as the command line that ``cnf.cli`` parsed asks, and return the exit status."""
    client, past = Client(arguments.socket), asked_past(arguments)
    if past and arguments.watch is not None:
        raise UsageError("the past does not change: expected --watch without --at, --from and --to")
    # What goes on now where it is watched, else what was most in all.
    sort = arguments.sort or ("bytes" if arguments.watch is None else "rate")
    asked = Asked(sort, PAIRS if arguments.pairs else arguments.by, arguments.filter, past, arguments.owner)
    if arguments.watch is None:
        names = Names() if arguments.names else None
        with in_local_time():
            _print(client, asked, arguments, names, again=False)
            if asked.past and arguments.output != "table":
                _say_what_is_missing(client, asked)
        if names and names.late:
            late = number_of(len(names.late), "name")
            text = f"cnfctl: {late} had not come within {PATIENCE:g} s (at most {MOST:,} are asked for)"
            print(text, file=sys.stderr)
        return 0
    names = Names(WATCHED_PATIENCE) if arguments.names else None
    seconds = arguments.watch or client.status()["drain"]["interval_seconds"]
    if arguments.output == "table" and is_screen(sys.stdout):
        choices = Choices(asked.sort, asked.way, asked.filter, custom=asked.way)
        watch.on_screen(FlowScreen(client, choices, arguments.top, seconds, names, owner=arguments.owner), seconds)
        return 0
    if arguments.output == "table" and sys.stdout.isatty():
        print(f"cnfctl: {NO_SCREEN}", file=sys.stderr)
    watch.as_stream(lambda shown: _print(client, asked, arguments, names, again=shown > 0), seconds)
    return 0


def _say_what_is_missing(client: Client, asked: Asked) -> None:
    """Write to stderr what is in none of the lines: a table says it below."""
    history = client.flows({"top": 1, **asked.past})["history"]
    if history:
        grouped = asked.way not in (None, PAIRS)
        for note in missing(history, rest=not grouped, filtered=asked.filter is not None):
            print(f"cnfctl: {note}", file=sys.stderr)


def _print(client: Client, asked: Asked, arguments: argparse.Namespace, names: Names | None, *, again: bool) -> None:
    if arguments.output == "table":
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        view = View(width, style_for(sys.stdout), datetime.now(UTC), asked.sort, filtered=asked.filter is not None)
        table = lines_of(ask(client, asked, arguments.top or TABLE_ROWS, names), asked, view)
        print_lines(["", *table] if again else table)
    elif arguments.output == "json":
        flows = client.each_flow(asked.query(arguments.top))
        print_array(names.beside(flows) if names else flows)
    else:
        lines = client.flow_lines(asked.query(arguments.top), arguments.output)
        if names:
            lines = in_csv(names, lines) if arguments.output == "csv" else in_jsonl(names, lines)
        # A stream of CSV has one header line, so that it can be read as one file.
        print_raw(islice(lines, 1 if again and arguments.output == "csv" else 0, None))
