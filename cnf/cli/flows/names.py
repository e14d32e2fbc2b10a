"""Names of addresses by the resolver, asked for in threads: it may take half a minute to say that there is none."""

from __future__ import annotations

import csv
import io
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from queue import SimpleQueue
from typing import Final

from cnf.units import printable

PATIENCE: Final = 1.0
"""Seconds for all names of a listing."""
MOST: Final = 1000
"""Addresses that a listing asks for."""
LONGEST: Final = 253
"""Characters of a name (RFC 1035, 2.3.4)."""
THREADS: Final = 32
CHUNK: Final = 1000
"""Rows at a time."""

_ENDS: Final = ("src", "dst")


class Names:
    """Names beside addresses, as rows come. What comes late is there for the next listing."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """Give the resolver ``patience`` seconds a listing."""
        self._patience = patience
        self._names: dict[str, str | None] = {}
        self._asked: set[str] = set()
        self._came = threading.Condition()
        self._queue: SimpleQueue[str] = SimpleQueue()
        self._threads = 0
        self.late: set[str] = set()
        """The addresses of all rows so far whose names had not come."""

    def beside(self, rows: Iterable[Mapping[str, object]]) -> Iterator[dict[str, object]]:
        """Yield each row with ``src_name`` and ``dst_name``, those whose addresses it has; null without a name."""
        rows, deadline, left = iter(rows), time.monotonic() + self._patience, MOST
        while some := list(islice(rows, CHUNK)):
            ends = [end for end in _ENDS if f"{end}_addr" in some[0]]
            addresses = dict.fromkeys(str(each) for row in some for end in ends if (each := row[f"{end}_addr"]))
            left -= self._ask([address for address in addresses if address not in self._asked][:left])
            with self._came:
                self._came.wait_for(lambda: self._names.keys() >= addresses.keys(), max(deadline - time.monotonic(), 0))  # noqa: B023 - it returns before the next round
                self.late |= addresses.keys() - self._names.keys()
            for row in some:
                yield {**row, **{f"{end}_name": self._names.get(str(row[f"{end}_addr"])) for end in ends}}

    def _ask(self, addresses: list[str]) -> int:
        """Have threads look for names; return how many."""
        self._asked |= set(addresses)
        for address in addresses:
            self._queue.put(address)
        while self._threads < min(THREADS, len(self._asked)):
            # Not a pool's: at exit that would wait for the slowest answer.
            threading.Thread(target=self._look_up, daemon=True).start()
            self._threads += 1
        return len(addresses)

    def _look_up(self) -> None:
        while True:
            address = self._queue.get()
            name = _name_of(address)
            with self._came:
                self._names[address] = name
                self._came.notify_all()


def in_jsonl(names: Names, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield JSON lines with names."""
    for row in names.beside(map(json.loads, lines)):
        yield json.dumps(row).encode() + b"\n"


def in_csv(names: Names, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines of CSV with names, the header first."""
    rows = csv.reader(line.decode(errors="surrogateescape") for line in lines)
    header = next(rows)
    yield _csv_line([*header, *(f"{end}_name" for end in _ENDS if f"{end}_addr" in header)])
    for row in names.beside(dict(zip(header, row, strict=True)) for row in rows):
        yield _csv_line(row.values())


def _csv_line(values: Iterable[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode(errors="surrogateescape")


def _name_of(address: str) -> str | None:
    """Return a name; whoever has the address chooses it, so that it may hold anything."""
    try:
        name, _ = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)
    except (OSError, UnicodeError):
        return None
    return printable(name)[:LONGEST]
