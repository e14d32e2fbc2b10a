"""``cnfctl limits``: the limiter's rules, who is held back and why, and changes to the rules."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from cnf.cli.api.client import Client, Query, Request
from cnf.cli.api.limit_replies import Change
from cnf.cli.api.stream import print_array, print_raw
from cnf.cli.limits import explanation, lists, tables
from cnf.cli.limits.arguments import NONE
from cnf.cli.limits.glance import OFF, pending_words, protection
from cnf.cli.limits.ssh_connection import ssh_connection
from cnf.cli.show.past import in_local_time
from cnf.cli.show.table import print_lines, style_for
from cnf.cli.times import asked
from cnf.errors import UsageError
from cnf.units import printable

TABLE_ROWS: Final = 20

_RULE_OPTIONS: Final = (
    "prefixes",
    "packets_per_second",
    "burst_packets",
    "bits_per_second",
    "burst_bytes",
    "bucket",
    "protocols",
    "interfaces",
    "mode",
)


def show(arguments: argparse.Namespace) -> int:
    """List the limits, and return the exit status."""
    limits, now = Client(arguments.socket).limits(), datetime.now(UTC)
    return _print(arguments, limits, lambda width: tables.page(limits, width, style_for(sys.stdout), now))


def listed(arguments: argparse.Namespace) -> int:
    """List who is denied or allowed, and return the exit status."""
    limits, now, style = Client(arguments.socket).limits(), datetime.now(UTC), style_for(sys.stdout)
    if arguments.list == "allow":
        return _print(arguments, limits["allow"], lambda width: lists.allowed_lines(limits["allow"], width, style, now))
    off = [OFF] if limits["mode"] == "off" and limits["deny"] else []
    return _print(
        arguments, limits["deny"], lambda width: [*lists.denied_lines(limits["deny"], width, style, now), *off]
    )


def sets(arguments: argparse.Namespace) -> int:
    """List the sets of prefixes, and return the exit status."""
    rows, now, style = Client(arguments.socket).sets()["sets"], datetime.now(UTC), style_for(sys.stdout)
    return _print(arguments, rows, lambda width: lists.set_lines(rows, width, style, now))


def change(arguments: argparse.Namespace) -> int:
    """Have the limits changed, say what that did, and return the exit status."""
    reply = Client(arguments.socket).change_limits(_request(arguments))
    return _print(arguments, reply, lambda _: _changed(reply))


def sources(arguments: argparse.Namespace) -> int:
    """Show the sources that are held back most, and return the exit status."""
    client, sort = Client(arguments.socket), arguments.sort
    top = arguments.top or (TABLE_ROWS if arguments.output == "table" else None)
    chosen = {"sort": sort, "top": top, "all": 1 if arguments.all else None}
    query: Query = {key: value for key, value in chosen.items() if value is not None}
    query = {**query, **asked(arguments)}
    with in_local_time():
        _sources(client, query, arguments)
    return 0


def _sources(client: Client, query: Query, arguments: argparse.Namespace) -> None:
    if arguments.output == "table":
        reply, now = client.sources(query), datetime.now(UTC)
        style = style_for(sys.stdout)
        print_lines(tables.source_lines(reply, width=_width(), style=style, now=now, sort=arguments.sort))
    elif arguments.output == "json":
        print_array(client.each_source(query))
    else:
        print_raw(client.source_lines(query, arguments.output))


def explain(arguments: argparse.Namespace) -> int:
    """Say what happens to an address's packets and why, and return the exit status."""
    asked = {name: getattr(arguments, name) for name in ("address", "protocol", "interface")}
    query = {name: value for name, value in asked.items() if value is not None}
    reply, now = Client(arguments.socket).explain(query), datetime.now(UTC)
    return _print(arguments, reply, lambda width: explanation.page(reply, width, style_for(sys.stdout), now))


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print(arguments: argparse.Namespace, document: object, page: Callable[[int | None], Iterable[str]]) -> int:
    if arguments.output == "json":
        print(json.dumps(document, indent=2))
    else:
        print_lines(page(_width()))
    return 0


def _request(arguments: argparse.Namespace) -> Request:
    given = vars(arguments)
    keys = ["until", "reason", "confirm"]
    if arguments.op != "set":
        keys += ["name", "prefix", "keep_longer", "mode", "number"]
    request = {key: given[key] for key in keys if key in given}
    if arguments.op == "set":
        request["rule"] = _rule(given)
    return {"op": arguments.op, **request, "ssh_connection": ssh_connection()}


def _rule(given: Mapping[str, object]) -> Mapping[str, object]:
    """Return the options of a rule that were given; null takes one back."""
    options = {key: _setting(given[key]) for key in _RULE_OPTIONS if key in given}
    if not options:
        message = f"nothing to set for {given['name']}, expected --packets-per-second or another option"
        raise UsageError(message, remedy="see cnfctl limits set --help")
    return {"name": given["name"], **options}


def _setting(value: object) -> object:
    values = value if isinstance(value, list) else [value]
    if NONE not in values:
        return value
    if len(values) > 1:
        raise UsageError(f"{NONE} takes all back, it cannot stand beside {len(values) - 1} more")
    return None


def _changed(reply: Change) -> Iterator[str]:
    changes = "; ".join(reply["changes"]) or "nothing changed"
    yield printable(f"{changes} (generation {reply['generation']})")
    if reply["mode"] == "off":
        yield OFF
    for each in reply["pending"]:
        yield printable(pending_words(each))
    if reply["protected"]:
        yield printable(protection(reply["protected"]))
