"""A reload: the settings are read again, and put in effect but for those that are fixed at the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import attrs
import structlog
from structlog.typing import FilteringBoundLogger

from cnf.config import Configuration, Settings
from cnf.daemon.gaps import gaps, warn_of
from cnf.daemon.watch import Watch
from cnf.datapath.blueprint import Blueprint
from cnf.errors import CnfError
from cnf.flows.drain import Tracker
from cnf.flows.stream import Stream
from cnf.interfaces.reconcile import Interfaces
from cnf.process import log as process_log
from cnf.process import ssh_clients, systemd
from cnf.server.instruments import Instruments
from cnf.server.live import Live
from cnf.server.reloads import Reloaded
from cnf.server.state import State

FIXED_AT_START: Final = (
    ("flows", ("max_entries", "ipv6", "vlan", "table", "evicted_records")),
    ("metrics", ("listen", "web_config")),
    ("control", ("socket", "group", "read_group")),
    ("log", ("format",)),
    ("limits", ("max_sources", "max_rules", "state_file")),
)
"""Maps, sockets and the log's form are made once."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Put settings in effect while the daemon runs; by the main thread."""

    configuration: Configuration
    blueprint: Blueprint
    state: State
    live: Live
    tracker: Tracker
    stream: Stream
    interfaces: Interfaces
    watch: Watch
    instruments: Instruments
    _log: FilteringBoundLogger = field(default_factory=structlog.get_logger)

    def run(self) -> Reloaded:
        """Read the settings again, and have them in effect.

        Raises:
            CnfError: they are refused; all stays as it was.

        """
        systemd.notify_reloading()
        try:
            limiter = self.live.limiter
            settings, restart_only = keep_fixed(
                self.configuration.load(),
                self.state.settings,
                self._log,
                limiter=limiter is not None,
                records=self.live.stream is not None,
            )
            if limiter:  # the one part that can still be refused, so the first
                sessions = ssh_clients.sessions()  # once, as at the start
                limiter.reload(settings.limits, ssh_clients.clients(sessions))
                # At once: a protection that is not known to be a session's would outlive it over a restart.
                limiter.look_at(sessions)
        except CnfError as error:
            self.instruments.reload_successful.set(0)
            self._log.error("reload refused, the settings stay as they were", error=str(error))
            raise
        else:
            self._apply(settings)
            self.instruments.reload_successful.set(1)
            self.instruments.reload_time.set_to_current_time()
            return Reloaded(self.configuration.source, restart_only)
        finally:
            systemd.notify(READY=1, STATUS=self.state.summary())

    def _apply(self, settings: Settings) -> None:
        known, found = gaps(self.state.settings, self.blueprint), gaps(settings, self.blueprint)
        self.state.settings = settings
        process_log.set_level(settings.log.level)
        warn_of({event: remedy for event, remedy in found.items() if event not in known}, self._log)
        self.tracker.apply(settings.flows)
        self.stream.apply(settings)
        self.interfaces.wanted = settings.interfaces
        self.watch.look()
        self._log.info("reloaded", source=self.configuration.source)


def keep_fixed(
    wanted: Settings, current: Settings, log: FilteringBoundLogger, *, limiter: bool, records: bool
) -> tuple[Settings, tuple[str, ...]]:
    """Return what is wanted, with all that is fixed as it is, and each key that this takes back; log those.

    Where the kernel took no ``limiter`` there can be no limits, and without what ``records`` take, no records.
    """
    kept: dict[str, Any] = {}
    taken_back = []
    if wanted.max_interfaces != current.max_interfaces:
        taken_back.append("max_interfaces")
        log.warning("changes at a restart only", key="max_interfaces", in_use=current.max_interfaces)
        kept["max_interfaces"] = current.max_interfaces
    for table, keys in FIXED_AT_START:
        if table == "limits" and not limiter:
            continue  # it has no sizes
        new, old = getattr(wanted, table), getattr(current, table)
        for key in keys:
            if getattr(new, key) != getattr(old, key):
                taken_back.append(f"{table}.{key}")
                log.warning("changes at a restart only", key=taken_back[-1], in_use=getattr(old, key))
        kept[table] = attrs.evolve(new, **{key: getattr(old, key) for key in keys})
    if wanted.limits.say_anything and not limiter:
        taken_back.append("limits")
        log.warning("changes at a restart only", key="limits", in_use=None)
        kept["limits"] = current.limits
    for table in ("export", "history") if wanted.records and not records else ():
        if getattr(wanted, table) != getattr(current, table):
            taken_back.append(table)
            log.warning("changes at a restart only", key=table, in_use=None)
        kept[table] = getattr(current, table)
    return attrs.evolve(wanted, **kept), tuple(taken_back)
