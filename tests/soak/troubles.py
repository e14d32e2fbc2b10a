"""What befalls the daemon: each trouble is made, and what must come of it awaited, while all else goes on."""

from __future__ import annotations

import heapq
import math
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import count
from signal import SIGHUP, SIGKILL
from typing import Final

from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.namespaces import run
from tests.net.wait import wait_for
from tests.soak.clients import LogReader, total
from tests.soak.traffic import LIMITED, Traffic

FLAPPING: Final = "n1"
INTERFACES: Final = [{"name": "n0"}, {"name": FLAPPING}]
FLOWS: Final = {"max_entries": 65536, "idle_timeout": "5s", "drain_interval": "1s"}
LIMITS: Final = {
    "mode": "enforce",
    "rules": [{"name": "excess", "prefixes": [f"{LIMITED}/32"], "packets_per_second": 100, "burst_packets": 20}],
}
KILLS: Final = (0.1, 0.2, 0.3)
"""When, as parts of the length: then the last process lives long enough for its memory to be judged."""
FULL: Final = "No space left on device"


class Troubles:
    """All of them, each at its own intervals."""

    def __init__(self, node: Node, daemon: Daemon, log: LogReader, flapping: Traffic, born: Callable[[], None]) -> None:
        """Make trouble for ``daemon``; ``born`` is called when a new process of it is at work."""
        self.kills = 0
        self.counts: dict[str, int] = {}
        """How often there was each."""
        self._node, self._daemon, self._log, self._flapping, self._born = node, daemon, log, flapping, born
        self._big = daemon.state_file.with_name("big")
        self._dead_reader = ExitStack()
        self._full_disk = ExitStack()
        self._number = count(1)
        self._agenda: list[tuple[float, int, float, Callable[[], None]]] = []

    def schedule(self, length: float) -> None:
        """Plan for so many seconds."""
        now = time.monotonic()
        for first, interval, trouble in (
            (5, 20, self.down_and_up),
            (15, 20, self.made_again),
            (8, 15, self.reload),
            (20, 60, self.change_limits),
            (40, 150, self.dead_reader),
            (85, 150, self.living_reader),
            (70, 120, self.full_disk),
            (90, 120, self.space_again),
            *((length * part, math.inf, self.kill) for part in KILLS),
        ):
            heapq.heappush(self._agenda, (now + first, next(self._number), interval, trouble))

    def until(self, moment: float) -> None:
        """Make all the trouble that is due, until ``moment`` of the monotonic clock."""
        while True:
            due = self._agenda[0][0]
            time.sleep(max(0.0, min(due, moment) - time.monotonic()))
            if due > moment:
                return
            due, number, interval, trouble = heapq.heappop(self._agenda)
            trouble()
            self.counts[trouble.__name__] = self.counts.get(trouble.__name__, 0) + 1
            heapq.heappush(self._agenda, (max(due + interval, time.monotonic()), number, interval, trouble))

    def end(self) -> None:
        """Have the disk and the log's reader as they should be."""
        self._full_disk.close()
        self._dead_reader.close()

    def start(self) -> None:
        """Start the daemon, and wait until it is at work."""
        self._daemon.launch(stderr=self._log.writer)
        wait_for(self._is_ready, "the daemon to be ready")
        self._born()

    def kill(self) -> None:
        """Kill it, and start it again; the traffic goes on."""
        self._daemon.signal(SIGKILL)
        self._daemon.ended()
        self.kills += 1
        self.start()

    def down_and_up(self) -> None:
        """Have the interface go down and up."""
        with self._flapping.paused():
            for state in ("down", "up") * 3:
                self._node.inside.ip("link", "set", FLAPPING, state)

    def made_again(self) -> None:
        """Delete the interface and make it again."""
        with self._flapping.paused():
            self._flapping.wire.delete()
            self._flapping.wire = self._node.wire(FLAPPING)
            wait_for(lambda: FLAPPING in self._node.inside.programs(), "the program on the new interface")

    def reload(self) -> None:
        """Reload a bad file, and then a good one that is another than the one before."""
        self._reload(idle_timeout="soon")
        assert self._metric("cnf_config_last_reload_successful") == 0
        self._reload(idle_timeout=f"{5 + next(self._number) % 3}s")
        assert self._metric("cnf_config_last_reload_successful") == 1

    def change_limits(self) -> None:
        """Change a rule, and deny somebody and then no more."""
        self._change("set", "excess", "--packets-per-second", f"{50 + next(self._number) % 50}")
        if not self._big.exists():
            self._change("deny", "add", "192.0.2.0/24")
            self._change("deny", "remove", "192.0.2.0/24")

    def full_disk(self) -> None:
        """Fill the disk of the state file: what cannot be kept is refused."""
        self._full_disk.callback(self._big.unlink)
        with self._big.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        self._change("set", "excess", "--packets-per-second", f"{150 + next(self._number) % 50}")

    def space_again(self) -> None:
        """Make room on the disk."""
        self._full_disk.close()

    def dead_reader(self) -> None:
        """Have nobody read the log."""
        self._dead_reader.enter_context(self._log.dead())

    def living_reader(self) -> None:
        """Have the log read again."""
        self._dead_reader.close()

    def _change(self, *change: str) -> None:
        done = self._daemon.ctl("limits", *change)
        if self._big.exists():
            assert done.returncode != 0, f"{change}: kept on a full disk"
            assert FULL in done.stderr, done.stderr
        else:
            assert done.returncode == 0, done.stderr

    def _reload(self, **flows: str) -> None:
        configure(self._daemon, **flows)
        before = self._metric("cnf_config_last_reload_success_timestamp_seconds")
        self._daemon.signal(SIGHUP)
        if flows["idle_timeout"] == "soon":
            wait_for(lambda: self._metric("cnf_config_last_reload_successful") == 0, "the bad file to be refused")
        else:
            wait_for(
                lambda: self._metric("cnf_config_last_reload_success_timestamp_seconds") != before,
                "the good file to be in force",
            )

    def _metric(self, name: str) -> float:
        return total(self._daemon.http("/metrics").body.decode(), name)

    def _is_ready(self) -> bool:
        if not self._daemon.is_running():
            raise RuntimeError(f"cnfd has ended by itself, with status {self._daemon.ended()}")
        try:
            return self._daemon.http("/readyz").status == 200
        except OSError:
            return False


def configure(daemon: Daemon, **flows: str) -> None:
    """Write the configuration, with ``flows`` over what it has in that table."""
    daemon.configure(INTERFACES, flows=FLOWS | flows, limits=LIMITS, log={"level": "info"})


def small_disk(daemon: Daemon, stack: ExitStack) -> None:
    """Have the state file on a disk of its own, which is tiny; ``stack`` takes it away."""
    folder = daemon.state_file.parent
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "cnf-soak", os.fspath(folder))
    stack.callback(subprocess.run, ("umount", "--lazy", folder), check=True)
