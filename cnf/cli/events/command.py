"""``cnfctl events``: show events as they happen, until the user interrupts it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Iterator
from typing import Final

from cnf.cli.api.client import Client, Wait
from cnf.cli.api.event_replies import Event
from cnf.cli.api.stream_replies import AboutEvents
from cnf.cli.events.lines import event_line
from cnf.cli.follow import Follower
from cnf.cli.show.table import print_lines, style_for
from cnf.units import number_of

RECENT: Final = 10
"""Events that are shown at the start."""


class EventFollower(Follower[AboutEvents, Event]):
    """Show events in one of the outputs."""

    noun = "event"

    def __init__(self, client: Client, since: int | None, output: str) -> None:
        """Begin after the event numbered ``since``; if None, with the latest few events."""
        super().__init__(since)
        self._client = client
        self._output = output

    def ask(self, after: int | None, wait: Wait | None) -> Generator[AboutEvents | list[Event], None, None]:
        """Ask for what comes after a number, or for the latest few. Raises CnfError."""
        return self._client.events({"top": RECENT} if after is None else {"after": after}, wait)

    def show(self, items: list[Event]) -> int:
        """Print events."""
        if self._output == "table":
            style = style_for(sys.stdout)
            print_lines(event_line(event, style) for event in items)
        else:
            indent = 2 if self._output == "json" else None
            print_lines(json.dumps(event, indent=indent) for event in items)
        return items[-1]["seq"]

    def lost(self, before: AboutEvents | None, now: AboutEvents) -> Iterator[str]:
        """Yield what the ring had no room for since ``before``; what it had lost until then is no news."""
        for kind, lost in now["lost"].items() if before else ():
            more = lost - before["lost"].get(kind, 0) if before else 0
            if more > 0:
                yield f"{number_of(more, f'{kind} event')} lost: the ring buffer was full"


def run(arguments: argparse.Namespace) -> int:
    """Follow the events as the command line that ``cnf.cli`` parsed asks, and return the exit status."""
    EventFollower(Client(arguments.socket), arguments.since, arguments.output).follow()
    return 0
