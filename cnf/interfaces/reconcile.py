"""The interfaces of the configuration: which exist, which carry the program, and what each has counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from structlog.typing import FilteringBoundLogger

from cnf.abi import UNASSIGNED_INTERFACE
from cnf.config import Interface
from cnf.datapath.counters import InterfaceCounters
from cnf.errors import AttachError, CnfError
from cnf.interfaces.matching import match, unreadable
from cnf.interfaces.modes import Modes
from cnf.interfaces.stacking import Stacks, leave_out
from cnf.interfaces.totals import Tallies
from cnf.kernel.links import Link, Links, Mode
from cnf.kernel.xdp import Attacher


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """The state of one interface, or of a name or pattern that matches none."""

    name: str
    requested_mode: str
    state: Literal["attached", "missing", "refused"]
    ifindex: int | None = None
    mode: Mode | None = None
    program_id: int | None = None
    error: str | None = None
    """Why it is not attached, or not in the mode that was asked for."""
    warning: str | None = None
    """A trouble that it has although it is attached."""


class Seating(Protocol):
    """The limiter, which has to know the interfaces before packets come in."""

    def expect(self, names: Mapping[str, Collection[str]]) -> None:
        """Take note of which interfaces there are, each with its altnames."""

    def seat(self, name: str, slot: int) -> None:
        """Take note that ``name`` has the counter slot ``slot``."""


class Interfaces:
    """Keep the program on every interface that the configuration names, as they come and go.

    All of it belongs to the main thread; ``tallies`` says what others may call.
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
        self.tallies = Tallies(counters)
        self.states: tuple[InterfaceState, ...] = ()
        self.seating: Seating | None = None
        self._attacher = attacher
        self._links = links
        self._log = log
        self._owned: dict[int, Link] = {}
        self._modes = Modes(attacher, log)
        self._members: Mapping[int, int] = {}
        """The bond whose packets a member's are, both by ifindex."""
        self._lost = 0
        self._said: set[str | None] = set()
        """Errors and warnings of the previous look: each is logged once, not at every look."""

    def reconcile(self) -> None:
        """Look at what is there, and attach and detach until it is what the configuration wants."""
        if self._links.lost != self._lost:
            self._lost = self._links.lost
            self._log.info("link notifications lost, everything read afresh", times=self._lost)
        moved = self._links.take_moved()
        present = {link.index: link for link in self._links.read()}
        matches = match(present.values(), self.wanted)
        requests = matches.requests
        for index in [index for index in self._owned if index not in requests]:
            self._let_go(index, gone=index not in present, moved=index in moved)
            self._modes.forget(index)
        self.tallies.altnames = {index: present[index].altnames for index in requests}
        if self.seating:
            self.seating.expect({present[index].name: present[index].altnames for index in requests})
        stacks = Stacks(present.values())
        self._members = stacks.members(requests)
        for member in [member for member, bond in self.tallies.members.items() if self._members.get(member) != bond]:
            self.tallies.leave(member)
        self._said = {words for known in self.states for words in (known.error, known.warning)}
        kept = {index: self._keep(present[index], requests[index]) for index in stacks.upwards(requests)}
        states = [self._judge(index, kept[index], requests[index], stacks) for index in requests]
        states += [
            InterfaceState(request.name, request.mode, "missing", error="no such interface in this network namespace")
            for request in matches.missing
        ]
        self._publish(tuple(states))
        self.tallies.forget()

    def clean_up(self) -> None:
        """Take what the previous daemon has left off the interfaces that are not ours now, and free their counters."""
        for link in self._links.read():
            try:
                if self._attacher.clean(link):
                    self._log.info("left-behind program detached", interface=link.name)
            except CnfError as error:
                self._log.error("left-behind program stays", interface=link.name, error=str(error))
        self.tallies.unseat_others()

    def give_back(self) -> None:
        """Leave every interface as it was before the start: with the program that ours has replaced, or with none."""
        for index, link in tuple(self._owned.items()):
            try:
                there = self._attacher.put_back(link)
            except CnfError as error:
                there = False
                self._log.error("previous program not put back", interface=link.name, error=str(error))
            if there:
                self._log.info("previous program is back", interface=link.name)
            else:
                self._let_go(index)

    def detach_all(self) -> None:
        """Take the program off every interface that it was put on, or was about to be; log what refuses."""
        for index in tuple(self._owned):
            self._let_go(index)
        self.states = ()

    def _keep(self, link: Link, request: Interface) -> InterfaceState:
        state = InterfaceState(link.name, request.mode, "refused", ifindex=link.index)
        try:
            if why := unreadable(link):
                raise AttachError(f"interface {link.shown}: {why}")
            mode = self._attach(link, request)
        except CnfError as error:
            if link.index in self._owned:
                self._let_go(link.index)
            if str(error) not in self._said:
                self._log.error("interface refused", interface=link.name, error=str(error))
            return replace(state, error=str(error))
        refusal = self._modes.refusal(link.index)
        return replace(state, state="attached", mode=mode, program_id=self._attacher.program_id, error=refusal)

    def _judge(self, index: int, state: InterfaceState, request: Interface, stacks: Stacks) -> InterfaceState:
        """Add to ``state`` what only shows when every interface has been looked at."""
        repetition = stacks.repetition(index, self._owned) if index in self._owned else None
        if repetition is None:
            return state
        state = replace(state, warning=f"{repetition} ({leave_out(state.name, request.name)})")
        if state.warning not in self._said:
            self._log.warning("packets counted twice", interface=state.name, warning=state.warning)
        return state

    def _attach(self, link: Link, request: Interface) -> Mode:
        owned = self._owned.get(link.index)
        if owned is None or owned.name != link.name:
            self._seat(link)
        # Owned from before the kernel is asked, so that an interruption leaves nothing behind.
        self._owned[link.index] = link
        self._join_members(link)
        if link.program is not None and link.program.id == self._attacher.program_id:
            if owned is None:  # back from another namespace
                self._log.info("xdp is attached", interface=link.name, mode=link.program.mode)
            return self._modes.move(link, link.program.mode, request.mode)
        if owned is not None:
            self._log.warning(
                "program was taken off by somebody else, putting it back",
                interface=link.name,
                remedy="to keep it off, take the interface out of the configuration and reload",
            )
        return self._modes.put_on(link, request.mode)

    def _let_go(self, index: int, *, gone: bool = False, moved: bool = False) -> None:
        link = self._owned.pop(index)
        try:
            if moved:
                self._log.warning(
                    "interface moved to another network namespace, with the program on it",
                    interface=link.name,
                    effect=f"its packets are counted still, as of interface {UNASSIGNED_INTERFACE}",
                    remedy=f"there: ip link set dev {link.shown} xdpdrv off (or xdpgeneric)",
                )
            elif gone:
                self._log.info("interface gone", interface=link.name)
            elif self._attacher.detach(link):
                self._log.info("xdp detached", interface=link.name)
        except CnfError as error:
            self._log.error("detaching failed", interface=link.name, error=str(error))
        self._unseat(index, link.name)

    def _unseat(self, index: int, name: str) -> None:
        try:
            self.tallies.unseat(index)
        except CnfError as error:
            self._log.error("counters not freed", interface=name, error=str(error))

    def _join_members(self, bond: Link) -> None:
        """Count packets of a bond's members as the bond's: in native mode the members' drivers run the program."""
        for index in [member for member, its_bond in self._members.items() if its_bond == bond.index]:
            if self.tallies.members.get(index) == bond.index:
                continue
            try:
                self.tallies.join(index, bond.index)
            except CnfError as error:
                self._log.error("member not counted as its bond", interface=bond.name, error=str(error))
            else:
                self._log.info("member counts as its bond", interface=bond.name, member_ifindex=index)

    def _seat(self, link: Link) -> None:
        try:
            slot = self.tallies.seat(link.index, link.name)
        except AttachError as error:
            raise AttachError(f"interface {link.shown}: {error}") from error
        if self.seating:
            self.seating.seat(link.name, slot)

    def _publish(self, states: tuple[InterfaceState, ...]) -> None:
        for state in states:
            if state.state == "missing" and state not in self.states:
                self._log.warning("interface missing, waiting for it", interface=state.name)
        self.states = states
