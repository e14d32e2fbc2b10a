"""The real cnfd as a process: how long it takes to start, and the memory that it holds."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import calls, wire
from bench.report import Bar, Section
from bench.table import FLOWS, MAX_ENTRIES, made_up
from cnf.records import FLOW4_KEY

PATIENCE: Final = 60.0
DRAINS: Final = 4


class Daemon:
    """A cnfd on the wire, and what it tells systemd."""

    def __init__(self, folder: Path, flows: str) -> None:
        """Start it with ``flows`` as that table of its configuration, in TOML."""
        settings = folder / "cnf.toml"
        settings.write_text(
            f"""
            interfaces = [{{name = "{wire.RECEIVER.name}"}}]
            flows = {{{flows}}}
            control = {{socket = "{folder / "cnf.sock"}"}}
            log = {{level = "error"}}
            """,
            encoding="utf-8",
        )
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notifications.bind(str(folder / "notify"))
        self._notifications.settimeout(1.0)  # between looks whether it still lives
        environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify")}
        self._started = time.monotonic()
        self._process = subprocess.Popen([sys.executable, "-m", "cnf.cnfd", "--config", settings], env=environment)

    def wait(self, text: str) -> float:
        """Wait for a notification with ``text`` in it; return the seconds since the start."""
        while True:
            try:
                if text in self._notifications.recv(4096).decode():
                    return time.monotonic() - self._started
            except TimeoutError:
                if self._process.poll() is not None or time.monotonic() - self._started > PATIENCE:
                    raise RuntimeError(f"cnfd did not say {text}") from None

    def stop(self) -> None:
        """End it, and wait for that."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        self._notifications.close()

    def memory(self) -> dict[str, float]:
        """Return VmRSS and VmHWM (the most it ever was) of proc(5), in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return {name: int(kibibytes) * 1024 / 1e6 for name, kibibytes in re.findall(r"(Vm\w+):\s+(\d+) kB", status)}

    def fill(self) -> None:
        """Put FLOWS flows into its IPv4 table, behind its back."""
        for info in Path(f"/proc/{self._process.pid}/fdinfo").iterdir():
            fields = dict(line.split(":", 1) for line in info.read_text(encoding="ascii").splitlines())
            if int(fields.get("max_entries", 0)) == MAX_ENTRIES and int(fields["key_size"]) == FLOW4_KEY.itemsize:
                fd = calls.map_by_id(int(fields["map_id"]))
                try:
                    calls.update(fd, *made_up(FLOWS))
                finally:
                    os.close(fd)
                return
        raise LookupError("the daemon has no map of that size")


def measure(rounds: int) -> Section:
    """Start the daemon ``rounds`` times with its defaults, and once with a million flows."""
    section = Section("the daemon")
    starts, empty = [], []
    for _ in range(rounds):
        with _daemon() as daemon:
            starts.append(daemon.wait("READY=1"))
            daemon.wait("WATCHDOG=1")
            empty.append(daemon.memory()["VmRSS"])
    with _daemon(f'max_entries = {MAX_ENTRIES}, drain_interval = "1s"') as daemon:
        daemon.wait("READY=1")
        before = daemon.memory()["VmRSS"]
        daemon.fill()
        full = []
        for _ in range(DRAINS):
            daemon.wait(f" {FLOWS} flows")
            full.append(daemon.memory()["VmRSS"] - before)
        peak = daemon.memory()["VmHWM"] - before
    section.add("from exec to READY", starts, "s", Bar(0.8))
    section.add("resident memory, empty table", empty, "MB", Bar(60))
    section.add(f"{FLOWS:,} flows add, between drains", full, "MB", Bar(130))
    section.add(f"{FLOWS:,} flows add, at the peak of a drain", [peak], "MB")
    return section


@contextmanager
def _daemon(flows: str = "") -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="cnf-bench-") as folder:
        daemon = Daemon(Path(folder), flows)
        try:
            yield daemon
        finally:
            daemon.stop()
