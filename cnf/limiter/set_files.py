"""The files of the sets: read when they have changed, each as a whole or not at all, in a thread of their own."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.errors import CnfError
from cnf.limits.prefix_file import Prefixes, RefusedLinesError, read
from cnf.limits.set_numbers import SetKey
from cnf.limits.table import PrefixSet

LOOK: Final = 2.0
"""Seconds from one look at the files to the next."""
MAX_BYTES: Final = 64 << 20


class Version(NamedTuple):
    """All that tells a file from a changed one."""

    inode: int
    size: int
    written: int


@dataclass(slots=True)
class SetFile:
    """A set, and what was read of its file."""

    set: PrefixSet
    prefixes: Prefixes = field(default_factory=Prefixes)
    """Those of the latest file that could be read."""
    loaded: float | None = None
    """When that was read, in seconds since the epoch; None if another daemon did."""
    refused_lines: int = 0
    error: str | None = None
    """The reason why the file that is there now is not the one that was read."""
    errors: int = 0
    seen: Version | None = None
    """The file at the latest look."""
    tried: Version | None = None
    """The file that was read last, or could not be."""


class SetFiles:
    """Look at the files of the sets, and hand their prefixes on: ``put`` gets them by set, whenever one has changed."""

    def __init__(self, put: Callable[[Mapping[SetKey, Prefixes]], None], there: Mapping[SetKey, Prefixes]) -> None:
        """Take the prefixes of each set that the kernel has already: they stay until the file could be read."""
        self._put = put
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._files = {key: SetFile(PrefixSet(key[0], "", key[1]), prefixes) for key, prefixes in there.items()}
        self._in_kernel = set(there)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def files(self) -> list[SetFile]:
        """The sets, in the order of the configuration."""
        return list(self._files.values())

    def apply(self, sets: Iterable[PrefixSet]) -> None:
        """Have these sets from now on; the files of those that are new are read by the next look."""
        known = self._files
        files: dict[SetKey, SetFile] = {}
        for each in sets:
            key = each.name, each.action
            files[key] = known.get(key) or SetFile(each)
            if files[key].set.file != each.file:
                files[key].seen = files[key].tried = None
            files[key].set = each
        self._files = files
        self._wake.set()

    def start(self) -> None:
        """Look every other second, where there are files to look at."""
        if self._thread is None and self._files:
            self._thread = threading.Thread(target=self._run, name="sets", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread; what it is about to put in force may still be."""
        self._closed = True
        self._wake.set()
        if self._thread:
            self._thread.join()

    def look(self) -> None:
        """Read the files that have changed; if a set is another one by that, hand all on."""
        with self._lock:
            files = dict(self._files)
            changed = [self._look(file) for file in files.values()]
            if not any(changed) and self._in_kernel == set(files):
                return
            try:
                self._put({key: file.prefixes for key, file in files.items()})
            except CnfError as error:
                self._log.error("sets not put in force, trying again", error=str(error))
                self._in_kernel = set()
            else:
                self._in_kernel = set(files)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(LOOK)
            self._wake.clear()
            if not self._closed:
                self.look()

    def _look(self, file: SetFile) -> bool:
        """Read a file if it is another one than before, and is not being written; return whether its set changed."""
        try:
            with open(file.set.file, "rb", opener=_opener) as opened:
                before, file.seen = file.seen, _version(opened.fileno())
                new = file.tried is None or file.tried.inode != file.seen.inode
                if file.seen == file.tried or not (new or file.seen == before):
                    return False
                data = opened.read(MAX_BYTES + 1)
                if _version(opened.fileno()) != file.seen:
                    return False  # it is being written
            file.tried = file.seen
            if len(data) > MAX_BYTES:
                raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
            prefixes = read(data)
        except (OSError, ValueError, RefusedLinesError) as error:
            self._refuse(file, error)
            return False
        before_it = len(file.prefixes)
        file.prefixes, file.loaded, file.refused_lines, file.error = prefixes, time.time(), 0, None
        if len(prefixes):
            self._log.info("set read", set=file.set.name, file=file.set.file, prefixes=len(prefixes), before=before_it)
        else:
            self._log.warning("set is empty", set=file.set.name, file=file.set.file, before=before_it)
        return True

    def _refuse(self, file: SetFile, error: Exception) -> None:
        """Say once why a file is not taken; what was read before stays."""
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        if isinstance(error, OSError):
            file.seen = file.tried = None
            if file.error == reason:
                return
        file.error, file.errors = reason, file.errors + 1
        file.refused_lines = len(error.lines) if isinstance(error, RefusedLinesError) else 0
        self._log.warning(
            "set not read, what was read before stays",
            set=file.set.name,
            file=file.set.file,
            error=reason,
            prefixes=len(file.prefixes),
        )


def _opener(path: str, flags: int) -> int:
    """Open without waiting for whoever may write into a pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _version(fd: int) -> Version:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("no regular file")
    return Version(found.st_ino, found.st_size, found.st_mtime_ns)
