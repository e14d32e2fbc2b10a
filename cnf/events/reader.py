"""The thread that reads events from the ring buffer, so that a long drain does not hold them up."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.abi import EVENT_KINDS
from cnf.datapath.build import Datapath
from cnf.events.journal import FirstDropLines
from cnf.events.log import Batch, Context, EventLog
from cnf.flows.finished import FinishedFlows
from cnf.kernel.maps import CounterArray
from cnf.kernel.ring import Ring

PAUSE: Final = 0.05
"""Seconds between two readings: in a flood, the events of that time are read together, and wake the thread once."""


class EventReader:
    """Read events from the ring of a datapath until closed."""

    def __init__(self, datapath: Datapath) -> None:
        """Go on where the previous daemon has stopped.

        Raises:
            MapError: the kernel refused.

        """
        self.log = EventLog()
        self.finished = FinishedFlows(datapath.blueprint.max_entries)
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._first_drops = FirstDropLines()
        self._ring = Ring(datapath.maps["events"])
        self._lost = CounterArray("events_lost", datapath.maps["events_lost"])
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    @property
    def ring_id(self) -> int:
        """The ring's number: in another ring, events are numbered from 1 again."""
        return self._ring.id

    def start(self, context: Callable[[], Context | None]) -> None:
        """Begin to read, by a thread that asks for the ``context`` of what it reads; None: there is none yet."""
        self._thread = threading.Thread(target=self._run, args=(context,), name="events", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading; events that were not read wait for the next daemon."""
        os.eventfd_write(self._stop, 1)
        if self._thread:
            self._thread.join()
        os.close(self._stop)
        self._ring.close()

    def lost(self) -> dict[str, int]:
        """Return how many events found the ring full, by kind. Raises MapError."""
        return {kind: self._lost.sum(place).packets for place, kind in enumerate(EVENT_KINDS)}

    def _run(self, context: Callable[[], Context | None]) -> None:
        ring, stop = select.poll(), select.poll()
        for poll in (ring, stop):
            poll.register(self._stop, select.POLLIN)
        ring.register(self._ring, select.POLLIN)
        while True:
            ring.poll()
            try:
                self._read(context())
            except Exception as error:  # noqa: BLE001 - whatever it is, later events must be read
                self._log.error("events not read", error=repr(error))
            if stop.poll(PAUSE * 1000):
                return

    def _read(self, context: Context | None) -> None:
        if context is None:
            return
        stretch = self._ring.read()
        batch = Batch(stretch.first + 1, stretch.events, context)
        self.log.append(batch)
        self.finished.add(stretch.events)
        self._first_drops.write(batch)
