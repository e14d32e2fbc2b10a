"""The web configuration in force: read again when its file, or a certificate that it names, has changed."""

from __future__ import annotations

import os
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from cnf.errors import CnfError
from cnf.server.web_config import WebConfig, load

Stamp = tuple[int, int, int] | None


class WebFile:
    """The file, asked by one thread."""

    def __init__(self, path: Path, log: FilteringBoundLogger) -> None:
        """Read the file. Raises CnfError if it is refused."""
        self.errors = 0
        """How often a change was refused."""
        self.is_failing = False
        """Whether what is in the files now is not what is in force."""
        self._path = path
        self._log = log
        self._stamps: dict[Path, Stamp] = {}
        self._config = self._load(may_be_empty=True)

    def current(self) -> WebConfig:
        """Return what the file says now; what it said before, if that is refused."""
        if any(_stamp(file) != stamp for file, stamp in self._stamps.items()):
            try:
                # An editor that empties the file before it writes must not take the passwords away for a moment.
                self._config = self._load(may_be_empty=not (self._config.tls or self._config.users))
            except CnfError as error:
                self.errors += 1
                self.is_failing = True
                self._log.error("web configuration refused, the previous one holds", error=str(error))
            else:
                self.is_failing = False
                self._log.info("web configuration read again", path=str(self._path))
        return self._config

    def _load(self, *, may_be_empty: bool) -> WebConfig:
        self._stamps = {}
        return load(self._path, lambda file: self._stamps.setdefault(file, _stamp(file)), may_be_empty=may_be_empty)


def _stamp(file: Path) -> Stamp:
    """Return what changes when the file, its owner or its mode does; None if it cannot be looked at."""
    try:
        status = os.stat(file)  # noqa: PTH116 - at each request
    except OSError:
        return None
    return status.st_ctime_ns, status.st_size, status.st_ino
