"""The interfaces of the configuration: which exist, which carry the program, and what each has counted."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, Protocol

import numpy.typing as npt
from structlog.typing import FilteringBoundLogger

from cnf.config import Interface
from cnf.errors import AttachError, CnfError
from cnf.kernel.attach import Attacher, Mode
from cnf.kernel.counters import UNASSIGNED, InterfaceCounters
from cnf.kernel.links import ARPHRD_LOOPBACK, Link, Links
from cnf.records import UNASSIGNED_INTERFACE

REMEMBERED_NAMES: Final = 4096
"""Departed interfaces whose names are kept for the flows that they leave behind."""


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """What became of one interface, or of a name or pattern that matches none."""

    name: str
    requested_mode: str
    state: Literal["attached", "missing", "refused"]
    ifindex: int | None = None
    mode: Mode | None = None
    program_id: int | None = None
    error: str | None = None


class Seating(Protocol):
    """Whoever has to know the interfaces before packets come in: the limiter."""

    def expect(self, names: Iterable[str]) -> None:
        """Take note of which interfaces there are."""

    def seat(self, name: str, slot: int) -> None:
        """Have the counter slot ``slot`` for ``name``."""


class Interfaces:
    """Keep the program on every interface that the configuration names, as they come and go.

    ``totals()`` may be called from any thread; all else belongs to the main thread.
    """

    def __init__(
        self,
        wanted: Sequence[Interface],
        attacher: Attacher,
        links: Links,
        counters: InterfaceCounters,
        log: FilteringBoundLogger,
    ) -> None:
        """Start with the program on no interface."""
        self.wanted = tuple(wanted)
        self.states: tuple[InterfaceState, ...] = ()
        self.names: dict[int, str] = {}
        self.seating: Seating | None = None
        self._attacher = attacher
        self._links = links
        self._counters = counters
        self._log = log
        self._owned: dict[int, Link] = {}
        self._retired: dict[str, npt.NDArray[Any]] = {}
        self._lock = threading.Lock()

    def reconcile(self) -> None:
        """Look at what is there, and attach and detach until it is what the configuration wants."""
        present = {link.index: link for link in self._links.read()}
        requests = {index: request for index, link in present.items() if (request := self._request(link))}
        for index in [index for index in self._owned if index not in requests]:
            self._let_go(index, gone=index not in present)
        if self.seating:
            self.seating.expect(present[index].name for index in requests)
        states = [self._keep(present[index], request) for index, request in requests.items()]
        met = {id(request) for request in requests.values()}
        states += [
            InterfaceState(request.name, request.mode, "missing", error="no such interface in this network namespace")
            for request in self.wanted
            if id(request) not in met
        ]
        self._publish(tuple(states))

    def clean_up(self) -> None:
        """Take what a crashed daemon has left off the interfaces that are not ours now."""
        for link in self._links.read():
            try:
                if self._attacher.clean(link):
                    self._log.info("left-behind program detached", interface=link.name)
            except CnfError as error:
                self._log.error("left-behind program stays", interface=link.name, error=str(error))

    def detach_all(self) -> None:
        """Take the program off every interface that it was put on, or was about to be; log what refuses."""
        for index in tuple(self._owned):
            self._let_go(index, gone=False)
        self.states = ()

    def totals(self) -> dict[str, npt.NDArray[Any]]:
        """Return the counters as they stand now: INTERFACE_COUNTERS, shape (), by interface name."""
        with self._lock:
            totals = {name: counters.copy() for name, counters in self._retired.items()}
            for index, counters in self._counters.read().items():
                if index == UNASSIGNED and not counters["packets"].any():
                    continue
                _add(totals, UNASSIGNED_INTERFACE if index == UNASSIGNED else self.names[index], counters)
        return totals

    def _request(self, link: Link) -> Interface | None:
        """Return the entry that wants ``link``; a pattern does not mean the loopback interface."""
        for request in self.wanted:
            # A name that is not UTF-8: the command line has it with surrogates, a Link with backslashes.
            name = request.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
            if name == link.name or (link.hardware != ARPHRD_LOOPBACK and fnmatchcase(link.name, name)):
                return request
        return None

    def _keep(self, link: Link, request: Interface) -> InterfaceState:
        state = InterfaceState(link.name, request.mode, "refused", ifindex=link.index)
        try:
            if not link.is_ethernet:
                message = f"interface {link.shown}: its frames have no Ethernet header (ARP type {link.hardware})"
                raise AttachError(message)
            mode = self._attach(link, request)
        except CnfError as error:
            if str(error) not in {known.error for known in self.states}:  # said once, not at every look
                self._log.error("interface refused", interface=link.name, error=str(error))
            return replace(state, error=str(error))
        return replace(state, state="attached", mode=mode, program_id=self._attacher.program_id)

    def _attach(self, link: Link, request: Interface) -> Mode:
        mode = self._attacher.ours(link.index)
        if link.index in self._owned and mode is not None:
            if link != self._owned[link.index]:
                self._owned[link.index] = link
                self._seat(link)
            return mode
        self._seat(link)
        # Owned from before the kernel is asked, so that an interruption leaves nothing behind.
        self._owned[link.index] = link
        try:
            attached = self._attacher.attach(link, request.mode)
        except CnfError:
            self._let_go(link.index, gone=False)
            raise
        if attached.refused:
            self._log.warning("native xdp refused, generic in use", interface=link.name, refused=attached.refused)
        self._log.info("xdp attached", interface=link.name, mode=attached.mode, prog_id=self._attacher.program_id)
        return attached.mode

    def _let_go(self, index: int, *, gone: bool) -> None:
        link = self._owned.pop(index)
        try:
            if gone:
                self._log.info("interface gone", interface=link.name)
            elif self._attacher.detach(link):
                self._log.info("xdp detached", interface=link.name)
        except CnfError as error:
            self._log.error("detaching failed", interface=link.name, error=str(error))
        with self._lock:
            final = self._counters.release(index)
            if final["packets"].any():
                _add(self._retired, self.names[index], final)

    def _seat(self, link: Link) -> None:
        self._remember(link)
        with self._lock:
            slot = self._counters.assign(link.index)
        if self.seating:
            self.seating.seat(link.name, slot)

    def _remember(self, link: Link) -> None:
        names = self.names | {link.index: link.name}
        departed = [index for index in names if index not in self._owned and index != link.index]
        for index in departed[: max(0, len(departed) - REMEMBERED_NAMES)]:
            del names[index]
        self.names = names

    def _publish(self, states: tuple[InterfaceState, ...]) -> None:
        for state in states:
            if state.state == "missing" and state not in self.states:
                self._log.warning("interface missing, waiting for it", interface=state.name)
        self.states = states


def _add(totals: dict[str, npt.NDArray[Any]], name: str, counters: npt.NDArray[Any]) -> None:
    if name not in totals:
        totals[name] = counters.copy()
        return
    for field in ("packets", "bytes", "unparsed", "dropped_packets", "dropped_bytes"):
        totals[name][field] += counters[field]
