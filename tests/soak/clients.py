"""Those who are connected to the daemon all the time: a scraper, a client that hardly reads, and the log's reader."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from tests.net.daemon import Daemon

SCRAPE_INTERVAL: Final = 3.0
SLOW_READ_INTERVAL: Final = 0.2
SLOW_READS: Final = 25
REQUEST: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Scraper:
    """Scrape as Prometheus does, and look that what it counts never goes down."""

    def __init__(self, daemon: Daemon) -> None:
        """Prepare."""
        self.answered = 0
        self.unanswered = 0
        self.went_down: list[str] = []
        self.lock = threading.Lock()
        """Held for the length of a scrape."""
        self._daemon = daemon
        self._latest: dict[str, float] = {}
        self._stop = threading.Event()

    def run(self) -> None:
        """Scrape, until ``stop()``."""
        while not self._stop.wait(SCRAPE_INTERVAL):
            with self.lock:
                try:
                    answer = self._daemon.http("/metrics")
                except OSError:  # it has been killed, or has not been started again
                    self.unanswered += 1
                    continue
            self.answered += 1
            for name in ("cnf_received_packets_total", "cnf_dropped_packets_total"):
                value = total(answer.body.decode(), name)
                if value < self._latest.get(name, 0):
                    self.went_down.append(f"{name} from {self._latest[name]:.0f} to {value:.0f}")
                self._latest[name] = value

    def stop(self) -> None:
        """Have ``run()`` come to its end."""
        self._stop.set()


class SlowClient:
    """Ask for the metrics again and again, and read a few bytes of them over seconds."""

    def __init__(self, daemon: Daemon) -> None:
        """Prepare."""
        self.lock = threading.Lock()
        """Held for the length of a connection."""
        self._daemon = daemon
        self._stop = threading.Event()

    def run(self) -> None:
        """Be slow, until ``stop()``."""
        while not self._stop.wait(SLOW_READ_INTERVAL):
            with self.lock, suppress(OSError), self._daemon.connect_metrics() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                connection.sendall(REQUEST)
                for _ in range(SLOW_READS):
                    if self._stop.wait(SLOW_READ_INTERVAL) or not connection.recv(16):
                        break

    def stop(self) -> None:
        """Have ``run()`` come to its end."""
        self._stop.set()


class LogReader:
    """Read the log from a pipe, count its warnings and errors by event, and at times read nothing."""

    def __init__(self, stack: ExitStack) -> None:
        """Open the pipe; ``stack`` closes it."""
        reader, self.writer = os.pipe()
        self._reader = stack.enter_context(os.fdopen(reader, "rb"))
        stack.callback(os.close, self.writer)
        os.set_blocking(reader, False)
        self.events: Counter[tuple[str, str]] = Counter()
        """(level, event) of warnings and errors; ("text", line) of lines that are no events."""
        self._dead = threading.Event()
        self._stop = threading.Event()
        self._rest = b""

    def run(self) -> None:
        """Read, until ``stop()``."""
        while not self._stop.wait(0.01):
            if not self._dead.is_set():
                self._read()
        self._read()

    def stop(self) -> None:
        """Read what is there, and have ``run()`` come to its end."""
        self._stop.set()

    @contextmanager
    def dead(self) -> Iterator[None]:
        """Read nothing for the length of the block, with the pipe full from the start."""
        self._dead.set()
        # By a description of its own: whether the daemon's writes block must not change.
        filler = os.open(f"/proc/self/fd/{self.writer}", os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(filler, b"\n" * 4096)
        os.close(filler)
        try:
            yield
        finally:
            self._dead.clear()

    def _read(self) -> None:
        *lines, self._rest = (self._rest + (self._reader.read() or b"")).split(b"\n")
        for line in filter(None, lines):
            try:
                entry = json.loads(line)
            except ValueError:  # what a killed daemon has begun, too
                self.events["text", line.decode(errors="replace")] += 1
                continue
            if entry["level"] not in ("debug", "info"):
                self.events[entry["level"], entry["event"]] += 1


def total(exposition: str, name: str) -> float:
    """Add up the samples of ``name``."""
    return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", exposition, re.MULTILINE)))
