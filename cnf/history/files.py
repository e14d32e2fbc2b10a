"""The files of the history: blocks one behind the other, a file an hour, and never more than they may take.

Nothing is written over, and no daemon writes to another one's file: a block whose writing was cut off is at a file's
end, where readers stop.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from cnf.history.block import HEADER, DamagedError, Header, check, header_of

SUFFIX: Final = ".blocks"
HOUR: Final = 3600 * 10**9
SHARE: Final = 8
"""A file is no larger than this share of what all may take: the oldest minutes go a file at a time."""


class Place(NamedTuple):
    """Where a block is."""

    path: Path
    offset: int
    header: Header

    @property
    def end(self) -> int:
        """Return the offset behind it."""
        return self.offset + HEADER + self.header.length


class Extent(NamedTuple):
    """What is in a file."""

    begin: int
    """ns since the epoch, of its earliest block."""
    end: int
    """Of its latest one."""
    size: int
    """Bytes."""


def places(path: Path) -> Iterator[Place]:
    """Yield the blocks of a file by their headers, up to the first one that is not whole; none if it is gone.

    Raises:
        OSError: it cannot be read.

    """
    try:
        file = path.open("rb")
    except FileNotFoundError:  # its time was up
        return
    with file:
        offset, size = 0, os.fstat(file.fileno()).st_size
        while offset < size:
            file.seek(offset)
            try:
                place = Place(path, offset, header_of(file.read(HEADER)))
            except DamagedError:
                return
            if place.end > size:
                return
            yield place
            offset = place.end


def content_of(place: Place) -> bytes:
    """Return the content of a block.

    Raises:
        DamagedError: it is not what was written, or gone.
        OSError: it cannot be read.

    """
    try:
        with place.path.open("rb") as file:
            file.seek(place.offset + HEADER)
            content = file.read(place.header.length)
    except FileNotFoundError:
        raise DamagedError("its file has gone") from None
    check(place.header, content)
    return content


def paths(folder: Path) -> list[Path]:
    """Return the files in a folder, in the order of their names; none if it is not there."""
    return sorted(folder.glob(f"*{SUFFIX}"))


class Files:
    """Write blocks into a folder, and remove the oldest. One thread writes; ``bytes`` and ``oldest`` are for all."""

    def __init__(self, folder: Path) -> None:
        """Look at what is there.

        Raises:
            OSError: it cannot be read.

        """
        self.folder = folder
        self.latest: Place | None = None
        """The block that was written last."""
        self.bytes = 0
        """What all files take."""
        self.oldest: int | None = None
        """When the earliest block begins, in ns since the epoch."""
        self._extents: dict[Path, Extent] = {}
        self._own: Path | None = None
        """The file that the next block goes to; None for a fresh one."""
        self._hour = 0
        for path in paths(folder):
            there = [*places(path)]
            self._extents[path] = _extent(there, path.stat().st_size)
            self.latest = max([*there, *filter(None, [self.latest])], key=lambda each: each.header.number, default=None)
        self._count()

    def prepare(self, now: int, keep: float, most: int) -> bool:
        """Remove what is older than ``keep`` seconds; return whether the next block is a file's first.

        ``now`` is in ns since the epoch, ``most`` bytes is what all files may take.

        Raises:
            OSError: a file cannot be removed.

        """
        for path, extent in [*self._extents.items()]:
            # A file of the future is of a clock that was wrong.
            if path != self._own and max(now - extent.end, extent.begin - now) > keep * 1e9:
                self._remove(path)
        own = self._extents.get(self._own) if self._own else None
        if own is None or self._hour != now // HOUR or own.size > most // SHARE:
            self._own, self._hour = None, now // HOUR
        return self._own is None

    def append(self, block: bytes, most: int) -> bool:
        """Write a block behind the others; the oldest files go, until it has room in ``most`` bytes.

        Return False, and write nothing, if even the file that it was to be written to had to go.

        Raises:
            OSError: it cannot be written; nothing of it is left.

        """
        header, own = header_of(block), self._own
        self._own = None
        while self._extents and self.bytes + len(block) > most:
            self._remove(min(self._extents, key=lambda path: self._extents[path].end))
        if own and own not in self._extents:
            return False
        path = own or self._fresh(header.end)
        size = _write(path, block)
        self._own = path
        before = self._extents.get(path)
        begin, end = (min(before.begin, header.begin), max(before.end, header.end)) if before else header[2:4]
        self._extents[path] = Extent(begin, end, size + len(block))
        self.latest = Place(path, size, header)
        self._count()
        return True

    def _fresh(self, now: int) -> Path:
        """Return a file that is not there yet; the folder is made."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        moment = datetime.fromtimestamp(now // 10**9, UTC)
        name, number = f"{moment:%Y-%m-%dT%H%M%SZ}", 1
        path = self.folder / f"{name}{SUFFIX}"
        while path.exists():
            number += 1
            path = self.folder / f"{name}-{number}{SUFFIX}"
        return path

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        del self._extents[path]
        self._count()

    def _count(self) -> None:
        self.bytes = sum(extent.size for extent in self._extents.values())
        self.oldest = min((extent.begin for extent in self._extents.values() if extent.end), default=None)


def _write(path: Path, data: bytes) -> int:
    """Add ``data`` to a file as a whole, or not at all; return where it begins."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            os.ftruncate(descriptor, size)
            if not size:
                path.unlink()
            raise
    finally:
        os.close(descriptor)
    return size


def _extent(there: list[Place], size: int) -> Extent:
    begin = min((place.header.begin for place in there), default=0)
    return Extent(begin, max((place.header.end for place in there), default=0), size)
