"""A BPF ring buffer whose records are of any length. In that of ring.py they are alike."""

from __future__ import annotations

from typing import Final

from cnf.kernel.ring_pages import BUSY, DISCARD, HEADER, RingPages

_LENGTH: Final = (1 << 30) - 1


class ByteRing:
    """Read the ring; there is one reader at a time. ``fileno()`` is readable while there is something to read."""

    def __init__(self, name: str, fd: int) -> None:
        """Map the ring ``name`` behind ``fd``, which must stay open. Raises MapError."""
        self._fd = fd
        self._pages = RingPages(name, fd)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def read(self, most: int) -> list[bytes]:
        """Return up to ``most`` records that have been written since the last call, and give their room back."""
        records: list[bytes] = []
        data = self._pages.data
        at, end = int(self._pages.consumer[0]), int(self._pages.producer[0])
        while at < end and len(records) < most:
            place = at % self._pages.size
            word = int.from_bytes(data[place : place + 4].tobytes(), "little")
            if word & BUSY:
                break
            length = word & _LENGTH
            if not word & DISCARD:
                records.append(data[place + HEADER : place + HEADER + length].tobytes())
            at += HEADER + -(-length // 8) * 8
        self._pages.consumer[0] = at
        return records

    def close(self) -> None:
        """Unmap the ring; what is unread stays in it."""
        self._pages.close()
