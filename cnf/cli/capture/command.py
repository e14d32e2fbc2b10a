"""``cnfctl capture``: packets with their verdicts, as lines, JSON or pcapng, until it has as many as were asked for."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import BinaryIO

from cnf.cli.api.client import Client, Query
from cnf.cli.api.stream_replies import AboutCapture
from cnf.cli.capture.blocks import Summary
from cnf.cli.capture.lines import frame_line
from cnf.cli.follow import ReaderHasGoneError, say, wait_for_more
from cnf.cli.show.table import print_lines, style_for
from cnf.errors import CnfError, UsageError
from cnf.units import number_of


def run(arguments: argparse.Namespace) -> int:
    """Capture as the command line that ``cnf.cli`` parsed asks, and return the exit status."""
    client = Client(arguments.socket)
    if arguments.end:
        say("ended" if client.end_capture() else "nobody captures")
        return 0
    query: dict[str, str | int] = {"which": arguments.which, "snaplen": arguments.snaplen, "budget": arguments.budget}
    if arguments.expression:
        query["filter"] = " ".join(arguments.expression)
    if arguments.count:
        query["count"] = arguments.count
    with suppress(ReaderHasGoneError):
        if arguments.write:
            _write(client, query, arguments.write)
        else:
            _show(client, query, arguments.output)
    return 0


@contextmanager
def _ending_well(client: Client) -> Iterator[None]:
    """At Ctrl-C, have the daemon end the capture that has begun, so that its rest comes; at another one, stop."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        with suppress(CnfError):
            client.end_capture()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(client: Client, query: Query, path: str) -> None:
    if path == "-" and sys.stdout.isatty():
        raise UsageError("pcapng is not for a terminal: pipe it to tshark -r -, or leave out -w for lines")
    summary = Summary()
    blocks = client.capture({**query, "format": "pcapng"}, wait_for_more if path == "-" else _wait_for_the_daemon)
    next(blocks)  # a capture that is refused leaves no file
    with ExitStack() as stack:
        stack.enter_context(_ending_well(client))
        stack.callback(lambda: _say_summary(summary.packets, summary.lost))  # of one that breaks off, too
        file = sys.stdout.buffer if path == "-" else stack.enter_context(_created(path))
        for block in blocks:
            file.write(block)
            file.flush()
            summary.add(block)


def _wait_for_the_daemon(connection: socket.socket) -> None:
    """Wait until there is something to read; what goes into a file needs nobody who reads stdout."""
    select.select([connection], [], [])


@contextmanager
def _created(path: str) -> Iterator[BinaryIO]:
    """Open a file that is for this user alone: it has what others have sent. Each OSError tells its name."""
    try:
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
    except OSError as error:
        error.filename = path
        raise


def _show(client: Client, query: Query, output: str) -> None:
    style = style_for(sys.stdout)
    parts = client.captured({**query, "format": "jsonl"}, wait_for_more)
    next(parts)
    with _ending_well(client):
        for part in parts:
            if not isinstance(part, list):
                _say_summary(part["frames"], _lost(part))
            elif output == "jsonl":
                print_lines(json.dumps(frame) for frame in part)
            else:
                print_lines(frame_line(frame, style) for frame in part)
            sys.stdout.flush()


def _lost(about: AboutCapture) -> str:
    lost = about["lost"]
    return f"{lost['over_budget']} over the budget (--budget), {lost['ring_full']} with the ring full"


def _say_summary(packets: int, lost: str) -> None:
    """Say how much was captured; what is ``lost`` was so before anybody looked whether it matches the filter."""
    say(f"{number_of(packets, 'packet')} captured" + (f"; lost: {lost}" if lost else ""))
