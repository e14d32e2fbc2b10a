"""``cnfctl events``: show events as they happen, until the user interrupts it."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Iterator
from typing import Final

from cnf.cli.api.client import Client, Query
from cnf.cli.api.event_replies import Event, Events
from cnf.cli.events.lines import event_line
from cnf.cli.show.table import print_lines, style_for
from cnf.cli.show.units import number_of, printable
from cnf.errors import CnfError

RECENT: Final = 10
"""Events that are shown at the start."""
INTERVAL: Final = 0.2
"""Seconds between two requests. The daemon answers at once, so that none of its threads waits for an event."""


class Follower:
    """Ask for new events, and notice missing ones."""

    def __init__(self, client: Client, since: int | None) -> None:
        """Begin after the event numbered ``since``; if None, with the latest few events."""
        self._client = client
        self._query: Query = {"top": RECENT} if since is None else {"after": since}
        self._before: Events | None = None
        self._seen = since
        """The number of the latest event that was shown."""

    def ask(self) -> tuple[list[Event], list[str]]:
        """Return the new events, and notes about events that are missing. Raises CnfError."""
        reply = self._client.events(self._query)
        before, self._before = self._before, reply
        anew = before is not None and reply["ring"] != before["ring"]
        if anew:  # the request was for numbers of the previous ring
            self._seen = 0
            reply = self._client.events({"after": 0})
        notes = [*_restart(before, reply), *self._gap(reply), *(() if anew else _overflow(before, reply))]
        self._seen = reply["events"][-1]["seq"] if reply["events"] else max(self._seen or 0, reply["last"])
        self._query = {"after": self._seen}
        return reply["events"], notes

    def _gap(self, reply: Events) -> Iterator[str]:
        if reply["events"] and self._seen is not None:
            missing = reply["events"][0]["seq"] - self._seen - 1
            if missing:
                yield f"{_events(missing)} not shown: the daemon keeps the latest ones only"


def run(arguments: argparse.Namespace) -> int:
    """Follow the events as the command line that ``cnf.cli`` parsed asks, and return the exit status."""
    follower = Follower(Client(arguments.socket), arguments.since)
    try:
        _follow(follower, arguments.output)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
    return 0


def _follow(follower: Follower, output: str) -> None:
    """Show events until stdout is closed. The first CnfError is raised; later ones are shown, and it goes on."""
    gone = select.poll()
    gone.register(sys.stdout, 0)  # errors and hang-ups only
    shown = failing = False
    while not gone.poll(INTERVAL * 1000 if shown else 0):
        try:
            events, notes = follower.ask()
            failing = False
        except CnfError as error:
            if not shown:
                raise
            if not failing:
                _say(f"{error}; trying again")
            failing = True
            continue
        for note in notes:
            _say(note)
        _show(events, output)
        shown = True


def _show(events: list[Event], output: str) -> None:
    if output == "table":
        style = style_for(sys.stdout)
        print_lines(event_line(event, style) for event in events)
    else:
        indent = 2 if output == "json" else None
        print_lines(json.dumps(event, indent=indent) for event in events)
    sys.stdout.flush()


def _say(note: str) -> None:
    print(f"cnfctl: {printable(note)}", file=sys.stderr)


def _restart(before: Events | None, reply: Events) -> Iterator[str]:
    if before is None or reply["started"] == before["started"]:
        return
    if reply["ring"] == before["ring"]:
        yield "cnfd was restarted, and goes on with the events that came meanwhile"
    else:
        yield "cnfd was restarted, and numbers events anew; events after the last one shown may be missing"


def _overflow(before: Events | None, reply: Events) -> Iterator[str]:
    for kind, lost in reply["lost"].items():
        more = lost - before["lost"].get(kind, 0) if before else 0
        if more > 0:
            yield f"{_events(more, kind)} lost: the ring buffer was full"


def _events(number: int, kind: str = "") -> str:
    return number_of(number, f"{kind} event".lstrip())
