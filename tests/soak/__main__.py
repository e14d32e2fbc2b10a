"""The soak: cnfd under load and trouble for hours; its status is 0 only if nothing was lost, leaked or left."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

import pytest

from tests import leaks, seclusion
from tests.net.conftest import Node
from tests.net.wait import PATIENCE, wait_for
from tests.soak.clients import LogReader, Scraper, SlowClient, total
from tests.soak.gauges import ENOUGH, Memory, holdings, pins
from tests.soak.traffic import Traffic
from tests.soak.troubles import FLAPPING, Troubles, configure, small_disk

FLOWS_A_SECOND: Final = 10_000
SLOPE_LIMIT: Final = 1.0
"""MB an hour."""
WARM_UP: Final = 0.1
"""Part of the length after which the memory of a process is as large as its tables have it."""
UNITS: Final = {"s": 1, "m": 60, "h": 3600}
LEAST: Final = 120.0
"""Seconds in which there is every trouble at least once."""
REPORT_INTERVAL: Final = 60.0
SAMPLE_INTERVAL: Final = 1.0
PROVOKED: Final = {"reload refused, the settings stay as they were"}
"""Errors in the log that there must be."""
HEADING: Final = (
    "  minute  RSS MB   slope MB/h  fds  threads  programs  maps  pins"
    "        sent    received  difference  kills  lines lost  errors"
)


class Soak:
    """One run, in namespaces of its own."""

    def __init__(self, stack: ExitStack, length: float) -> None:
        """Prepare everything; ``stack`` takes it away."""
        self.failures: list[str] = []
        self._length = length
        self._stack = stack
        self._node = Node(stack)
        stack.callback(shutil.rmtree, pins(self._node.inside), ignore_errors=True)  # of a killed daemon
        self._steady = Traffic(self._node.wire("n0"), FLOWS_A_SECOND)
        self._flapping = Traffic(self._node.wire(FLAPPING), FLOWS_A_SECOND // 40, first=1 << 28)
        self._daemon = self._node.daemon()
        self._daemon.keep_programs_in(self._daemon.config.parent / "programs")
        configure(self._daemon)
        small_disk(self._daemon, stack)
        self._log = LogReader(stack)
        self._memory = Memory(length * WARM_UP)
        self._troubles = Troubles(self._node, self._daemon, self._log, self._flapping, self._born)
        self._scraper = Scraper(self._daemon)
        self._slow = SlowClient(self._daemon)
        self._started = 0.0

    def run(self) -> None:
        """Run for the whole length, and stop the daemon."""
        threads = (self._steady, self._flapping, self._log, self._scraper, self._slow)
        with ThreadPoolExecutor(len(threads)) as pool:
            try:
                futures = [pool.submit(self._log.run)]
                self._troubles.start()
                futures += [pool.submit(each.run) for each in threads if each is not self._log]
                self._go_through(futures)
                self._troubles.end()
                for client in (self._scraper, self._slow):
                    client.stop()
                self._check_holdings()
                self._report()
                self._end()
            finally:
                for each in threads:
                    each.stop()

    def _go_through(self, futures: list[Future[None]]) -> None:
        """Make trouble, take samples, and report each minute."""
        print(HEADING, flush=True)
        self._started = started = time.monotonic()
        self._troubles.schedule(self._length)
        now, report = started, started + REPORT_INTERVAL
        while now < started + self._length:
            self._troubles.until(now + SAMPLE_INTERVAL)
            self._memory.sample(self._daemon.pid)
            for future in futures:
                if future.done():
                    future.result()
            if not self._daemon.is_running():
                raise RuntimeError(f"cnfd has ended by itself, with status {self._daemon.ended()}")
            now = time.monotonic()
            if now >= report:
                self._report()
                report += REPORT_INTERVAL

    def _report(self) -> None:
        """Print a line; the traffic rests for that, so that what was sent and what was counted must be the same."""
        with self._at_rest() as sent:
            received, difference = self._counted(sent)
            size = self._memory.sample(self._daemon.pid)
            held = holdings(self._daemon.pid, self._node.inside)
            lost = total(self._daemon.http("/metrics").body.decode(), "cnf_log_lines_lost_total")
        if (received, difference) != (sent, 0):
            self.failures.append(f"sent {sent} packets, counted {received}, ledger difference {difference}")
        errors = sum(number for (level, _event), number in self._log.events.items() if level != "warning")
        print(
            f"{(time.monotonic() - self._started) / 60:8.1f}{size:8.1f}{self._memory.slope:13.2f}"
            f"{held.descriptors:5}{held.threads:9}{held.programs:10}{held.maps:6}{held.pins:6}"
            f"{sent:12}{received:12}{difference:12}{self._troubles.kills:7}{lost:12.0f}{errors:8}",
            flush=True,
        )

    @contextmanager
    def _at_rest(self) -> Iterator[int]:
        """Have no traffic for the length of the block; yields the packets sent."""
        with self._steady.paused(), self._flapping.paused():
            yield self._steady.sent + self._flapping.sent

    def _counted(self, sent: int) -> tuple[int, int]:
        """Return (received, difference) of the ledger as soon as they are what they should be, or in the end."""
        packets: dict[str, Any] = {}

        def settled() -> bool:
            packets.update(self._daemon.status()["ledger"]["packets"])
            return (packets["received"], packets["difference"]) == (sent, 0)

        with suppress(pytest.fail.Exception):
            wait_for(settled, "the ledger")
        return packets["received"], packets["difference"]

    def _born(self) -> None:
        """Take note of a new process, and of what it holds while nobody is connected."""
        self._memory.begin()
        with self._scraper.lock, self._slow.lock:
            samples = []
            for _ in range(10):  # the server closes a connection a little after the client
                samples.append(holdings(self._daemon.pid, self._node.inside))
                time.sleep(0.05)
        self._at_first = min(samples)

    def _check_holdings(self) -> None:
        """Compare what is held, once nobody is connected, with what was at first."""
        deadline = time.monotonic() + PATIENCE
        while (held := holdings(self._daemon.pid, self._node.inside)) != self._at_first:
            if time.monotonic() > deadline:
                self.failures.append(f"held in the end: {held}; at first: {self._at_first}")
                return
            time.sleep(SAMPLE_INTERVAL)

    def _end(self) -> None:
        """Stop the daemon, and look for what it leaves."""
        folder = pins(self._node.inside)
        self._daemon.stop()
        left = [str(path) for path in (folder, self._daemon.socket) if path.exists()]
        left += [f"program on {name}" for name in self._node.inside.programs()]
        if left:
            self.failures.append(f"left after the stop: {', '.join(left)}")

    def conclude(self) -> None:
        """Print the sums, and find what must not be."""
        flows, seconds = self._steady.new + self._flapping.new, max(self._steady.seconds, 1e-9)
        print(f"new flows: {flows}, {flows / seconds:.0f} a second")
        print(f"scrapes: {self._scraper.answered}, and {self._scraper.unanswered} while it was down")
        print(f"troubles: {', '.join(f'{name} {number}' for name, number in self._troubles.counts.items())}")
        print("warnings and errors logged:")
        for (level, event), number in sorted(self._log.events.items()):
            print(f"  {number:6}  {level}: {event}")
        judged = "" if self._memory.hours >= ENOUGH else f", not judged: {ENOUGH:g} h would be needed"
        print(f"memory slope: {self._memory.slope:.2f} MB/h over {self._memory.hours:.2f} h of samples{judged}")
        if not judged and self._memory.slope > SLOPE_LIMIT:
            self.failures.append(f"memory slope over {SLOPE_LIMIT:g} MB/h")
        self.failures += [f"a counter went down: {event}" for event in self._scraper.went_down]
        errors = {event for level, event in self._log.events if level in ("error", "critical", "text")} - PROVOKED
        self.failures += [f"logged: {event}" for event in sorted(errors)]


def main(arguments: list[str]) -> int:
    """Run the soak for a length such as 10m, and return 1 if anything was not as it must be."""
    text = " ".join(arguments) or "2h"
    found = re.fullmatch(r"(\d+)([smh])", text)
    length = int(found[1]) * UNITS[found[2]] if found else 0
    if length < LEAST:
        print(f"expected a length of at least {LEAST:g}s, such as 10m or 2h, got {text!r}", file=sys.stderr)
        return 64
    if reason := seclusion.begin():
        print(reason, file=sys.stderr)
        return 71
    before = leaks.take()
    with ExitStack() as stack:
        soak = Soak(stack, length)
        try:
            soak.run()
        except (AssertionError, RuntimeError, OSError, pytest.fail.Exception) as error:
            soak.failures.append(str(error))
        except KeyboardInterrupt:
            soak.failures.append("interrupted")
        soak.conclude()
    soak.failures += [f"left behind: {leak}" for leak in leaks.left_behind(before)]
    for failure in soak.failures:
        print(f"FAILED: {failure}")
    print("failed" if soak.failures else "passed: every packet counted, and nothing left")
    return 1 if soak.failures else 0


sys.exit(main(sys.argv[1:]))
