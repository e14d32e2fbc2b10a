"""The pages of a BPF ring buffer, mapped by mmap(2).

Its form is that of kernel/bpf/ringbuf.c: a page with the consumer's position, a page with the producers', and the data,
which are mapped twice in a row, so that no stretch of them ever wraps. Positions only grow; a record is at its position
modulo the size of the data. Each has a header of 8 bytes, whose first word is its length and two bits (linux/bpf.h).
"""

from __future__ import annotations

import mmap
import os
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cnf.errors import MapError
from cnf.kernel import libbpf
from cnf.kernel.refusal import reported

BUSY: Final = 1 << 31
"""Reserved, and not yet written."""
DISCARD: Final = 1 << 30
"""Discarded by the program that had reserved it."""
HEADER: Final = 8

_POSITION: Final = np.dtype("<u8")


class RingPages:
    """The positions and the data of a ring, until closed."""

    def __init__(self, name: str, fd: int) -> None:
        """Map the ring ``name`` behind ``fd``. Raises MapError."""
        with reported(f"asking about map {name}"):
            info = libbpf.map_info(fd)
        self.id = int(info.id)
        """The kernel's id of the map: another ring has another one."""
        self.size = int(info.max_entries)
        """Bytes of the data."""
        try:
            self._consumer_page = mmap.mmap(fd, mmap.PAGESIZE)
            self._pages = mmap.mmap(fd, mmap.PAGESIZE + 2 * self.size, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        except OSError as error:
            raise MapError(f"mapping map {name}: {os.strerror(error.errno or 0)}", errno=error.errno or 0) from error
        self.consumer: npt.NDArray[Any] = np.frombuffer(self._consumer_page, _POSITION, 1)
        """Shape (1,); writing it gives room back."""
        self.producer: npt.NDArray[Any] = np.frombuffer(self._pages, _POSITION, 1)
        """Shape (1,)."""
        self.data: npt.NDArray[np.uint8] = np.frombuffer(self._pages, np.uint8, 2 * self.size, mmap.PAGESIZE)
        """The data twice, shape (2 * size,)."""

    def close(self) -> None:
        """Unmap them; nobody else may have a view of the arrays."""
        del self.consumer, self.producer, self.data
        self._consumer_page.close()
        self._pages.close()
