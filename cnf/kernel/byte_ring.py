"""A BPF ring buffer whose records are of any length, read through mmap(2). In that of ring.py they are alike."""

from __future__ import annotations

import mmap
import os
from typing import Final

import numpy as np

from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.refusal import reported
from cnf.kernel.ring import BUSY, DISCARD, HEADER

_POSITION: Final = np.dtype("<u8")
_LENGTH: Final = (1 << 30) - 1


class ByteRing:
    """Read the ring; there is one reader at a time. ``fileno()`` is readable while there is something to read."""

    def __init__(self, name: str, fd: int) -> None:
        """Map the ring ``name`` behind ``fd``, which must stay open. Raises MapError."""
        with reported(f"asking about map {name}"):
            self._size = libbpf.map_info(fd).max_entries
        self._fd = fd
        try:
            self._consumer_page = mmap.mmap(fd, mmap.PAGESIZE)
            self._pages = mmap.mmap(fd, mmap.PAGESIZE + 2 * self._size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        except OSError as error:
            raise MapError(f"mapping map {name}: {os.strerror(error.errno or 0)}", errno=error.errno or 0) from error
        self._consumer = np.frombuffer(self._consumer_page, _POSITION, 1)
        self._producer = np.frombuffer(self._pages, _POSITION, 1)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def read(self, most: int) -> list[bytes]:
        """Return up to ``most`` records that have been written since the last call, and give their room back."""
        records: list[bytes] = []
        at, end = int(self._consumer[0]), int(self._producer[0])
        while at < end and len(records) < most:
            place = mmap.PAGESIZE + at % self._size
            word = int.from_bytes(self._pages[place : place + 4], "little")
            if word & BUSY:
                break
            length = word & _LENGTH
            if not word & DISCARD:
                records.append(self._pages[place + HEADER : place + HEADER + length])
            at += HEADER + -(-length // 8) * 8
        self._consumer[0] = at
        return records

    def close(self) -> None:
        """Unmap the ring; what is unread stays in it."""
        del self._consumer, self._producer
        self._consumer_page.close()
        self._pages.close()
