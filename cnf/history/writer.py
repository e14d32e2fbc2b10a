"""The writer of the history: gathers records and counters, drain by drain, and writes blocks. In one thread."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.clock import Reading
from cnf.flows.stream import RecordBatch
from cnf.history.block import Block, DamagedError, Sums, pack, unpack
from cnf.history.files import Files, content_of, places
from cnf.history.held import HeldSources
from cnf.history.increase import increase, sums_after
from cnf.history.minute import Minute
from cnf.limiter.limiter import Limiter
from cnf.recording import History as Settings

if TYPE_CHECKING:
    from cnf.limiter.sources import Sources

STEP: Final = 10**9
"""ns that the wall clock may be off from the time that has really passed, before it counts as set."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What the history takes of a drain."""

    batch: RecordBatch
    sums: Sums | None
    """All that had been counted; None where no block ends. One that ends has every flow recorded up to this drain."""
    held: tuple[Limiter, Sources] | None = None
    complete: bool = True
    """Whether it has all records since the previous one."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """Where the latest block has ended."""

    sums: Sums
    realtime: int
    boottime: int


class Writer:
    """Write a block for each drain that ends one.

    What cannot be written is not forgotten: the next block begins where the latest one has ended that was written.
    """

    def __init__(self, settings: Settings, maps: int, began: int | None) -> None:
        """Write as ``settings`` say. ``maps`` tells the kernel's maps from others.

        They have counted since ``began``, in ns since the epoch; None where nobody knows.
        """
        self.settings = settings
        self.files: Files | None = None
        self.errors = 0
        self._maps = maps
        self._began = began
        self._ended: _Ended | None = None
        self._minute = Minute()
        self._held = HeldSources()
        self._failing = False
        self._log: FilteringBoundLogger = structlog.get_logger()

    def take(self, drained: Drained) -> None:
        """Take a drain; the first one must end a block, unless the maps are this daemon's."""
        if self._ended is None:
            now = drained.batch.clock.now
            self._hold(drained)
            self._ended = self._goes_on(now)
            if self._ended is None:  # its flows have counted since nobody knows when
                self._ended = _Ended(drained.sums or Sums(), now.realtime, now.boottime)
                return
        self._minute.add(drained.batch, complete=drained.complete)
        if drained.sums is None:
            return
        try:
            self._write(drained, drained.sums, self._ended)
        except OSError as error:
            self.errors += 1
            if not self._failing:
                self._log.warning("history not written", error=_words(error, self.settings), remedy=_remedy(error))
            self._failing = True
        else:
            if self._failing:
                self._log.info("history is written again", folder=self.settings.folder)
            self._failing = False

    def _goes_on(self, now: Reading) -> _Ended | None:
        """Return where the latest block of these maps has ended, or else they have begun; None if nobody knows."""
        try:
            latest = self._latest()
        except (OSError, DamagedError) as error:
            self._log.warning("history begins anew", error=str(error))
            return None
        if latest or self._began is None:
            return latest
        return _Ended(Sums(), self._began, now.boottime - max(now.realtime - self._began, 0))

    def _latest(self) -> _Ended | None:
        """Return where the latest block has ended; None if there is none of these maps.

        Raises:
            DamagedError: what had been counted by then cannot be told.
            OSError: it cannot be read.

        """
        files = Files(Path(self.settings.folder))
        if files.latest is None:
            return None
        *there, last = places(files.latest.path)
        blocks = [unpack(place.header, content_of(place)) for place in there]
        with suppress(DamagedError):  # its counts are in no block, so the next one has them
            blocks.append(unpack(last.header, content_of(last)))
        if blocks and blocks[-1].maps != self._maps:
            return None
        sums = sums_after(blocks)
        if sums is None:
            raise DamagedError(f"{files.latest.path}: it does not say what had been counted")
        return _Ended(sums, blocks[-1].end, blocks[-1].boottime)

    def _write(self, drained: Drained, sums: Sums, ended: _Ended) -> None:
        folder, most, now = Path(self.settings.folder), self.settings.max_bytes, drained.batch.clock.now
        if self.files is None or self.files.folder != folder:
            self.files = Files(folder)
        block = self._block(drained, sums, ended)
        number = self.files.latest.header.number + 1 if self.files.latest else 1
        if self.files.prepare(now.realtime, self.settings.keep, most):
            block = replace(block, before=ended.sums)
        data = pack(number, block)
        if len(data) > most:
            raise OSError(errno.EFBIG, f"a block takes {len(data):,} bytes, more than history.max_bytes", str(folder))
        if not self.files.append(data, most):
            self.files.append(pack(number, replace(block, before=ended.sums)), most)
        self._ended = _Ended(sums, now.realtime, now.boottime)
        self._minute = Minute()

    def _block(self, drained: Drained, sums: Sums, ended: _Ended) -> Block:
        batch, now = drained.batch, drained.batch.clock.now
        interfaces, rules, began = increase(ended.sums, sums)
        names = {index: (name, *batch.altnames.get(index, ())) for index, name in batch.names.items()}
        parts = self._minute.parts(batch.clock, names)
        return Block(
            begin=_begin(now, ended),
            end=now.realtime,
            boottime=now.boottime,
            maps=self._maps,
            interfaces=interfaces,
            began=began,
            rules=rules,
            held=self._hold(drained),
            **parts._asdict(),
        )

    def _hold(self, drained: Drained) -> Sequence[dict[str, Any]]:
        return self._held.since(*drained.held) if drained.held else ()


def _begin(now: Reading, ended: _Ended) -> int:
    """Return when a block began, by the clock as it is now set."""
    begin = now.realtime - (now.boottime - ended.boottime)
    return ended.realtime if abs(begin - ended.realtime) < STEP else begin


def _words(error: OSError, settings: Settings) -> str:
    return f"{error.filename or settings.folder}: {error.strerror}"


def _remedy(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
        return "choose a history.folder of this user's (for a service, name it in ReadWritePaths=)"
    return "make room there, or choose another history.folder, or history.max_bytes"
