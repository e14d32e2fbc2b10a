"""One capture: a thread has the kernel go on, reads what it copies, and encodes what matches for the client."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Self

import numpy as np
import structlog

from cnf.abi import CAPTURE_RESULTS
from cnf.capture.asked import Asked
from cnf.capture.encoders import Encoder
from cnf.capture.frames import Frames
from cnf.clock import in_ticks, tick_ns
from cnf.datapath.capture_maps import CaptureMaps
from cnf.datapath.counters import InterfaceCounters
from cnf.errors import CnfError
from cnf.filter.predicates import Names
from cnf.process.bell import Bell

LEASE: Final = 3.0
"""Seconds after which the kernel copies nothing more, unless the daemon has said that it is to go on."""
RENEWAL: Final = 1.0
SETTLING: Final = 0.05
"""Seconds after which no program is at work any more that has found the capture on."""
BATCH: Final = 1000
"""Frames that are encoded at a time."""
WAITING: Final = 1 << 20
"""Bytes that wait for the client at most: then the ring fills up, and the kernel counts what it has no room for."""

InterfaceNames = Callable[[], Mapping[int, tuple[str, ...]]]
"""Returns each interface's name and then its altnames, by ifindex."""


class Peer(NamedTuple):
    """Who captures."""

    uid: int
    pid: int


class Session:
    """The blocks of one capture, an iterator: b"" when there are no more for now. ``bell`` rings when there are."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a capture touches
        self,
        asked: Asked,
        peer: Peer,
        encoder: Encoder,
        maps: CaptureMaps,
        counters: InterfaceCounters,
        names: InterfaceNames,
        read_clock: Callable[[], tuple[int, int]],
        ended: Callable[[], None],
    ) -> None:
        """Have the kernel begin; ``ended`` is called once it has ended. Raises KernelError."""
        self.bell = Bell()
        self.peer = peer
        self._asked, self._encoder, self._maps, self._counters = asked, encoder, maps, counters
        self._names, self._ended = names, ended
        self._filter, self._left = asked.filter, asked.count
        self._log = structlog.get_logger()
        self._number = time.monotonic_ns()  # no other session has had it, of a previous daemon either
        self._jiffies, self._read_at = read_clock()
        self._before = maps.counts()
        self._blocks = deque([encoder.begin()])
        self._over = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopping = False
        self._stopping_lock = threading.Lock()
        """Held to write to ``_wake``: once it is closed, its number may be another file's."""
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        maps.set(self._number, asked.verdicts, asked.snaplen, asked.budget)
        try:
            counters.hide(hidden=True)
            self._extend()
            self._thread.start()
        except BaseException:
            self._end_in_kernel()
            raise
        self._log.info(
            "capture began", uid=peer.uid, pid=peer.pid, which=asked.which, filter=asked.expression, count=asked.count
        )

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> bytes:
        """Return the next block. Raises ConnectionError where it has failed: no client is to take that for its end."""
        over = self._over.is_set()  # before the blocks: none comes after that
        try:
            return self._blocks.popleft()
        except IndexError:
            if not over:
                return b""
        if self._failed:
            message = "the capture has failed"
            raise ConnectionError(message)
        raise StopIteration

    def close(self) -> None:
        """End it; what there is can still be read. Harmless when it has ended."""
        with self._stopping_lock:
            if not self._stopping:
                self._stopping = True
                os.eventfd_write(self._wake, 1)

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            try:
                self._work()
            finally:
                self._end_in_kernel()
            time.sleep(SETTLING)
            while records := self._maps.ring.read(BATCH):
                self._take(records)
            now = self._maps.counts()
            lost = {result: now[result] - self._before[result] for result in CAPTURE_RESULTS[1:]}
            self._blocks.append(self._encoder.end(lost))
            self._log.info("capture ended", uid=self.peer.uid, pid=self.peer.pid, frames=self._encoder.frames, **lost)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next client can capture
            self._failed = True
            self._log.error("capture failed", error=str(error) if isinstance(error, CnfError) else repr(error))
        self._ended()
        self._over.set()
        with self._stopping_lock:
            self._stopping = True
            os.close(self._wake)
        self.bell.ring()

    def _work(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._maps.ring, select.POLLIN)
        renewed = time.monotonic()
        while not self._stopping and self._left != 0:
            if time.monotonic() - renewed >= RENEWAL:
                self._extend()
                renewed = time.monotonic()
            if sum(map(len, self._blocks)) >= WAITING:  # without a client that reads, nothing rings
                time.sleep(0.02)
                continue
            poll.poll(RENEWAL * 1000)
            self._take(self._maps.ring.read(BATCH))

    def _extend(self) -> None:
        tick = tick_ns()
        now = self._jiffies + (time.monotonic_ns() - self._read_at) // tick
        self._maps.extend(now + in_ticks(LEASE, tick))

    def _end_in_kernel(self) -> None:
        self._maps.extend(0)
        self._counters.hide(hidden=False)

    def _take(self, records: list[bytes]) -> None:
        """Encode what matches of these records, up to the number that was asked for."""
        if not records or self._left == 0:
            return
        frames = Frames(records, time.time_ns() - time.monotonic_ns())
        interfaces = self._names()
        rows = np.flatnonzero(frames.matching(self._number, self._filter, Names(interfaces)))[: self._left]
        if not len(rows):
            return
        if self._left is not None:
            self._left -= len(rows)
        names = {index: each[0] for index, each in interfaces.items()}
        self._blocks.append(self._encoder.some(frames, rows, names))
        self.bell.ring()
