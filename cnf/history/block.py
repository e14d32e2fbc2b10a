"""A block of the history: what the node had counted from one drain to another, about a minute later. Pure.

Its content is a JSON document and arrays behind it, compressed. In front stands a header of fixed length with a
checksum, so that blocks are found, and damaged ones are passed over, without a look into them.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.abi import FAMILIES, INTERFACE_COUNTERS, Direction, Family
from cnf.arrays import Records
from cnf.counts import Count
from cnf.history.stored import Table, dtypes, restore, store

VERSION: Final = 2
"""Raise it when you change what a block says, or INTERFACE_COUNTERS: then no daemon misreads another's."""
MAGIC: Final = b"cnfH"
LEVEL: Final = 6
_HEADER: Final = struct.Struct("<4sIQqqI")
_CHECKSUM: Final = struct.Struct("<I")
_LENGTH: Final = struct.Struct("<I")
HEADER: Final = _HEADER.size + _CHECKSUM.size
"""Bytes of a header."""

Interfaces = Mapping[str, Records]
"""INTERFACE_COUNTERS, shape (), by interface name."""
Rules = Mapping[str, Sequence[Count]]
"""By rule, in the order of VERDICTS."""


class DamagedError(ValueError):
    """Bytes that are no block, or not a whole one."""


class Header(NamedTuple):
    """What stands in front of a block's content."""

    version: int
    number: int
    """Blocks are numbered in the order in which they were written, whatever the clock did."""
    begin: int
    """ns since the epoch."""
    end: int
    length: int
    """Bytes of the content."""
    checksum: int


@dataclass(frozen=True, slots=True)
class Sums:
    """What interfaces and rules had counted when a block began: later blocks of the file go on from there."""

    interfaces: Interfaces = field(default_factory=dict)
    rules: Rules = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Block:
    """What was counted from ``begin`` to ``end``, two drains' times, in ns since the epoch."""

    begin: int
    end: int
    boottime: int
    """CLOCK_BOOTTIME of the end, in ns."""
    maps: int
    """Tells the kernel's maps, which are what has counted, from others."""
    interfaces: Interfaces
    """What was counted: those that have counted nothing are not there."""
    began: tuple[str, ...]
    """Interfaces and rules that have counted from 0, as ``interface NAME`` and ``rule NAME``."""
    rules: Rules
    lost: Mapping[Direction, Count]
    """What finished flows had counted and is in no record."""
    names: tuple[tuple[str, ...], ...]
    """The interfaces of the flows, each with its altnames."""
    flows: Mapping[Family, Records]
    """FLOW, shape (N,): the largest of both families."""
    flow_count: int
    """How many flows had counted anything."""
    sources: Mapping[Family, Records]
    """ADDRESS, shape (N,): the largest of both families."""
    destinations: Mapping[Family, Records]
    held: Sequence[Mapping[str, Any]] = ()
    """Sources that were held back, as ``held.py`` has them."""
    complete: bool = True
    """False: so many flows came that small ones were left out before all were summed."""
    before: Sums | None = None
    """What had been counted at ``begin``; a file begins with such a block."""


def pack(number: int, block: Block) -> bytes:
    """Return ``block`` with its header."""
    tables = {family: Table(*(part[family] for part in _parts(block))) for family in FAMILIES}
    stored = [records for family, table in tables.items() for records in store(family, table, block.end)]
    counters = np.array([*block.interfaces.values()], INTERFACE_COUNTERS)
    before = block.before
    sums = np.array([*before.interfaces.values()] if before else [], INTERFACE_COUNTERS)
    document = {
        "boottime": block.boottime,
        "maps": block.maps,
        "interfaces": [*block.interfaces],
        "began": block.began,
        "rules": block.rules,
        "lost": block.lost,
        "names": block.names,
        "flow_count": block.flow_count,
        "held": block.held,
        "complete": block.complete,
        "before": {"interfaces": [*before.interfaces], "rules": before.rules} if before else None,
        "lengths": [len(records) for records in stored],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    content = zlib.compress(
        b"".join((_LENGTH.pack(len(text)), text, *map(_by_place, (*stored, counters, sums)))), LEVEL
    )
    header = _HEADER.pack(MAGIC, VERSION, number, block.begin, block.end, len(content))
    return header + _CHECKSUM.pack(zlib.crc32(content, zlib.crc32(header))) + content


def header_of(data: bytes) -> Header:
    """Read the header at the beginning of ``data``. Raises DamagedError."""
    if len(data) < HEADER:
        raise DamagedError("cut off")
    magic, *values = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DamagedError("no block")
    return Header(*values, *_CHECKSUM.unpack_from(data, _HEADER.size))


def check(header: Header, content: bytes) -> None:
    """Raise DamagedError unless ``content`` is whole, and that of ``header``."""
    start = _HEADER.pack(MAGIC, *header[:-1])
    if len(content) != header.length or zlib.crc32(content, zlib.crc32(start)) != header.checksum:
        raise DamagedError("content and checksum differ")


def unpack(header: Header, content: bytes) -> Block:
    """Return the block of a content that is whole. Raises DamagedError for one of another version."""
    if header.version != VERSION:
        raise DamagedError(f"of version {header.version}, and this cnfd reads {VERSION}")
    data = zlib.decompress(content)
    (length,) = _LENGTH.unpack_from(data)
    document = json.loads(data[_LENGTH.size : _LENGTH.size + length])
    rest = _Reader(memoryview(data)[_LENGTH.size + length :])
    lengths = iter(document.pop("lengths"))
    tables = {
        family: restore(family, tuple(rest.take(dtype, next(lengths)) for dtype in dtypes(family)), header.end)
        for family in FAMILIES
    }
    before = document.pop("before")
    interfaces = rest.counters(document.pop("interfaces"))
    if before:
        before = Sums(rest.counters(before["interfaces"]), _rules(before["rules"]))
    return Block(
        begin=header.begin,
        end=header.end,
        boottime=document["boottime"],
        maps=document["maps"],
        interfaces=interfaces,
        began=tuple(document["began"]),
        rules=_rules(document["rules"]),
        lost={direction: Count(*count) for direction, count in document["lost"].items()},
        names=tuple(map(tuple, document["names"])),
        flow_count=document["flow_count"],
        held=document["held"],
        complete=document["complete"],
        before=before,
        flows={family: table.flows for family, table in tables.items()},
        sources={family: table.sources for family, table in tables.items()},
        destinations={family: table.destinations for family, table in tables.items()},
    )


def _parts(block: Block) -> tuple[Mapping[Family, Records], ...]:
    return block.flows, block.sources, block.destinations


def _rules(document: Mapping[str, Sequence[Sequence[int]]]) -> Rules:
    return {name: [Count(*count) for count in counts] for name, counts in document.items()}


def _by_place(records: Records) -> bytes:
    """Return the first byte of all records, then the second of all, and so on: so they are compressed to a half."""
    return records.view(np.uint8).reshape(len(records), records.itemsize).T.tobytes()


class _Reader:
    """Take arrays out of bytes, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, dtype: np.dtype[Any], count: int) -> Records:
        taken, self._data = self._data[: count * dtype.itemsize], self._data[count * dtype.itemsize :]
        places = np.frombuffer(taken, np.uint8).reshape(dtype.itemsize, count)
        return np.ascontiguousarray(places.T).view(dtype).reshape(count)

    def counters(self, names: Sequence[str]) -> dict[str, Records]:
        return dict(zip(names, self.take(INTERFACE_COUNTERS, len(names)), strict=True))
