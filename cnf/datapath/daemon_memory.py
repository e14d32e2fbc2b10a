"""The daemon's memory: what the next daemon has to know, in a map that outlives this one with the other maps.

It is made of named parts, each a JSON value. Page 0 holds a header: number, length and CRC-32 of the whole, whose pages
are those of bank ``number & 1``; so a writing that is cut off leaves the whole before.
"""

from __future__ import annotations

import json
import struct
import threading
import zlib
from typing import Any, Final

import numpy as np

from cnf.abi import MEMORY_PAGE
from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.maps import Array
from cnf.kernel.pins import UnreadableError
from cnf.kernel.refusal import reported

PAGE: Final = MEMORY_PAGE.itemsize
_HEADER: Final = struct.Struct("<QQI")
_PART: Final = struct.Struct("<32sQ")

Document = dict[str, Any]


class FullError(MapError):
    """There is no room for what is to be remembered."""


class Memory:
    """Remember parts, whatever becomes of this process; may be used from any thread."""

    def __init__(self, fd: int) -> None:
        """Take the map, with what it holds.

        Raises:
            UnreadableError: nobody has written that.

        """
        self._pages = Array("daemon_memory", fd, MEMORY_PAGE)
        with reported("asking about map daemon_memory"):
            self._bank: int = (libbpf.map_info(fd).max_entries - 1) // 2
        self._lock = threading.Lock()
        self._number, length, checksum = _HEADER.unpack_from(self._pages.read(0).tobytes())
        if length > self._bank * PAGE:
            raise UnreadableError(f"daemon_memory: {length} bytes do not fit it")
        whole = self._read(length)
        if zlib.crc32(whole) != checksum:
            raise UnreadableError("daemon_memory: its content and its checksum differ")
        self._parts = dict(_split(whole))

    def part(self, name: str) -> Document | None:
        """Return a part; None if it was never written."""
        if name not in self._parts:
            return None
        document: Document = json.loads(zlib.decompress(self._parts[name]))
        return document

    def put(self, **parts: Document) -> None:
        """Put ``parts`` in place of those before, all in one step; the others stay.

        Raises:
            MapError: the kernel refused; what was there stays.
            FullError: there is not so much room; what was there stays.

        """
        packed = {name: _packed(part) for name, part in parts.items()}
        with self._lock:
            renewed = self._parts | packed
            self._write(b"".join(_PART.pack(name.encode(), len(part)) + part for name, part in renewed.items()))
            self._parts = renewed

    def holds(self, part: Document) -> bool:
        """Tell whether there would be room for ``part`` if there was nothing else."""
        return -(-(_PART.size + len(_packed(part))) // PAGE) <= self._bank

    def _read(self, length: int) -> bytes:
        first = 1 + (self._number & 1) * self._bank
        return b"".join(self._pages.read(first + page).tobytes() for page in range(-(-length // PAGE)))[:length]

    def _write(self, whole: bytes) -> None:
        count = -(-len(whole) // PAGE)
        if count > self._bank:
            message = f"the daemon's memory takes {count} pages of {PAGE} bytes, and there are {self._bank}"
            raise FullError(message, errno=0)
        number = self._number + 1
        pages = np.zeros(count, MEMORY_PAGE)
        pages.view(np.uint8).reshape(-1)[: len(whole)] = np.frombuffer(whole, np.uint8)
        self._pages.write_many(1 + (number & 1) * self._bank + np.arange(count), pages)
        header = np.zeros((), MEMORY_PAGE)
        header["bytes"][: _HEADER.size] = np.frombuffer(_HEADER.pack(number, len(whole), zlib.crc32(whole)), np.uint8)
        self._pages.write(0, header)
        self._number = number


def _packed(part: Document) -> bytes:
    return zlib.compress(json.dumps(part, separators=(",", ":")).encode(), 1)


def _split(whole: bytes) -> list[tuple[str, bytes]]:
    parts, place = [], 0
    while place < len(whole):
        name, length = _PART.unpack_from(whole, place)
        place += _PART.size
        parts.append((name.rstrip(b"\0").decode(), whole[place : place + length]))
        place += length
    return parts
