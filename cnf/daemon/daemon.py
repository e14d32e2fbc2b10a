"""The daemon: the start-up list, from a loaded datapath to the loop, and back, whatever happens."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from cnf import __version__
from cnf.capture.capture import Capture
from cnf.config import Configuration, Settings
from cnf.daemon.drains import Drains
from cnf.daemon.gaps import gaps, warn_of
from cnf.daemon.handover import Handover
from cnf.daemon.loop import Loop
from cnf.daemon.program_pins import ProgramPins
from cnf.daemon.reload import Reload
from cnf.daemon.servers import Servers
from cnf.daemon.watch import Watch
from cnf.datapath.build import Datapath
from cnf.datapath.counters import InterfaceCounters
from cnf.datapath.handover_map import HandoverMap
from cnf.errors import AttachError
from cnf.events.log import Context
from cnf.events.reader import EventReader
from cnf.export.counters import ExportCounters
from cnf.export.ipfix_exporters import IpfixExporters
from cnf.export.json_file import JsonFile
from cnf.export.record_log import RecordLog
from cnf.flows.drain import Tracker
from cnf.flows.stream import Sink, Stream
from cnf.flows.top import FlowSeries
from cnf.history.history import History
from cnf.interfaces.attachers import attachers_for, programs_of
from cnf.interfaces.reconcile import Interfaces
from cnf.kernel import capabilities, pins
from cnf.kernel.links import Links
from cnf.limiter.limiter import Limiter
from cnf.limiter.maps import is_limiting
from cnf.process import ssh_clients, systemd
from cnf.process.gc_tuning import collect_early, return_large_blocks
from cnf.process.signals import LEAVE, Signals
from cnf.server.guard import Guard
from cnf.server.instruments import Instruments
from cnf.server.live import Live
from cnf.server.reloads import Reloads
from cnf.server.state import State


def run(configuration: Configuration, datapath: Datapath, map_pins: pins.MapPins, signals: Signals) -> None:
    """Attach, serve, and drain until a signal asks to stop; take everything back whatever happens.

    ``map_pins`` are those of the datapath.

    Raises:
        pins.UnreadableError: the maps were kept, but not what belongs to them; nothing has been changed.

    """
    return_large_blocks()
    with contextlib.ExitStack() as stack:
        Daemon(configuration, datapath, map_pins, signals, stack).run()


class Daemon:
    """The parts of a daemon, and the order in which they start."""

    def __init__(
        self,
        configuration: Configuration,
        datapath: Datapath,
        map_pins: pins.MapPins,
        signals: Signals,
        stack: contextlib.ExitStack,
    ) -> None:
        """Open all that can be opened without a change to an interface; ``stack`` closes it in the end."""
        settings = configuration.settings
        self._configuration = configuration
        self._datapath = datapath
        self._map_pins = map_pins
        map_pins.stay = bool(datapath.kept)
        self._signals = signals
        self._stack = stack
        self._log = structlog.get_logger()
        _warn(settings, datapath, self._log)
        warn_of(gaps(settings, datapath.blueprint), self._log)
        self._servers = Servers(settings, self._log, stack)
        self._left_behind = stack.enter_context(contextlib.ExitStack())
        left_behind = self._left_behind.enter_context(pins.left_behind(map_pins.folder))
        attachers = attachers_for(datapath, left_behind, map_pins.folder, stack)
        self._pins = ProgramPins(datapath, map_pins, self._log)
        links = stack.enter_context(Links())
        counters = InterfaceCounters(datapath.maps)
        self._counters = counters
        self._interfaces = Interfaces(settings.interfaces, attachers, links, counters, self._log)
        self._events = EventReader(datapath, records=settings.records) if "events" in datapath.maps else None
        if self._events:
            stack.callback(self._events.close)
        self._stream = Stream(self._events)
        stream = self._stream if settings.records else None
        self._tracker = Tracker(datapath, self._interfaces.tallies, settings.flows, stream)
        self._series = FlowSeries()
        self._handover_map = HandoverMap(datapath.maps["handover"])
        self._handover = Handover(self._handover_map, self._log, kept=bool(datapath.kept))
        self._record_log: RecordLog | None = None
        self._exports: list[Callable[[], Iterable[ExportCounters]]] = []
        self._state = State(settings, configuration.source, _build_info(datapath))
        self._history = History(settings.history, self._state.started, kept=bool(datapath.kept))
        self._watch = Watch(self._interfaces, links, self._state, self._log)

    def run(self) -> None:
        """Go through the start-up list, and round the loop until a signal asks to stop."""
        self._take_over()
        systemd.notify(STATUS="attaching the program")
        with self._trial():
            limiter = self._attach()
        self._map_pins.stay = True
        self._history.limiter = limiter
        self._add_sinks()
        self._stack.callback(self._leave, limiter)
        self._interfaces.clean_up()
        self._left_behind.close()  # no interface has one any more, and the kernel frees them
        self._pins.remove_others()
        self._drop_capabilities()  # before there are other threads: each has its own

        live = Live(
            self._interfaces.tallies.totals,
            limiter,
            self._events,
            self._record_log,
            self._history if self._configuration.settings.records else None,
            stream=self._stream if self._stream.sinks else None,
            access=self._servers.access,
            egress="interface_sent" in self._datapath.maps,
            exports=lambda: [each for counters in self._exports for each in counters()],
            capture=self._open_capture(limiter),
        )
        registry = CollectorRegistry()
        registry.register(Guard(self._state, live, self._log))
        instruments = Instruments(registry)
        drains = Drains(self._state, live, self._tracker, self._stream, self._series, self._handover, instruments)
        reload = Reload(
            self._configuration,
            self._datapath.blueprint,
            self._state,
            live,
            self._tracker,
            self._stream,
            self._interfaces,
            self._watch,
            instruments,
        )
        reloads = Reloads(lambda: os.kill(os.getpid(), signal.SIGHUP))
        drains.drain()
        if self._events:
            self._events.start(partial(_context, self._state, limiter))
        self._servers.start(self._state, live, registry, reloads)
        collect_early()
        self._log.info("ready", **self._servers.places)
        systemd.notify(READY=1, STATUS=self._state.summary())
        Loop(self._state, live, self._signals, self._watch, drains, reload, reloads).run()
        systemd.notify(STOPPING=1, STATUS="detaching the program")
        self._record_the_rest(drains)

    def _take_over(self) -> None:
        """Go on from where the previous daemon has left the maps, if it has."""
        kept, discarded = self._datapath.kept, self._datapath.discarded
        if discarded:
            self._log.warning("flows and counters of the previous daemon discarded", reasons=discarded)
        self._handover.take(
            tracker=self._tracker,
            interfaces=self._interfaces.tallies,
            series=self._series,
            stream=self._stream,
            history=self._history,
        )
        if kept:
            self._log.info("going on with the flows and counters of the previous daemon")

    @contextlib.contextmanager
    def _trial(self) -> Iterator[None]:
        """Have the program pinned; if the start comes to nothing, leave what was there before."""
        self._pins.put()
        try:
            yield
        except BaseException:
            self._interfaces.give_back()
            self._pins.remove()
            if self._datapath.kept:
                self._handover.note()
            raise

    def _add_sinks(self) -> None:
        """Have flow records kept and sent as the settings say. Sinks follow a reload by themselves."""
        settings = self._configuration.settings
        if not settings.records:
            return
        self._record_log = RecordLog(self._handover_map.id, self._stream.last)
        json_file, exporters = JsonFile(settings), IpfixExporters(settings)
        self._handover.take(exporters=exporters)
        self._exports += [json_file.shown, exporters.counters]
        sinks: list[Sink] = [self._record_log, json_file, exporters, self._history]
        for sink in sinks:
            self._stack.callback(sink.close)
            self._stream.sinks.append(sink)

    def _attach(self) -> Limiter | None:
        """Attach for the first time; to go on with nothing attached, an interface must be missing that may yet come.

        The limits are in force before the first packet. But where the rules of the previous daemon hold, they follow
        only when no interface can make the start fail any more; until then, an interface that is new has those that
        name none.
        """
        rules_hold = self._datapath.kept.issuperset(self._datapath.blueprint.limiter_maps)
        limiter = None if rules_hold else self._limit()
        if rules_hold and self._datapath.limiting and is_limiting(self._datapath.maps):
            self._swap(limiting=True)
        self._watch.look()
        states = self._state.interfaces
        if states and all(state.state == "refused" for state in states):
            raise AttachError("; ".join(str(state.error) for state in states))
        return self._limit() if rules_hold else limiter

    def _limit(self) -> Limiter | None:
        """Put the limits in force, unless the kernel takes none."""
        if self._datapath.blueprint.limiter is None:
            return None
        limits = self._configuration.settings.limits
        sessions = ssh_clients.sessions()  # once: one that ended between two looks would not be known as a session's
        clients, seats = ssh_clients.clients(sessions), self._interfaces.tallies.seats()
        limiter = Limiter(self._datapath, limits, clients, self._handover_map, seats, self._swap)
        self._stack.callback(limiter.close)
        limiter.look_at(sessions)
        self._handover.take(sources=limiter)
        self._interfaces.seating = limiter
        return limiter

    def _swap(self, *, limiting: bool) -> None:
        """Have the program with limits on all interfaces, or the one without. Raises AttachError."""
        try:
            if self._interfaces.swap(programs_of(self._datapath.limiting if limiting else self._datapath.programs)):
                self._watch.ask()
                self._signals.wake()
        except AttachError as error:
            if limiting:
                raise
            effect = "nothing is limited; packets take a little longer"
            self._log.error("program without limits not put back", error=str(error), effect=effect)

    def _open_capture(self, limiter: Limiter | None) -> Capture:
        """Be ready to capture for clients of the control socket."""
        capture = Capture(self._datapath, self._counters, self._interfaces.tallies.all_names, limiter)
        self._stack.callback(capture.close)
        return capture

    def _drop_capabilities(self) -> None:
        """Drop what only loading takes; no reload loads anything."""
        try:
            dropped = capabilities.drop(capabilities.LOADING, self._datapath.read_clock)
        except OSError as error:
            remedy = "add capset to the service's SystemCallFilter"
            self._log.warning("capabilities not dropped", error=error.strerror, remedy=remedy)
        else:
            self._log.debug("capabilities dropped", names=dropped)

    def _record_the_rest(self, drains: Drains) -> None:
        """Record what no other daemon could: all flows, or of a program that stays, what was read of the ring."""
        if not self._stream.sinks:
            return
        if self._events:
            self._events.stop()
        if not self._stays():
            self._interfaces.detach_all()
            drains.drain(whole="stopped")
        else:  # what is recorded of an LRU hash's flows stands in no map; the history's minute ends here
            whole = self._datapath.blueprint.table == "lru_hash" or self._state.settings.history.keep
            drains.drain(whole="active" if whole else None)

    def _leave(self, limiter: Limiter | None) -> None:
        """Take everything back; or leave all as it is, for a restart, or because the configuration has it so."""
        if self._stays():
            if limiter:
                limiter.leave()
            self._log.info("leaving the program on the interfaces", remedy="cnfctl detach takes it off")
            return
        if self._is_to_stay():
            self._log.warning("not leaving the program, which is not pinned: the next daemon would not know it")
        self._interfaces.detach_all()
        self._pins.remove_all()

    def _stays(self) -> bool:
        """Return whether the next daemon goes on with the program."""
        return self._is_to_stay() and self._pins.are_there

    def _is_to_stay(self) -> bool:
        return self._signals.stop == LEAVE or self._state.settings.on_exit == "keep"


def _warn(settings: Settings, datapath: Datapath, log: structlog.typing.FilteringBoundLogger) -> None:
    """Say what the daemon goes without."""
    remedy = capabilities.remedy(capabilities.SPEED)
    if capabilities.missing(capabilities.SPEED):
        log.warning(capabilities.SLOW, remedy=remedy)
    if settings.flows.evicted_records and not datapath.blueprint.finished_events:
        log.warning("evicted flows are not named: LRU hashes do not tell", remedy=remedy)


def _context(state: State, limiter: Limiter | None) -> Context | None:
    """Return the context that events are described in; None before the first drain."""
    snapshot = state.snapshot
    if snapshot is None:
        return None
    return Context(snapshot.clock, snapshot.names, limiter.in_force.dropper if limiter else None)


def _build_info(datapath: Datapath) -> dict[str, str]:
    return {
        "version": __version__,
        "bcc_version": datapath.bcc_version,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
