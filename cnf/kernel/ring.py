"""The ring of events: a BPF ring buffer read through mmap(2) as a matrix, whole stretches at a time.

Its form is that of kernel/bpf/ringbuf.c: a page with the consumer's position, a page with the producers', and the data,
which are mapped twice in a row, so that no stretch of them ever wraps. Positions only grow; a record is at its position
modulo the size of the data. Each has a header of 8 bytes, whose first word is its length and two bits (linux/bpf.h).
"""

from __future__ import annotations

import mmap
import os
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import EVENT
from cnf.arrays import Records
from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.refusal import reported

BUSY: Final = 1 << 31
"""Reserved, and not yet written."""
DISCARD: Final = 1 << 30
"""Discarded by the program that had reserved it."""
HEADER: Final = 8
STRIDE: Final = HEADER + EVENT.itemsize

_POSITION: Final = np.dtype("<u8")


class Stretch(NamedTuple):
    """The events of one reading."""

    first: int
    """Number of the first record since the ring was made."""
    events: Records
    """EVENT, shape (N,), in the order in which the program reserved them."""


class Ring:
    """Read the ring; there is one reader at a time. ``fileno()`` is readable while there is something to read."""

    def __init__(self, fd: int) -> None:
        """Map the ring behind ``fd``, which must stay open, and go on where the previous reader has stopped.

        Raises:
            MapError: the kernel refused.

        """
        with reported("asking about map events"):
            info = libbpf.map_info(fd)
        self.id = int(info.id)
        """The kernel's id of the map: another ring has another one."""
        self._fd = fd
        self._slots = info.max_entries // STRIDE
        try:
            self._consumer_page = mmap.mmap(fd, mmap.PAGESIZE)
            self._pages = mmap.mmap(fd, mmap.PAGESIZE + 2 * info.max_entries, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        except OSError as error:
            raise MapError(f"mapping map events: {os.strerror(error.errno or 0)}", errno=error.errno or 0) from error
        self._consumer = np.frombuffer(self._consumer_page, _POSITION, 1)
        self._producer = np.frombuffer(self._pages, _POSITION, 1)
        data = np.frombuffer(self._pages, np.uint8, 2 * info.max_entries, mmap.PAGESIZE)
        self._records: npt.NDArray[np.uint8] = data.reshape(2 * self._slots, STRIDE)

    @property
    def given_back(self) -> int:
        """The number of records that have been read since the ring was made."""
        return int(self._consumer[0]) // STRIDE

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def read(self) -> Stretch:
        """Return what has been written since the last call, and give its room back.

        A record that is still being written ends the stretch, though later ones may be complete.
        """
        start = int(self._consumer[0])
        count = (int(self._producer[0]) - start) // STRIDE
        first = start // STRIDE
        records = self._records[first % self._slots :][:count]
        # A header before its record, and the position last: x86-64 keeps loads, and stores after loads, in their
        # order; on other processors, thousands of the interpreter's instructions lie between.
        lengths = records[:, :4].copy().view("<u4")[:, 0]
        busy = np.flatnonzero(lengths & BUSY)
        if len(busy):
            count = int(busy[0])
            records, lengths = records[:count], lengths[:count]
        events: Any = records[:, HEADER:].copy().view(EVENT)[:, 0]
        self._consumer[0] = start + count * STRIDE
        discarded = (lengths & DISCARD) != 0
        return Stretch(first, events[~discarded] if discarded.any() else events)

    def close(self) -> None:
        """Unmap the ring; what is unread stays in it."""
        del self._consumer, self._producer, self._records
        self._consumer_page.close()
        self._pages.close()
