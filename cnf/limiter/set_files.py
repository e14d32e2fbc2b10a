"""The files of the sets: read when they have changed, each as a whole or not at all, in a thread of their own."""

from __future__ import annotations

import errno
import math
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
from cnf.limits.prefix_file import RefusedLinesError, read
from cnf.limits.prefixes import Prefixes
from cnf.limits.set_numbers import SetKey
from cnf.limits.table import PrefixSet

LOOK: Final = 1.0
"""Seconds from one look at the files to the next."""
QUIET: Final = 2.0
"""Seconds that a file has to stay the same before it is read: it may be being written."""
RESTLESS: Final = 60.0
"""Seconds after which one that does not is an error."""
RETRY: Final = 60.0
"""Seconds after which what the kernel refused is tried again."""
SHARE: Final = 10
"""A file that took a second to read is left alone for as many: that work is bounded, however often it changes."""
MAX_BYTES: Final = 64 << 20


class Version(NamedTuple):
    """All that tells a file from a changed one."""

    device: int
    inode: int
    size: int
    changed: int
    """In ns since the epoch; unlike the time of writing, nobody can set it."""


@dataclass(slots=True)
class SetFile:
    """A set, and what was read of its file."""

    set: PrefixSet
    prefixes: Prefixes = field(default_factory=Prefixes)
    """Those in force: of the latest file that could be."""
    loaded: float | None = None
    """When that was read, in seconds since the epoch; None if another daemon did."""
    refused_lines: int = 0
    error: str | None = None
    """The reason why the file that is there now is not the one that is in force."""
    error_since: float | None = None
    """Since when there is one, in seconds since the epoch."""
    errors: int = 0
    seen: Version | None = None
    """The file at the latest look, and since when it is so on the clock of looks:"""
    seen_since: float = 0.0
    tried: Version | None = None
    """The file that was read last, or could not be."""
    restless_since: float | None = None
    """Since when the file that is there does not stay the same for long enough."""
    refused: tuple[Version | None, str] | None = None
    """The file that ``error`` is about, None if it could not be looked into, and why: that is told once."""
    not_before: float = -math.inf
    """When it may be read again."""


class SetFiles:
    """Look at the files of the sets, and hand their prefixes on: ``put`` gets them by set, whenever one has changed."""

    def __init__(
        self,
        put: Callable[[Mapping[SetKey, Prefixes]], None],
        there: Mapping[SetKey, Prefixes],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the prefixes of each set that the kernel has already: they stay until the file could be read.

        ``now`` is in seconds, and never goes back.
        """
        self._put, self._now = put, now
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._files = {key: SetFile(PrefixSet(key[0], "", key[1]), prefixes) for key, prefixes in there.items()}
        self._in_force = dict(there)
        self._retry = -math.inf
        """When sets that the kernel refused, though no file has changed, may be handed on again."""
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
        """Look every second, where there are files to look at."""
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
        """Read the files that have changed; what is new of that is handed on."""
        with self._lock:
            files = dict(self._files)
            read = {key: prefixes for key, file in files.items() if (prefixes := self._look(file)) is not None}
            self._offer(files, read)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(LOOK)
            self._wake.clear()
            if not self._closed:
                try:
                    self.look()
                except Exception as error:  # noqa: BLE001 - whatever it is, the files must be looked at again
                    self._log.error("sets not looked at, trying again", error=repr(error))

    def _offer(self, files: Mapping[SetKey, SetFile], read: Mapping[SetKey, Prefixes]) -> None:
        """Have in force what was ``read``, and the other sets as they were."""
        sets = {key: read.get(key, file.prefixes) for key, file in files.items()}
        if not read and self._now() < self._retry:
            return
        try:
            if sets != self._in_force:
                self._put(sets)
                self._in_force = sets
        except CnfError as error:
            match [*read]:
                case []:
                    self._retry = self._now() + RETRY
                    self._log.error("sets not put in force, trying again", error=str(error))
                case [key]:
                    file = files[key]
                    self._refuse(file, file.tried, f"the kernel: {error}")
                    file.tried, file.not_before = None, self._now() + RETRY
                case keys:  # one of them may be what the kernel has no room for
                    for key in keys:
                        self._offer(files, {key: read[key]})
        else:
            for key, prefixes in read.items():
                self._take(files[key], prefixes)

    def _look(self, file: SetFile) -> Prefixes | None:
        """Return what is in a file, if it is another one than before, and is not being written."""
        began = self._now()
        try:
            with open(file.set.file, "rb", opener=_opener) as opened:
                version = _version(opened.fileno())
                if version == file.tried or not self._is_quiet(file, version) or began < file.not_before:
                    return None
                file.tried, file.restless_since = version, None
                if version.size > MAX_BYTES:
                    raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
                prefixes = read(opened)
                if _version(opened.fileno()) != version:
                    file.tried = None
                    return None  # it is being written
        except RefusedLinesError as error:
            self._refuse(file, file.tried, str(error), error.count)
        except ValueError as error:
            self._refuse(file, file.tried, str(error))
        except OSError as error:
            file.seen = file.tried = None
            self._refuse(file, None, error.strerror or str(error))
        else:
            return prefixes
        finally:
            file.not_before = max(file.not_before, (ended := self._now()) + SHARE * (ended - began))
        return None

    def _is_quiet(self, file: SetFile, version: Version) -> bool:
        """Return whether a file has stayed the same for long enough to be read."""
        now = self._now()
        if version != file.seen:
            # The same inode has changed just now, whatever its time says: ext4 truncates a file, then sets that.
            changed_here = file.seen is not None and version[:2] == file.seen[:2]
            age = 0.0 if changed_here else max(time.time() - version.changed / 1e9, 0.0)
            file.seen, file.seen_since = version, now - age
        if now - file.seen_since >= QUIET:
            return True
        if file.restless_since is None:
            file.restless_since = now
        elif now - file.restless_since >= RESTLESS:
            self._refuse(file, None, f"it does not stay the same for {QUIET:.0f} s: move another file into its place")
        return False

    def _take(self, file: SetFile, prefixes: Prefixes) -> None:
        """Take note of what is in force by now."""
        before, file.prefixes, file.loaded = len(file.prefixes), prefixes, time.time()
        file.refused_lines, file.error, file.error_since, file.refused = 0, None, None, None
        shown = {"set": file.set.name, "file": file.set.file, "before": before}
        if len(prefixes):
            self._log.info("set read", prefixes=len(prefixes), **shown)
        else:
            self._log.warning("set is empty", **shown)

    def _refuse(self, file: SetFile, version: Version | None, reason: str, lines: int = 0) -> None:
        """Say once why a file is not taken; what was read before stays."""
        if file.refused == (version, reason):
            return
        file.refused = version, reason
        file.error, file.errors, file.refused_lines = reason, file.errors + 1, lines
        file.error_since = file.error_since or time.time()
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
        raise OSError(errno.EINVAL, "no regular file")
    return Version(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)
