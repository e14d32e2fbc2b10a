"""The thread that reads events from the ring buffer, so that a long drain does not hold them up."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Final

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from cnf.abi import EVENT, EVENT_KINDS
from cnf.arrays import Records
from cnf.datapath.build import Datapath
from cnf.events.journal import FirstDropLines
from cnf.events.log import Batch, Context, EventLog
from cnf.flows.finished import KINDS, FinishedFlows
from cnf.kernel.maps import CounterArray
from cnf.kernel.ring import STRIDE, Ring, Stretch

PAUSE: Final = 0.05
"""Seconds between two readings: in a flood, the events of that time are read together, and wake the thread once."""

MOST_WITHOUT_CONTEXT: Final = 1 << 17
"""Events that wait for the first drain, at most, besides those of one reading: 16 MB."""


class EventReader:
    """Read events from the ring of a datapath until closed."""

    def __init__(self, datapath: Datapath, *, records: bool) -> None:
        """Go on where the previous daemon has stopped; with ``records``, ``take_finishes()`` is called.

        Raises:
            MapError: the kernel refused.

        """
        self.finished = FinishedFlows(datapath.blueprint.max_entries)
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._first_drops = FirstDropLines()
        self._ring = Ring(datapath.maps["events"])
        self.log = EventLog(last=self._ring.given_back)
        self._lost = CounterArray("events_lost", datapath.maps["events_lost"])
        blueprint = datapath.blueprint
        self._most = max(2 * blueprint.max_entries, blueprint.ring_bytes // STRIDE) if records else 0
        self._lock = threading.Lock()
        """Held by who reads the ring: the thread, or a drain."""
        self._context: Callable[[], Context | None] = lambda: None
        self._without_context: list[Stretch] = []
        self._finishes: list[Records] = []
        self._dropped = 0
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread: threading.Thread | None = None

    @property
    def ring_id(self) -> int:
        """The ring's number: in another ring, events are numbered from 1 again."""
        return self._ring.id

    def start(self, context: Callable[[], Context | None]) -> None:
        """Begin to read, by a thread that asks for the ``context`` of what it reads; None: there is none yet."""
        self._context = context
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, so that only ``take_finishes()`` reads: events that it leaves wait for the next daemon."""
        os.eventfd_write(self._stop, 1)
        if self._thread:
            self._thread.join()

    def close(self) -> None:
        """Stop reading, and let the ring go."""
        self.stop()
        os.close(self._stop)
        self._ring.close()

    def take_finishes(self) -> Records:
        """Read the ring, and return all events of flows that have finished since the latest call: EVENT, shape (N,).

        Of more than the ring holds, and than twice as many as a table has entries, only the latest are there.
        """
        with self._lock:
            self._read()
            taken, self._finishes = self._finishes, []
        return np.concatenate([np.empty(0, EVENT), *taken])

    def finishes_missed(self) -> int:
        """Return how many such events found the ring full, or were too many to keep. Raises MapError."""
        return self._dropped + sum(self._lost.sum(place).packets for place in KINDS.values())

    def lost(self) -> dict[str, int]:
        """Return how many events found the ring full, by kind. Raises MapError."""
        return {kind: self._lost.sum(place).packets for place, kind in enumerate(EVENT_KINDS)}

    def _run(self) -> None:
        ring, stop = select.poll(), select.poll()
        for poll in (ring, stop):
            poll.register(self._stop, select.POLLIN)
        ring.register(self._ring, select.POLLIN)
        while True:
            ring.poll()
            try:
                with self._lock:
                    self._read()
            except Exception as error:  # noqa: BLE001 - whatever it is, later events must be read
                self._log.error("events not read", error=repr(error))
            if stop.poll(PAUSE * 1000):
                return

    def _read(self) -> None:
        stretch = self._ring.read()
        self.finished.add(stretch.events)
        self._keep(stretch.events[np.isin(stretch.events["kind"], list(KINDS.values()))])
        self._without_context.append(stretch)
        while sum(len(each.events) for each in self._without_context[1:]) > MOST_WITHOUT_CONTEXT:
            del self._without_context[0]
        context = self._context()
        if context:
            stretches, self._without_context = self._without_context, []
            for each in stretches:
                batch = Batch(each.first + 1, each.events, context)
                self.log.append(batch)
                self._first_drops.write(batch)

    def _keep(self, finishes: Records) -> None:
        if self._most and len(finishes):
            self._finishes.append(finishes)
            surplus = sum(map(len, self._finishes)) - self._most
            while surplus > 0 and surplus >= len(self._finishes[0]):
                dropped = len(self._finishes.pop(0))
                surplus -= dropped
                self._dropped += dropped
