"""cnfctl on a pseudo-terminal, for tests that look at what a user would see."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

PATIENCE = 30.0
"""Seconds to wait for something that is certain to come; a test that needs them all has failed."""


CNFCTL: Final = (sys.executable, "-m", "cnf.cli")


class Terminal:
    """A running cnfctl and the terminal it runs on; ``seen`` is all that it wrote."""

    def __init__(self, arguments: list[str], columns: int, rows: int, command: Sequence[str]) -> None:
        """Start ``cnfctl arguments`` on a new terminal of that size."""
        self._master, self._slave = pty.openpty()
        self.resize(columns, rows)
        self.seen = b""
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=dict(os.environ),  # without it the child gets what libreadline put beside os.environ: COLUMNS and LINES
        )

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size; the signal is the caller's to send, this is no controlling terminal."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def modes(self) -> list[object]:
        """Return the terminal's modes (termios)."""
        return list(termios.tcgetattr(self._slave))

    def press(self, keys: bytes) -> None:
        """Type ``keys``."""
        os.write(self._master, keys)

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Read until ``text`` was written ``times`` times in all."""
        deadline = time.monotonic() + PATIENCE
        while self.seen.count(text.encode()) < times:
            ready, _, _ = select.select([self._master], [], [], max(deadline - time.monotonic(), 0.0))
            assert ready, f"{text!r} did not appear in {self.seen!r}"
            self.seen += os.read(self._master, 1 << 16)

    def wait_until_stopped(self) -> None:
        """Wait for a signal to have stopped cnfctl; one that continues it before is lost."""
        deadline = time.monotonic() + PATIENCE
        while os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG) is None:
            assert time.monotonic() < deadline, "cnfctl did not stop"
            time.sleep(0.001)

    def end(self) -> int:
        """Wait for cnfctl to end, read what it still wrote, and return its exit status."""
        status = self.process.wait(PATIENCE)
        while select.select([self._master], [], [], 0.0)[0]:
            self.seen += os.read(self._master, 1 << 16)
        return status

    def close(self) -> None:
        """Kill what still runs."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


@contextmanager
def on_terminal(
    arguments: list[str], columns: int = 80, rows: int = 24, command: Sequence[str] = CNFCTL
) -> Iterator[Terminal]:
    """Run cnfctl on a terminal until the block ends."""
    terminal = Terminal(arguments, columns, rows, command)
    try:
        yield terminal
    finally:
        terminal.close()
