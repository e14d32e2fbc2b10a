"""Traffic of ever new flows, beside some that stay, some that are limited and some that are broken; each is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Final

from tests.bpf.packets import TCP, UDP, IPv4, IPv6, frame
from tests.net.namespaces import Wire

BEAT: Final = 0.02
"""Seconds between bursts."""
LIMITED: Final = "198.51.100.7"
"""The source that sends more than its rule allows."""

FLOW4: Final = frame(IPv4("10.0.0.0"), UDP(), bytes(64))
FLOW6: Final = frame(IPv6("2001:db8::"), TCP(), bytes(64))
SOURCE4: Final = 26  # of the last four bytes of the source address in a frame
SOURCE6: Final = 34
IPV6_SHARE: Final = 8
"""One new flow in so many is IPv6."""
STEADY: Final = [frame(IPv4(f"203.0.113.{host}"), TCP(), bytes(1000)) for host in range(1, 11)]
EXCESS: Final = [frame(IPv4(LIMITED), UDP(), bytes(64))] * 10
BROKEN: Final = [FLOW4[:20]]


class Traffic:
    """Send ``flows`` new flows a second, and about a quarter as many other frames, into a wire until ``stop()``."""

    def __init__(self, wire: Wire, flows: int, first: int = 0) -> None:
        """Prepare; flows are numbered from ``first``."""
        self.wire = wire
        self.sent = 0
        """Packets."""
        self.seconds = 0.0
        """How long it has been sending."""
        self.new = 0
        """Flows sent."""
        self._burst = round(flows * BEAT)
        self._numbers = count(first)
        self._running = threading.Lock()
        self._wanted = threading.Event()
        self._stop = threading.Event()

    def run(self) -> None:
        """Send, until ``stop()``."""
        while not self._stop.is_set():
            with self._running:
                started = time.monotonic()
                self.wire.send(self._frames())
                self.seconds += time.monotonic() - started
            while self._wanted.is_set() and not self._stop.is_set():
                time.sleep(BEAT)

    def stop(self) -> None:
        """Have ``run()`` come to its end."""
        self._stop.set()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Send nothing for the length of the block; all that was sent before has been taken."""
        self._wanted.set()
        with self._running:
            yield
        self._wanted.clear()

    def _frames(self) -> Iterator[bytes]:
        """Yield frames, a burst each beat; what could not be sent in time is not made up for."""
        due = time.monotonic()
        others = [*STEADY, *EXCESS, *BROKEN] if self._burst >= len(STEADY) else STEADY[:1]
        while not self._stop.is_set() and not self._wanted.is_set():
            for number in (next(self._numbers) for _ in range(self._burst)):
                self.sent += 1
                self.new += 1
                yield _numbered(number)
            for other in others:
                self.sent += 1
                yield other
            due = max(due + BEAT, time.monotonic() - BEAT)
            time.sleep(max(0.0, due - time.monotonic()))


def _numbered(number: int) -> bytes:
    """Return a frame of flow ``number``, of a source of its own."""
    if number % IPV6_SHARE == 0:
        return FLOW6[:SOURCE6] + number.to_bytes(4, "big") + FLOW6[SOURCE6 + 4 :]
    source = (10 << 24 | number & 0xFFFFFF).to_bytes(4, "big")
    port = (1024 + (number >> 24)).to_bytes(2, "big")
    return FLOW4[:SOURCE4] + source + FLOW4[SOURCE4 + 4 : SOURCE4 + 8] + port + FLOW4[SOURCE4 + 10 :]
