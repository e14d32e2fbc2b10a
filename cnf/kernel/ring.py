"""The ring of events: a BPF ring buffer read as a matrix, whole stretches at a time."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import EVENT
from cnf.arrays import Records
from cnf.kernel.ring_pages import BUSY, DISCARD, HEADER, RingPages

STRIDE: Final = HEADER + EVENT.itemsize


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
        self._fd = fd
        self._pages = RingPages("events", fd)
        self._slots = self._pages.size // STRIDE
        self._records: npt.NDArray[np.uint8] = self._pages.data.reshape(2 * self._slots, STRIDE)

    @property
    def id(self) -> int:
        """The kernel's id of the map: another ring has another one."""
        return self._pages.id

    @property
    def given_back(self) -> int:
        """The number of records that have been read since the ring was made."""
        return int(self._pages.consumer[0]) // STRIDE

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def read(self) -> Stretch:
        """Return what has been written since the last call, and give its room back.

        A record that is still being written ends the stretch, though later ones may be complete.
        """
        start = int(self._pages.consumer[0])
        count = (int(self._pages.producer[0]) - start) // STRIDE
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
        self._pages.consumer[0] = start + count * STRIDE
        discarded = (lengths & DISCARD) != 0
        return Stretch(first, events[~discarded] if discarded.any() else events)

    def close(self) -> None:
        """Unmap the ring; what is unread stays in it."""
        del self._records
        self._pages.close()
