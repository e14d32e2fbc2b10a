"""Threads, one on every CPU that there is, that send the same packets at once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from tests.bpf.conftest import Datapath

REPEAT: Final = 20_000
"""Packets that a CPU sends without a break."""


class Flood:
    """Send from every CPU for the length of the block, REPEAT of each packet in turn."""

    def __init__(self, datapath: Datapath, packets: Sequence[bytes]) -> None:
        """Prepare; ``with`` starts and stops the threads."""
        self.sent: Counter[bytes] = Counter()
        """By packet; complete once the threads have stopped."""
        self._datapath = datapath
        self._packets = packets
        self._enough = threading.Event()
        self.cpus = sorted(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(len(self.cpus))
        self._together = threading.Barrier(len(self.cpus) + 1)
        self._running: list[Future[Counter[bytes]]] = []

    def __enter__(self) -> Self:
        """Start, and wait until every CPU is about to send."""
        self._running = [self._pool.submit(self._send, cpu) for cpu in self.cpus]
        self._together.wait(timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and raise what a thread has raised."""
        self._enough.set()
        self._pool.shutdown()
        for each in self._running:
            self.sent += each.result()

    def _send(self, cpu: int) -> Counter[bytes]:
        os.sched_setaffinity(0, {cpu})  # of this thread
        sent: Counter[bytes] = Counter()
        self._together.wait(timeout=30)
        while not self._enough.is_set():
            for packet in self._packets:
                self._datapath.run(packet, REPEAT)
                sent[packet] += REPEAT
        return sent
