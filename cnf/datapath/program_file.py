"""The files in which programs are kept, so that a restart needs no compiler: a folder with one for each that was built.

A file is never trusted for its name: whose it is, who may write to it, and its checksum are looked at. One that is not
as it should be costs a compilation, and never a start.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from cnf.process.light_imports import sha256

DEFAULT: Final = Path("/var/cache/cnf")
PREFIX: Final = "program-"
MOST: Final = 8
"""Files that are kept: the ones that were used last."""
LARGEST: Final = 1 << 23
"""Bytes of a file that is read at all; a program takes some 300 kB."""


class UnusableError(Exception):
    """A file is there, but not to be used; the text says why."""


def folder() -> Path:
    """Return the folder: the service's own (``CacheDirectory=`` of the unit), or the system's."""
    return Path(os.environ.get("CACHE_DIRECTORY", "").partition(":")[0] or DEFAULT)


def path_of(key: str, place: Path) -> Path:
    """Return the file of ``key`` in a folder."""
    return place / f"{PREFIX}{key}"


def read(path: Path, user: int) -> str | None:
    """Return what is kept in a file for ``user``, and mark it as used; None if it is not there.

    Raises:
        UnusableError: it cannot be read, others may write to it, or it is not whole.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            _check(os.fstat(descriptor), user)
            with open(descriptor, "rb", closefd=False) as file:
                digest, _, content = file.read(LARGEST).partition(b"\n")
            with suppress(OSError):  # another user's
                os.utime(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableError("a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)) from error
    if digest != _digest(path, content):
        raise UnusableError("not whole")
    return content.decode()


def write(path: Path, text: str) -> None:
    """Put ``text`` in place of a file, as a whole or not at all, and remove files that were not used for long.

    Raises:
        OSError: the folder cannot be written to, or is full.

    """
    content = text.encode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)  # of a process of this number that was killed
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - the mode
            file.write(_digest(path, content) + b"\n" + content)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    with suppress(OSError):
        _remove_old(path.parent)


def _check(status: os.stat_result, user: int) -> None:
    """Raise UnusableError unless it is a file that none but root and ``user`` can have written."""
    if not stat.S_ISREG(status.st_mode):
        raise UnusableError("no regular file")
    if status.st_uid not in (0, user):
        raise UnusableError(f"it is user {status.st_uid}'s")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnusableError("others may write to it")


def _digest(path: Path, content: bytes) -> bytes:
    """Return what vouches for the content of a file of this name."""
    return sha256(path.name.encode() + content).encode()


def _remove_old(place: Path) -> None:
    files = sorted(place.glob(f"{PREFIX}*"), key=lambda path: path.lstat().st_mtime_ns)
    for path in files[:-MOST]:
        path.unlink(missing_ok=True)
