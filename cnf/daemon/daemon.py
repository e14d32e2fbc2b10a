"""The daemon: composition of all parts, the start-up list, and the loop."""

from __future__ import annotations

import contextlib
import grp
import os
import platform
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry

from cnf import __version__
from cnf.config import Settings
from cnf.daemon.handover import Handover
from cnf.daemon.reload import keep_fixed
from cnf.datapath.build import Datapath
from cnf.datapath.counters import InterfaceCounters
from cnf.datapath.daemon_memory import Memory
from cnf.errors import AttachError, CnfError, KernelError, UnavailableError
from cnf.events.log import Context
from cnf.events.reader import EventReader
from cnf.flows.drain import Tracker
from cnf.flows.top import FlowSeries
from cnf.interfaces.reconcile import Interfaces
from cnf.kernel import capabilities, pins
from cnf.kernel.hooks import XDP
from cnf.kernel.links import Links
from cnf.kernel.xdp import Attacher
from cnf.limits.table import Limits
from cnf.process import log, ssh_clients, systemd
from cnf.process.gc_tuning import collect, collect_early, return_large_blocks
from cnf.process.signals import LEAVE, Signals
from cnf.server.control import Control
from cnf.server.http import Web
from cnf.server.messages import Paths
from cnf.server.metrics import Guard, Instruments
from cnf.server.metrics_app import Exposition
from cnf.server.reloads import Reloaded, Reloads
from cnf.server.sockets import listen_tcp, listen_unix
from cnf.server.state import State

if TYPE_CHECKING:
    from cnf.limiter.limiter import Limiter

RECONCILE_INTERVAL: Final = 10.0
"""Seconds between looks at the interfaces without a notification, to take back a hook that came free."""
SETTLING: Final = 0.1
"""Seconds from a notification to the look: one for many, and at interfaces that are where they will stay."""
UNHEARD: Final = 1.0
"""Seconds from one look to the next while notifications cannot be read."""
NO_LIMITS: Final = Limits(mode="off")
"""What a file without the table means to a daemon that was started with it."""


class Daemon:
    """One daemon, from attaching to detaching."""

    def __init__(
        self, settings: Settings, source: str, load: Callable[[], Settings], datapath: Datapath, signals: Signals
    ) -> None:
        """Take over a loaded datapath; ``load`` reads the settings again."""
        self._settings = settings
        self._source = source
        self._load = load
        self._datapath = datapath
        self._signals = signals
        self._log = structlog.get_logger()
        self._registry = CollectorRegistry()
        self._limiter: Limiter | None = None
        self._pinned = False
        self._listening = True
        self._reloads = Reloads(lambda: os.kill(os.getpid(), signal.SIGHUP))

    def run(self, map_pins: pins.MapPins) -> None:
        """Attach, serve, and drain until a signal asks to stop; take everything back whatever happens.

        ``map_pins`` are those of the datapath.

        Raises:
            pins.UnreadableError: the maps were kept, but not what belongs to them; nothing has been changed.

        """
        return_large_blocks()
        self._warn()
        with contextlib.ExitStack() as stack:
            group = _group(self._settings.control.group)
            path = Path(self._settings.control.socket)
            control_socket = stack.enter_context(listen_unix(path, group))
            stack.callback(_unlink, path)
            metrics = self._settings.metrics
            metrics_sockets = stack.enter_context(listen_tcp(metrics.host, metrics.port, self._log))

            to_replace = stack.enter_context(contextlib.ExitStack())
            left_behind = to_replace.enter_context(pins.left_behind(map_pins.folder))
            program_fd, program_id = self._datapath.programs[XDP.entry], self._datapath.program_id
            attacher = stack.enter_context(Attacher(program_fd, program_id, left_behind))
            self._links = stack.enter_context(Links())
            self._memory = Memory(self._datapath.maps["daemon_memory"])
            counters = InterfaceCounters(self._datapath.maps)
            self._interfaces = Interfaces(self._settings.interfaces, attacher, self._links, counters, self._log)
            self._tracker = Tracker(self._datapath, self._interfaces.tallies, self._settings.flows)
            self._series = FlowSeries()
            map_pins.stay = bool(self._datapath.kept)
            self._take_over()
            self._events = self._event_reader(stack)
            self._state = State(
                self._settings, self._source, self._build_info(), self._interfaces.tallies.totals, events=self._events
            )
            self._guard = Guard(self._state, metrics.max_series, self._log)
            self._registry.register(self._guard)
            self._instruments = Instruments(self._registry)

            systemd.notify(STATUS="attaching the program")
            with self._trial(map_pins, program_fd, program_id):
                # Before the first packet; but where the rules of the previous daemon hold, only when no interface can
                # make the start fail any more. Until then, an interface that is new has those that name none.
                rules_hold = self._datapath.kept.issuperset(self._datapath.blueprint.limiter_maps)
                if not rules_hold:
                    self._limit(stack)
                self._attach()
                if rules_hold:
                    self._limit(stack)
            map_pins.stay = True
            stack.callback(self._leave, map_pins)
            self._interfaces.clean_up()
            to_replace.close()  # no interface has one any more, and the kernel frees them
            self._discard_others(map_pins, str(program_id))
            self._drop_capabilities()  # before there are other threads: each has its own
            self._drain()
            if self._events:
                self._events.start()
            self._serve(stack, metrics_sockets, control_socket, group)
            collect_early()
            self._log.info("ready", metrics=metrics.listen, socket=str(path))
            systemd.notify(READY=1, STATUS=self._state.summary())
            self._loop()
            systemd.notify(STOPPING=1, STATUS="detaching the program")

    def _serve(
        self,
        stack: contextlib.ExitStack,
        metrics_sockets: Sequence[socket.socket],
        control_socket: socket.socket,
        group: int | None,
    ) -> None:
        scrapes = Exposition(self._state, self._registry)
        stack.enter_context(Web("metrics", metrics_sockets, scrapes, Exposition.BOUNDS, self._log))
        calls = Control(self._state, group, self._limit_paths(), self._reloads.ask, self._log)
        stack.enter_context(Web("control", [control_socket], calls, Control.BOUNDS, self._log))
        stack.callback(self._reloads.close)  # first, so that nobody waits when the servers end

    def _warn(self) -> None:
        """Say what the daemon goes without."""
        remedy = capabilities.remedy(capabilities.SPEED)
        if capabilities.missing(capabilities.SPEED):
            self._log.warning(capabilities.SLOW, remedy=remedy)
        if self._settings.flows.evicted_records and not self._datapath.blueprint.evicted_records:
            self._log.warning("evicted flows are not named: LRU hashes do not tell", remedy=remedy)

    def _loop(self) -> None:
        next_drain = next_reconcile = time.monotonic()
        watchdog = systemd.watchdog_interval() or RECONCILE_INTERVAL
        while self._signals.stop is None:
            now = time.monotonic()
            if self._signals.take_reload():
                self._reloads.do(self._reload)
            if self._notified():
                next_reconcile = min(next_reconcile, now + (SETTLING if self._listening else UNHEARD))
            if now >= next_reconcile:
                self._reconcile()
                if self._limiter:
                    self._limiter.look_at(ssh_clients.sessions())
                collect()  # what netlink's messages and reloads have left, before it is in the way of what stays
                next_reconcile = now + RECONCILE_INTERVAL
            if now >= next_drain:
                self._drain(late=time.monotonic() - next_drain)
                # From the planned time, so that drains keep their beat; from now, when one took longer than that.
                next_drain = max(next_drain + self._settings.flows.drain_interval, now)
            systemd.notify(WATCHDOG=1, STATUS=self._state.summary())
            others = [self._links] if self._listening else []
            self._signals.wait(min(next_drain, next_reconcile, now + watchdog) - time.monotonic(), *others)
        self._log.info("stopping", signal=self._signals.stop.name)

    def _notified(self) -> bool:
        """Tell whether the interfaces may have changed; what cannot be read is not waited for until the next look."""
        try:
            changed = self._links.changed()
        except KernelError as error:
            self._listening = False
            self._log.error("notifications about interfaces not read", error=str(error))
            return True
        self._listening = True
        return changed

    def _limit(self, stack: contextlib.ExitStack) -> None:
        """Put the limits in force, if there are any."""
        limits = self._settings.limits
        if limits is None:
            return
        from cnf.limiter.limiter import Limiter  # noqa: PLC0415 - half a megabyte that others need not have

        sessions = ssh_clients.sessions()  # once: one that ended between two looks would not be known as a session's
        clients = ssh_clients.clients(sessions)
        limiter = Limiter(self._datapath, limits, clients, self._memory, self._interfaces.tallies.seats())
        stack.callback(limiter.close)
        limiter.look_at(sessions)
        self._handover.take(sources=limiter)
        self._limiter = self._state.limiter = self._interfaces.seating = limiter

    def _event_reader(self, stack: contextlib.ExitStack) -> EventReader | None:
        if "events" not in self._datapath.maps:
            return None
        reader = EventReader(self._datapath, self._event_context)
        stack.callback(reader.close)
        return reader

    def _event_context(self) -> Context | None:
        snapshot = self._state.snapshot
        if snapshot is None:
            return None
        return Context(snapshot.clock, snapshot.names, self._limiter.in_force.dropper if self._limiter else None)

    def _take_over(self) -> None:
        """Go on from where the previous daemon has left the maps, if it has."""
        if self._datapath.discarded:
            self._log.warning("flows and counters of the previous daemon discarded", reasons=self._datapath.discarded)
        self._handover = Handover(self._memory, self._log, kept=bool(self._datapath.kept))
        self._handover.take(tracker=self._tracker, interfaces=self._interfaces.tallies, series=self._series)
        if self._datapath.kept:
            self._log.info("going on with the flows and counters of the previous daemon")

    def _discard_others(self, map_pins: pins.MapPins, program: str) -> None:
        """Remove the pins of the previous daemon that are not ours by now."""
        if map_pins.folder is None:
            return
        removed = pins.unpin(map_pins.folder, program, map_pins.path.name if map_pins.path else "")
        if any(not name.isdecimal() for name in removed):
            self._log.warning(
                "flows and counters of the previous daemon discarded",
                reasons=["their maps were made by another version, or for another configuration or namespace"],
            )

    def _drop_capabilities(self) -> None:
        """Drop what only loading takes; no reload loads anything."""
        try:
            dropped = capabilities.drop(capabilities.LOADING, self._datapath.read_clock)
        except OSError as error:
            remedy = "add capset to the service's SystemCallFilter"
            self._log.warning("capabilities not dropped", error=error.strerror, remedy=remedy)
        else:
            self._log.debug("capabilities dropped", names=dropped)

    def _leave(self, map_pins: pins.MapPins) -> None:
        """Take everything back; or leave all as it is, for a restart, or because the configuration has it so."""
        if self._signals.stop == LEAVE or self._settings.on_exit == "keep":
            if self._pinned:
                if self._limiter:
                    self._limiter.leave()
                self._log.info("leaving the program on the interfaces", remedy="cnfctl detach takes it off")
                return
            self._log.warning("not leaving the program, which is not pinned: the next daemon would not know it")
        self._interfaces.detach_all()
        if map_pins.folder:
            pins.unpin(map_pins.folder)

    def _limit_paths(self) -> Paths | None:
        if self._limiter is None:
            return None
        from cnf.server.limits_control import LimitControl  # noqa: PLC0415 - as above

        return LimitControl(self._state, self._limiter).handlers

    @contextlib.contextmanager
    def _trial(self, map_pins: pins.MapPins, program_fd: int, program_id: int) -> Iterator[None]:
        """Have the program pinned; if the start comes to nothing, leave what was there before."""
        self._pinned = self._pin(map_pins, program_fd, program_id)
        try:
            yield
        except BaseException:
            self._interfaces.give_back()
            if map_pins.folder:
                pins.unpin_program(map_pins.folder, program_id)
            if self._datapath.kept:
                self._handover.note()
            raise

    def _pin(self, map_pins: pins.MapPins, program_fd: int, program_id: int) -> bool:
        """Pin the program, and return whether it and its maps are pinned."""
        trouble = map_pins.trouble
        if map_pins.folder:
            try:
                pins.pin(map_pins.folder, program_fd, program_id)
            except OSError as error:
                trouble = error
        if trouble:
            self._log.warning(
                "program not pinned",
                path=str(trouble.filename or map_pins.folder),
                error=trouble.strerror,
                effect="a restart has a gap, and after a crash, the program will seem foreign to the next daemon",
                remedy=f"let this user alone write there; where bpffs is not mounted: {pins.MOUNT}",
            )
        return trouble is None

    def _attach(self) -> None:
        """Attach for the first time; to go on with nothing attached, an interface must be missing that may yet come."""
        self._reconcile()
        states = self._state.interfaces
        if states and all(state.state == "refused" for state in states):
            raise AttachError("; ".join(str(state.error) for state in states))

    def _reconcile(self) -> None:
        try:
            self._interfaces.reconcile()
        except CnfError as error:
            self._log.error("looking at the interfaces failed", error=str(error))
        self._state.interfaces = self._interfaces.states
        self._state.lost_notifications = self._links.lost

    def _drain(self, late: float = 0.0) -> None:
        """Drain, ``late`` seconds after it was due."""
        with self._state.draining:
            self._drain_tables(late)

    def _drain_tables(self, late: float) -> None:
        try:
            snapshot = self._tracker.drain()
            if self._limiter:
                self._limiter.drain(snapshot.clock)
            if self._events:
                finished = self._events.finished.shown(snapshot.clock, self._settings.flows.idle_timeout)
                snapshot = replace(snapshot, finished=finished)
        except CnfError as error:
            self._instruments.drain_errors.inc()
            self._state.drain_errors += 1
            self._state.last_error = str(error)
            self._log.error("drain failed", error=str(error))
            return
        self._instruments.drain_duration.observe(snapshot.duration)
        self._series.update(snapshot, self._settings.metrics.top_flows)
        self._handover.note()  # first: nobody sees a count that the next daemon would not know of
        self._state.publish(snapshot, self._series.values)
        self._log.debug(
            "drained",
            flows=sum(map(len, snapshot.flows.values())),
            seconds=round(snapshot.duration, 4),
            late=round(late, 4),
        )

    def _reload(self) -> Reloaded:
        systemd.notify_reloading()
        try:
            settings, restart_only = keep_fixed(
                self._load(), self._settings, self._log, limiter=self._limiter is not None
            )
            if self._limiter:  # the one part that can still be refused, so the first
                sessions = ssh_clients.sessions()  # once, as at the start
                self._limiter.reload(settings.limits or NO_LIMITS, ssh_clients.clients(sessions))
                # At once: a protection that is not known to be a session's would outlive it over a restart.
                self._limiter.look_at(sessions)
        except CnfError as error:
            self._instruments.reload_successful.set(0)
            self._log.error("reload refused, the settings stay as they were", error=str(error))
            raise
        else:
            self._apply(settings)
            self._instruments.reload_successful.set(1)
            self._instruments.reload_time.set_to_current_time()
            return Reloaded(self._source, restart_only)
        finally:
            systemd.notify(READY=1, STATUS=self._state.summary())

    def _apply(self, settings: Settings) -> None:
        self._settings = self._state.settings = settings
        log.set_level(settings.log.level)
        self._tracker.apply(self._settings.flows)
        self._guard.max_series = settings.metrics.max_series
        self._interfaces.wanted = settings.interfaces
        self._reconcile()
        self._log.info("reloaded", source=self._source)

    def _build_info(self) -> dict[str, str]:
        return {
            "version": __version__,
            "bcc_version": self._datapath.bcc_version,
            "kernel": platform.release(),
            "python": platform.python_version(),
        }


def _unlink(path: Path) -> None:
    """Remove the socket; where its folder has become another's, it stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def _group(name: str) -> int | None:
    """Return the gid of ``name``; None for no name. Raises UnavailableError, since it may come yet."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        message = f"control.group: there is no group {name!r} here (groupadd {name}, or leave it empty)"
        raise UnavailableError(message) from None
