"""The state that the main thread publishes for scrapes and cnfctl; live.py has what they ask of parts of the daemon.

Attributes are replaced whole and never changed in place, so that readers need no lock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from cnf.abi import DIRECTIONS, Direction
from cnf.config import Settings
from cnf.counts import Count
from cnf.errors import UnavailableError
from cnf.flows.snapshot import Snapshot
from cnf.flows.top import FlowLabels
from cnf.interfaces.reconcile import InterfaceState


@dataclass(slots=True)
class State:
    """The latest of everything."""

    settings: Settings
    config_source: str
    build_info: Mapping[str, str]
    """version, bcc_version, kernel, python."""
    started: float = field(default_factory=time.time)
    started_monotonic: float = field(default_factory=time.monotonic)
    interfaces: tuple[InterfaceState, ...] = ()
    lost_notifications: int = 0
    """How often the kernel discarded notifications about interfaces."""
    snapshot: Snapshot | None = None
    drained_at: float | None = None
    """time.monotonic() of the latest drain."""
    series: Mapping[FlowLabels, Count] = field(default_factory=dict)
    drain_errors: int = 0
    last_error: str | None = None
    """Why the latest drain failed; None if it succeeded."""
    rates: Mapping[Direction, tuple[float, float]] = field(
        default_factory=lambda: dict.fromkeys(DIRECTIONS, (0.0, 0.0))
    )
    """Packets and bytes a second, between the latest two drains."""
    drops: float = 0.0
    """Packets dropped a second, between the latest two drains."""

    def publish(self, snapshot: Snapshot, series: Mapping[FlowLabels, Count]) -> None:
        """Show the result of a drain, and work out the rates since the previous one."""
        now = time.monotonic()
        if self.snapshot is not None and self.drained_at is not None:
            seconds = max(now - self.drained_at, 1e-3)
            self.rates = {
                direction: (increase.packets / seconds, increase.bytes / seconds)
                for direction, ledger in snapshot.ledgers.items()
                for increase in [ledger.seen.minus(self.snapshot.ledgers[direction].seen)]
            }
            now_dropped, before = (each.ledgers["ingress"].states["dropped"] for each in (snapshot, self.snapshot))
            self.drops = now_dropped.minus(before).packets / seconds
        self.series = series
        self.snapshot = snapshot
        self.drained_at = now
        self.last_error = None

    def drained(self) -> Snapshot:
        """Return the latest snapshot. Raises UnavailableError if there is none yet."""
        if self.snapshot is None:
            raise UnavailableError(
                "no drain yet: the daemon is starting, or its drains fail", remedy="see cnfctl status"
            )
        return self.snapshot

    def drain_age(self) -> float:
        """Return the seconds since the latest drain, or since the start if there was none."""
        return time.monotonic() - (self.started_monotonic if self.drained_at is None else self.drained_at)

    def not_ready(self) -> str | None:
        """Return why the daemon is not ready: nothing is attached, or no drain is fresh; None if it is ready."""
        if not any(interface.state == "attached" for interface in self.interfaces):
            return "the program is attached to no interface"
        if self.snapshot is None:
            return "no drain yet"
        if self.drain_age() > 3 * self.settings.flows.drain_interval:
            return f"the latest drain was {self.drain_age():.1f} s ago"
        return None

    def summary(self) -> str:
        """Return the line that systemd shows."""
        attached = sum(interface.state == "attached" for interface in self.interfaces)
        flows = sum(map(len, self.snapshot.flows.values())) if self.snapshot else 0
        trouble = f"; drain failing: {self.last_error}" if self.last_error else ""
        return f"attached to {attached} of {len(self.interfaces)} interfaces, {flows} flows{trouble}"
