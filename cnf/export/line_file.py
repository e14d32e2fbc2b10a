"""A file that lines are appended to, which others may read, move or remove at any time."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

MODE: Final = 0o640


class LineFile:
    """A file by its path. It is opened when it is needed, and anew where it is no longer there.

    Every method raises OSError if the kernel refuses, and can then be tried again.
    """

    def __init__(self, path: str, max_bytes: int) -> None:
        """Have it renamed to ``path``.1 before it would have more than ``max_bytes``."""
        self._path = Path(path)
        self._max_bytes = max_bytes
        self._fd: int | None = None
        self._torn = False
        """Whether its last line has no end."""

    def open(self) -> int:
        """Open it, unless it is open; return the descriptor."""
        if self._fd is None:
            # Without waiting: a FIFO that nobody reads is an error, too.
            fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, MODE)
            try:
                self._torn = _is_torn(fd)
            except OSError:
                os.close(fd)
                raise
            self._fd = fd
        return self._fd

    def append(self, lines: bytes) -> int:
        """Append whole lines, and return how many bytes of them have been written, which are whole lines, too.

        A line that was cut off, now or by a crash, ends before the next one begins.
        """
        self._make_room(len(lines))
        fd = self.open()
        data = b"\n" + lines if self._torn else lines
        before = len(data) - len(lines)
        written = os.write(fd, data)
        self._torn = data[written - 1] != ord("\n")
        # One more: a line that lacks nothing but its end is there, and will get it.
        return lines.rfind(b"\n", 0, max(written - before, 0) + 1) + 1

    def close(self) -> None:
        """Close it, if it is open."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _make_room(self, more: int) -> None:
        """Have the file closed if it was removed, or would be too large."""
        if self._fd is None:
            return
        status = os.fstat(self._fd)
        if status.st_nlink and (not status.st_size or status.st_size + more <= self._max_bytes):
            return
        with suppress(FileNotFoundError):  # it was moved
            if os.path.samestat(self._path.stat(), status):
                self._path.rename(f"{self._path}.1")
        self.close()


def _is_torn(fd: int) -> bool:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return status.st_size > 0 and os.pread(fd, 1, status.st_size - 1) != b"\n"
