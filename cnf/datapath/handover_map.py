"""The handover: what the next daemon has to know, in a map that outlives this daemon with the other maps.

It is made of named parts, each a JSON value with a version and a CRC-32 of its own, so that one that cannot be read
takes no other with it. Page 0 holds a header: number, length, count of parts, and a CRC-32 of these and of the parts'
headers. The parts stand in bank ``number & 1`` of the pages; so a writing that is cut off leaves the whole before.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.abi import HANDOVER_PAGE
from cnf.arrays import Records
from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.maps import Array
from cnf.kernel.pins import UnreadableError
from cnf.kernel.refusal import reported

VERSIONS: Final = {
    "tracker": 2,
    "interfaces": 3,
    "series": 3,
    "sources": 1,
    "limiter": 1,
    "stream": 1,
    "exporters": 1,
    "history": 1,
}
"""The version of each part. Raise it when you change what the part says: then no daemon misreads another's."""
PAGE: Final = HANDOVER_PAGE.itemsize
_HEADER: Final = struct.Struct("<QII")
_CHECKSUM: Final = struct.Struct("<I")
_PART: Final = struct.Struct("<32sIII")

Document = dict[str, Any]


class _Packed(NamedTuple):
    version: int
    checksum: int
    content: bytes


class FullError(MapError):
    """The handover finds no room in its map."""


class PartError(ValueError):
    """A part that cannot be read: it is damaged, or of another version."""


class HandoverMap:
    """Keep parts for the next daemon, however this one ends; may be used from any thread."""

    def __init__(self, fd: int) -> None:
        """Take the map, with what it holds.

        Raises:
            UnreadableError: nobody has written that.

        """
        self._pages = Array("handover", fd, HANDOVER_PAGE)
        with reported("asking about map handover"):
            info = libbpf.map_info(fd)
        self.id = int(info.id)
        """The kernel's id of the map: another one holds nothing of what this one's daemons knew."""
        self._bank: int = (info.max_entries - 1) // 2
        self._lock = threading.Lock()
        page = self._pages.read(0).tobytes()
        header, (checksum,) = page[: _HEADER.size], _CHECKSUM.unpack_from(page, _HEADER.size)
        self._number, length, count = _HEADER.unpack(header)
        if length > self._bank * PAGE:
            raise UnreadableError(f"handover: {length} bytes do not fit it")
        whole = self._read(length)
        directory = whole[: count * _PART.size]
        if any(page) and zlib.crc32(header + directory) != checksum:
            raise UnreadableError("handover: its header and its checksum differ")
        self._parts = _split(directory, whole[len(directory) :])

    def part(self, name: str) -> Document | None:
        """Return a part; None if it was never written.

        Raises:
            PartError: it is damaged, or of another version.

        """
        if name not in self._parts:
            return None
        version, checksum, content = self._parts[name]
        if version != VERSIONS[name]:
            raise PartError(f"it is of version {version}, and this cnfd reads {VERSIONS[name]}")
        if zlib.crc32(content) != checksum:
            raise PartError("its content and its checksum differ")
        document: Document = json.loads(zlib.decompress(content))
        return document

    def put(self, **parts: Document) -> None:
        """Put ``parts`` in place of those before, all in one step; the others stay.

        Raises:
            MapError: the kernel refused; what was there stays.
            FullError: there is not so much room; what was there stays.

        """
        packed = {name: _packed(name, part) for name, part in parts.items()}
        with self._lock:
            renewed = self._parts | packed
            self._write(renewed)
            self._parts = renewed

    def has_room(self, **parts: Document) -> bool:
        """Tell whether ``put()`` would find room for ``parts``."""
        with self._lock:
            renewed = self._parts | {name: _packed(name, part) for name, part in parts.items()}
        return _pages_of(_joined(renewed)) <= self._bank

    def _read(self, length: int) -> bytes:
        first = 1 + (self._number & 1) * self._bank
        return b"".join(self._pages.read(first + page).tobytes() for page in range(-(-length // PAGE)))[:length]

    def _write(self, parts: Mapping[str, _Packed]) -> None:
        whole = _joined(parts)
        count = _pages_of(whole)
        if count > self._bank:
            message = f"the handover takes {count} pages of {PAGE} bytes, and there are {self._bank}"
            raise FullError(message, errno=0)
        number = self._number + 1
        self._pages.write_many(1 + (number & 1) * self._bank + np.arange(count), _as_pages(whole, count))
        header = _HEADER.pack(number, len(whole), len(parts))
        checksum = zlib.crc32(header + whole[: len(parts) * _PART.size])
        self._pages.write(0, _as_pages(header + _CHECKSUM.pack(checksum), 1)[0])
        self._number = number


def _packed(name: str, part: Document) -> _Packed:
    content = zlib.compress(json.dumps(part, separators=(",", ":")).encode(), 1)
    return _Packed(VERSIONS[name], zlib.crc32(content), content)


def _joined(parts: Mapping[str, _Packed]) -> bytes:
    """Return the headers of all parts, then their contents."""
    headers = [_PART.pack(name.encode(), *part[:2], len(part.content)) for name, part in parts.items()]
    return b"".join((*headers, *(part.content for part in parts.values())))


def _split(directory: bytes, contents: bytes) -> dict[str, _Packed]:
    """Return the parts that this version knows."""
    parts, place = {}, 0
    for name, version, checksum, length in _PART.iter_unpack(directory):
        parts[name.rstrip(b"\0").decode()] = _Packed(version, checksum, contents[place : place + length])
        place += length
    return {name: part for name, part in parts.items() if name in VERSIONS}


def _pages_of(whole: bytes) -> int:
    return -(-len(whole) // PAGE)


def _as_pages(content: bytes, count: int) -> Records:
    """Return ``content``, and zeros behind it, as HANDOVER_PAGE, shape (count,)."""
    pages = np.zeros(count, HANDOVER_PAGE)
    pages.view(np.uint8).reshape(-1)[: len(content)] = np.frombuffer(content, np.uint8)
    return pages
