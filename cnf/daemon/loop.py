"""The main thread's loop: signals, interfaces and drains, until a signal asks to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.daemon.drains import Drains
from cnf.daemon.reload import Reload
from cnf.daemon.watch import Watch
from cnf.process import ssh_clients, systemd
from cnf.process.gc_tuning import collect
from cnf.process.signals import Signals
from cnf.server.live import Live
from cnf.server.reloads import Reloads
from cnf.server.state import State

RECONCILE_INTERVAL: Final = 10.0
"""Seconds between looks at the interfaces without a notification, to take back a hook that came free."""
SETTLING: Final = 0.1
"""Seconds from a notification to the look: one for many, and at interfaces that are where they will stay."""
UNHEARD: Final = 1.0
"""Seconds from one look to the next while notifications cannot be read."""


@dataclass(frozen=True, slots=True)
class Loop:
    """The main thread's work."""

    state: State
    live: Live
    signals: Signals
    watch: Watch
    drains: Drains
    reload: Reload
    reloads: Reloads
    _log: FilteringBoundLogger = field(default_factory=structlog.get_logger)

    def run(self) -> None:
        """Go round until a signal asks to stop."""
        next_drain = next_look = time.monotonic()
        watchdog = systemd.watchdog_interval() or RECONCILE_INTERVAL
        while self.signals.stop is None:
            now = time.monotonic()
            if self.signals.take_reload():
                self.reloads.do(self.reload.run)
            if self.watch.changed():
                next_look = min(next_look, now + (SETTLING if self.watch.listening else UNHEARD))
            if now >= next_look:
                self._look()
                next_look = now + RECONCILE_INTERVAL
            if now >= next_drain:
                self.drains.drain(late=time.monotonic() - next_drain)
                # From the planned time, so that drains keep their beat; from now, when one took longer than that.
                next_drain = max(next_drain + self.state.settings.flows.drain_interval, now)
            systemd.notify(WATCHDOG=1, STATUS=self.state.summary())
            others = [self.watch] if self.watch.listening else []
            self.signals.wait(min(next_drain, next_look, now + watchdog) - time.monotonic(), *others)
        self._log.info("stopping", signal=self.signals.stop.name)

    def _look(self) -> None:
        self.watch.look()
        if self.live.limiter:
            self.live.limiter.look_at(ssh_clients.sessions())
        collect()  # the garbage that looks and reloads have left, before what stays is allocated behind it
