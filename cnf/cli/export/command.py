"""``cnfctl export``: the latest flow records as JSON lines, and with ``--follow`` those to come."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Generator, Iterator
from typing import Final

from cnf.cli.api.client import Client, Query, Wait
from cnf.cli.api.stream_replies import AboutRecords
from cnf.cli.follow import Follower
from cnf.units import packets, size

_SEEN: Final = {"ingress": "received", "egress": "sent"}


class RecordFollower(Follower[AboutRecords, bytes]):
    """Write records as the daemon does: a JSON object a line."""

    noun = "record"

    def __init__(self, client: Client, since: int | None, expression: str | None) -> None:
        """Begin after the record numbered ``since``; if None, with the first that is kept. Show what matches."""
        super().__init__(since)
        self._client = client
        self._filter: Query = {} if expression is None else {"filter": expression}

    def ask(self, after: int | None, wait: Wait | None) -> Generator[AboutRecords | list[bytes], None, None]:
        """Ask for what comes after a number. Raises CnfError."""
        return self._client.records(self._filter if after is None else {**self._filter, "since": after}, wait)

    def show(self, items: list[bytes]) -> int:
        """Copy lines."""
        sys.stdout.buffer.write(b"\n".join(items) + b"\n")
        return int(json.loads(items[-1])["seq"])

    def lost(self, before: AboutRecords | None, now: AboutRecords) -> Iterator[str]:
        """Yield what is in no record since the daemon began, if that is not what has been said before."""
        said = before["lost"] if before and before["started"] == now["started"] else {}
        for direction, lost in now["lost"].items():
            if lost["packets"] and lost != said.get(direction):
                counted = f"{packets(lost['packets'])} ({size(lost['bytes'])})"
                yield f"{counted} {_SEEN[direction]} since cnfd began are in no record: flows had to make room"


def run(arguments: argparse.Namespace) -> int:
    """Show records as the command line that ``cnf.cli`` parsed asks, and return the exit status."""
    records = RecordFollower(Client(arguments.socket), arguments.since, arguments.filter)
    if arguments.follow:
        records.follow()
    else:
        records.read()
    return 0
