"""One daemon a network namespace: it holds the folder of its pins, which two daemons would spoil for each other.

The lock is on the folder itself, flock(2). It ends with its process, and only those who may enter the folder can take
it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cnf.errors import UnavailableError

SERVICE_USER: Final = "cnf"
"""The user of cnfd.service: what is its own, root may rely on."""


@contextmanager
def take(folder: Path) -> Iterator[OSError | None]:
    """Make ``folder`` if need be, and hold it for the length of the block; then it goes, if nothing is in it.

    Gives the reason where there can be no such folder, or others could change what is in it: then nothing is held, and
    nothing may be kept there.

    Raises:
        UnavailableError: another process holds it; its pid is named, if it is to be seen.

    """
    try:
        descriptor = _lock(folder)
    except BlockingIOError as error:
        raise running(holder(folder)) from error
    except OSError as error:
        yield error
        return
    try:
        yield None
    finally:
        with suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
        os.close(descriptor)


def running(pid: int | None) -> UnavailableError:
    """Return the error that another daemon runs, which may be the service or not; None: its pid is not to be seen."""
    who, by_hand = (f" (pid {pid})", f", or kill {pid}") if pid else ("", "")
    return UnavailableError(
        f"another cnfd{who} runs in this network namespace", remedy=f"stop it first: systemctl stop cnfd{by_hand}"
    )


def holder(folder: Path) -> int | None:
    """Return the process that holds ``folder``; None if nobody does, or it is not to be seen from here."""
    try:
        status = folder.stat()
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for (
        line
    ) in locks.splitlines():  # "1: FLOCK  ADVISORY  WRITE 1234 00:27:5678 0 EOF"; of one who waits, "1: -> FLOCK"
        words = line.split()
        if words[1:2] == ["FLOCK"] and words[5:6] == [place]:
            return int(words[4])
    return None


def _lock(folder: Path) -> int:
    """Return a descriptor of ``folder`` that holds the lock.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the folder cannot be had.

    """
    while True:
        for each in (folder.parent, folder):
            with suppress(FileExistsError):
                each.mkdir(mode=0o700)
            _close_to_others(each)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.lstat()):
                return descriptor
        except FileNotFoundError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has removed it just now


def _close_to_others(folder: Path) -> None:
    """See to it that nobody but root, this user and the service's changes what is in ``folder``. Raises OSError."""
    status = folder.lstat()
    if status.st_uid not in _trusted():
        words = f"it is user {status.st_uid}'s, who could change what is in it"
        raise PermissionError(errno.EPERM, words, str(folder))
    if status.st_mode & 0o077:
        folder.chmod(0o700)


def _trusted() -> set[int]:
    users = {0, os.geteuid()}
    with suppress(KeyError):
        users.add(pwd.getpwnam(SERVICE_USER).pw_uid)
    return users
