"""The kernels run beside all other tests, on what these leave of the processors: most of the time, they wait."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Final

import pytest

from tests.kernels import chosen, virtual
from tests.kernels.debian import SUITES

SPARE_TIME: Final = (
    "sh",
    "-c",
    '[ ! -e /proc/self/autogroup ] || echo 19 >/proc/self/autogroup; exec chrt --idle 0 "$@"',
    "sh",
)
"""Runs a command when no other wants to. With autogroups (sched(7)) a session's tasks share as one with those of other
sessions, whatever they are: so the session, too, is as nice as can be."""
MINUTES: Final = "60"
"""A machine that hangs is ended; a busy one is waited for."""


class Run:
    """What was chosen, on the kernel of this name, from its start to its end."""

    def __init__(self, kernel: str) -> None:
        """Start it, in a session of its own: what emulates the machine ends with it."""
        self._printed: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - close() has it
        self._process = subprocess.Popen(
            (*SPARE_TIME, sys.executable, "-m", "tests.kernels", "--minutes", MINUTES, kernel, *chosen.COMMAND),
            cwd=virtual.CHECKOUT, stdin=subprocess.DEVNULL, stdout=self._printed, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def ended(self) -> virtual.Ended:
        """Wait for its end; return its exit status and what it printed."""
        status = self._process.wait()
        self._printed.seek(0)
        return virtual.Ended(status, self._printed.read().decode(errors="replace"))

    def close(self) -> None:
        """End it, where it has not ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._printed.close()


@pytest.fixture(scope="session")
def runs() -> Iterator[Mapping[str, Run]]:
    """Start all kernels at once, and give the run of each."""
    if reason := virtual.lacking():
        pytest.skip(reason)
    started = {name: Run(name) for name in SUITES}
    yield started
    for run in started.values():
        run.close()
