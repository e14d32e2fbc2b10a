"""Answers that go on: records or events as JSON lines, the old ones and then the new, as they come.

A line with the key ``stream`` is about the stream: the first one, and one wherever something is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from cnf.events.reader import EventReader
from cnf.export.lines import CHUNK, Lines
from cnf.export.record_log import RecordLog

EVENTS: Final = 100
"""Events in a block."""


def records(log: RecordLog, lines: Lines, after: int, started: str, *, follow: bool) -> Iterator[bytes]:
    """Yield ``lines`` of the records after the one numbered ``after``; b"" when there are no more for now.

    ``started`` is when the daemon began. Unless it is to ``follow``, this ends with the latest record.
    """
    kept = log.kept
    end, said, told = kept.last, kept.lost, after

    def about(missed: int = 0) -> bytes:
        lost = {direction: count._asdict() for direction, count in kept.lost.items()}
        return _about(log.stream, started, after, kept.last, missed, lost)

    yield about()
    while follow or after < end:
        kept = log.kept
        batch = kept.after(after)
        missed = max((batch.first if batch else kept.last + 1) - after - 1, 0)
        after += missed
        if missed or (batch is None and (kept.lost != said or after != told)):
            said, told = kept.lost, after
            yield about(missed)
        if batch:
            stop = min(after + 1 + CHUNK, batch.end)
            block = lines.of(batch, after + 1, stop)
            after = stop - 1
            if not lines.filtered:
                told = after
            if block:
                yield block
        elif follow:
            yield b""
    if after != told:
        yield about()


def events(reader: EventReader, after: int, started: str) -> Iterator[bytes]:
    """Yield the events after the one numbered ``after``; b"" when there are no more for now.

    ``started`` is when the daemon began.
    """
    log, said = reader.log, reader.lost()

    def about(missed: int = 0) -> bytes:
        return _about(reader.ring_id, started, after, log.last, missed, said)

    yield about()
    while True:
        if found := log.after(after, EVENTS):
            if missed := found[0]["seq"] - after - 1:
                after += missed
                yield about(missed)
            yield "".join(json.dumps(each) + "\n" for each in found).encode()
            after = found[-1]["seq"]
        elif (lost := reader.lost()) != said:
            said = lost
            yield about()
        else:
            yield b""


def _about(stream: int, started: str, at: int, last: int, missed: int, lost: object) -> bytes:  # noqa: PLR0913, PLR0917
    line = {"id": stream, "started": started, "at": at, "last": last, "missed": missed, "lost": lost}
    return json.dumps({"stream": line}).encode() + b"\n"
