"""Many flows, each of its own source address, sent from a thread beside the test."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from tests.bpf.conftest import Datapath
from tests.bpf.packets import UDP, IPv4, frame

TEMPLATE: Final = frame(IPv4(), UDP(), b"payload")
SIZE: Final = len(TEMPLATE)
SOURCE_AT: Final = 26  # of the IPv4 source address in the frame


def numbered(number: int) -> bytes:
    """Return the frame of flow ``number``, SIZE bytes long."""
    return TEMPLATE[:SOURCE_AT] + number.to_bytes(4, "big") + TEMPLATE[SOURCE_AT + 4 :]


class Sender:
    """Send flow after flow, ``packets`` of each and then never again, and one packet of ``steady`` between two.

    The thread stays at most ``ahead`` flows in front of those that the test has seen off: with fewer than a table
    holds, none is evicted.
    """

    def __init__(self, datapath: Datapath, packets: int, ahead: int, steady: bytes = b"") -> None:
        """Prepare; ``with`` starts and stops the thread."""
        self.packets = packets
        self.sent = 0
        """Flows sent; complete once the thread has stopped."""
        self._datapath = datapath
        self._steady = steady
        self._room = threading.Semaphore(ahead)
        self._enough = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._interval = sys.getswitchinterval()
        self._done: Future[None] | None = None

    def __enter__(self) -> Self:
        """Start; the threads take turns often enough to be in the kernel at the same time."""
        sys.setswitchinterval(1e-5)
        self._done = self._pool.submit(self._send)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and raise what the thread has raised."""
        self._enough.set()
        self._pool.shutdown()
        sys.setswitchinterval(self._interval)
        if self._done is not None:
            self._done.result()

    def seen_off(self, flows: int) -> None:
        """Make room for as many flows."""
        if flows:
            self._room.release(flows)

    def _send(self) -> None:
        while not self._enough.is_set():
            if self._room.acquire(timeout=0.1):
                for _ in range(self.packets):  # not by `repeat`, for which the kernel waits milliseconds at each run
                    self._datapath.run(numbered(self.sent))
                if self._steady:
                    self._datapath.run(self._steady)
                self.sent += 1
