"""The real cnfd as a process."""

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

from bench import wire
from cnf.datapath.blueprint import Table

PATIENCE: Final = 60.0
RECEIVING: Final = f'[{{name = "{wire.RECEIVER.name}", mode = "native", directions = ["ingress"]}}]'


class Daemon:
    """A cnfd on the wire, and what it tells systemd."""

    def __init__(self, folder: Path, programs: Path, interfaces: str, flows: str, rest: str) -> None:
        """Start it with ``interfaces`` and ``flows`` of its configuration, in TOML, and the ``rest`` of it.

        It keeps its program in the folder ``programs``.
        """
        settings = folder / "cnf.toml"
        settings.write_text(
            f"""
            interfaces = {interfaces}
            flows = {{{flows}}}
            control = {{socket = "{folder / "cnf.sock"}"}}
            log = {{level = "error"}}
            history = {{folder = "{folder / "history"}"}}
            {rest}
            """,
            encoding="utf-8",
        )
        self._notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notifications.bind(str(folder / "notify"))
        self._notifications.settimeout(1.0)  # between looks whether it still lives
        environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify"), "CACHE_DIRECTORY": str(programs)}
        self._started = time.monotonic()
        self._process = subprocess.Popen([sys.executable, "-m", "cnf.cnfd", "--config", settings], env=environment)

    def wait(self, text: str) -> float:
        """Wait for a notification with ``text`` in it; return the seconds since the start."""
        while text not in self._notification():
            pass
        return time.monotonic() - self._started

    def wait_for_flows(self, least: int) -> int:
        """Wait for the status after a drain that has found so many flows; return how many it has found."""
        while True:
            found = re.search(r"(\d+) flows", self._notification())
            if found and int(found[1]) >= least:
                return int(found[1])

    def _notification(self) -> str:
        """Return the next one."""
        while True:
            try:
                return self._notifications.recv(4096).decode()
            except TimeoutError:
                if self._process.poll() is not None or time.monotonic() - self._started > PATIENCE:
                    raise RuntimeError("cnfd has died, or does not say what it is waited for") from None

    def stop(self) -> None:
        """End it, and wait for that."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)
        self._notifications.close()

    def memory(self) -> dict[str, float]:
        """Return VmRSS and VmHWM (the most it ever was) of proc(5), in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return {name: int(kibibytes) * 1024 / 1e6 for name, kibibytes in re.findall(r"(Vm\w+):\s+(\d+) kB", status)}


@contextmanager
def running(
    table: Table, flows: str = "", *, interfaces: str = RECEIVING, rest: str = "", programs: Path | None = None
) -> Iterator[Daemon]:
    """Start a daemon with this flow table, and with ``flows`` besides in that table of its configuration; end it.

    The others are those of Daemon; by itself, it finds no program that was built before.
    """
    with tempfile.TemporaryDirectory(prefix="cnf-bench-") as folder:
        daemon = Daemon(Path(folder), programs or Path(folder), interfaces, f'table = "{table}"{flows}', rest)
        try:
            yield daemon
        finally:
            daemon.stop()
