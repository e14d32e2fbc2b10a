"""The interfaces of the configuration: which exist, which carry the program, and what each has counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from structlog.typing import FilteringBoundLogger

from cnf.abi import UNASSIGNED_INTERFACE
from cnf.config import Interface
from cnf.counts import Count
from cnf.datapath.counters import InterfaceCounters
from cnf.direction import DIRECTIONS, Direction
from cnf.errors import AttachError, CnfError
from cnf.interfaces.attachers import Attachers
from cnf.interfaces.coverage import Coverages, Reading, counted_of
from cnf.interfaces.matching import match
from cnf.interfaces.modes import Attachment, Modes
from cnf.interfaces.stacking import Stacks, leave_out
from cnf.interfaces.totals import Tallies
from cnf.kernel.attacher import Programs
from cnf.kernel.links import Link, Links, Mode
from cnf.process import systemd

PATIENCE_USEC: Final = 30_000_000
"""Microseconds for which systemd is to wait for the next interface."""


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """The state of one interface, or of a name or pattern that matches none."""

    name: str
    requested_mode: str
    state: Literal["attached", "missing", "refused"]
    ifindex: int | None = None
    mode: Mode | None = None
    """The mode of the first of its directions."""
    program_id: int | None = None
    """The program of the first of its directions."""
    error: str | None = None
    """Why it is not attached, or not in the mode that was asked for."""
    warning: str | None = None
    """Troubles that it has although it is attached."""
    directions: tuple[Attachment, ...] = ()
    """How each direction that is wanted is attached, or why it is not."""


class Seating(Protocol):
    """The limiter, which has to know the interfaces before packets come in."""

    def expect(self, names: Mapping[str, Collection[str]]) -> None:
        """Take note of which interfaces there are, each with its altnames."""

    def seat(self, name: str, slot: int) -> None:
        """Take note that ``name`` has the counter slot ``slot``."""


class Interfaces:
    """Keep the program on every interface that the configuration names, as they come and go.

    All of it but ``swap()`` belongs to the main thread; ``tallies`` says what others may call.
    """

    def __init__(
        self,
        wanted: Sequence[Interface],
        attachers: Attachers,
        links: Links,
        counters: InterfaceCounters,
        log: FilteringBoundLogger,
    ) -> None:
        """Start with the program on no interface."""
        self.wanted = tuple(wanted)
        self.tallies = Tallies(counters)
        self.states: tuple[InterfaceState, ...] = ()
        self.seating: Seating | None = None
        self._links = links
        self._log = log
        self._owned: dict[int, Link] = {}
        self._modes = {direction: Modes(direction, attachers[direction], log) for direction in DIRECTIONS}
        self._coverages = Coverages()
        self._members: Mapping[int, int] = {}
        """The bond whose packets a member's are, both by ifindex."""
        self._lost = 0
        self._said: set[str] = set()
        """Errors and warnings of the previous look: each is logged once, not at every look."""
        self._saying: set[str] = set()
        """Those of this look."""

    def reconcile(self) -> None:
        """Look at what is there, and attach and detach until it is what the configuration wants."""
        if self._links.lost != self._lost:
            self._lost = self._links.lost
            self._log.info("link notifications lost, everything read afresh", times=self._lost)
        moved = self._links.take_moved()
        present = {link.index: link for link in self._links.read()}
        self._compare(present)  # at once: both are read at nearly the same time
        matches = match(present.values(), self.wanted)
        requests = matches.requests
        for index in [index for index in self._owned if index not in requests]:
            self._let_go(index, gone=index not in present, moved=index in moved)
            for modes in self._modes.values():
                modes.forget(index)
        self.tallies.altnames = {index: present[index].altnames for index in requests}
        if self.seating:
            self.seating.expect({present[index].name: present[index].altnames for index in requests})
        stacks = Stacks(present.values())
        self._members = stacks.members(requests)
        for member in [member for member, bond in self.tallies.members.items() if self._members.get(member) != bond]:
            self.tallies.leave(member)
        self._said, self._saying = self._saying, set()
        kept = {index: self._keep(present[index], requests[index]) for index in stacks.upwards(requests)}
        counted = {direction: {*filter(modes.has, self._owned)} for direction, modes in self._modes.items()}
        states = [self._judge(index, kept[index], requests[index], stacks, counted) for index in requests]
        states += [
            InterfaceState(request.name, request.mode, "missing", error="no such interface in this network namespace")
            for request in matches.missing
        ]
        self._publish(tuple(states))
        self.tallies.forget()

    def _compare(self, present: Mapping[int, Link]) -> None:
        """Note the counters, and the drivers' statistics, of what has had the program since an earlier look."""
        counters = self.tallies.by_index()
        for direction, modes in self._modes.items():
            for index in self._owned:
                link = present.get(index)
                if link and direction in link.statistics and index in counters and modes.has(index):
                    counted = counted_of(counters[index])[direction]
                    self._coverages.observe(index, direction, Reading(counted, Count(*link.statistics[direction])))
                else:
                    self._coverages.forget(index, direction)

    def swap(self, programs: Programs) -> bool:
        """Have these programs in the place of others of ours that receive; any thread may call it.

        Return whether an interface had another one: ``states`` know of it after the next look.

        Raises:
            AttachError: the kernel refused; all interfaces have the programs before.

        """
        return self._modes["ingress"].swap(programs)

    def clean_up(self) -> None:
        """Take what the previous daemon has left off the interfaces that are not ours now, and free their counters."""
        for link in self._links.read():
            for modes in self._modes.values():
                try:
                    if modes.clean(link):
                        self._log.info("left-behind program detached", interface=link.name, direction=modes.direction)
                except CnfError as error:
                    self._log.error("left-behind program stays", interface=link.name, error=str(error))
        for modes in self._modes.values():
            try:
                modes.clean_others()
            except CnfError as error:
                self._log.error("left-behind programs stay", error=str(error))
        self.tallies.unseat_others()

    def give_back(self) -> None:
        """Leave every interface as it was before the start: with the program that ours has replaced, or with none."""
        for index, link in tuple(self._owned.items()):
            back = [self._put_back(link, modes) for modes in self._modes.values()]
            if not any(back):
                self._let_go(index)

    def detach_all(self) -> None:
        """Take the program off every interface that it was put on, or was about to be; log what refuses."""
        for modes in self._modes.values():  # ingress first: netlink waits for what the kernel has to finish at TCX
            for link in self._owned.values():
                self._drop(link, modes, wait=False)
        while self._owned:
            index, link = self._owned.popitem()
            self._unseat(index, link.name)
        self.states = ()

    def _keep(self, link: Link, request: Interface) -> InterfaceState:
        """Have the program on ``link`` in every direction that is wanted, but for a later one that is refused."""
        state = InterfaceState(link.name, request.mode, "refused", ifindex=link.index)
        first, *others = request.directions
        try:
            self._own(link)
            there = [self._modes[first].keep(link, request.mode)]
        except CnfError as error:
            if link.index in self._owned:
                self._let_go(link.index)
            if self._is_news(str(error)):
                self._log.error("interface refused", interface=link.name, error=str(error))
            return replace(state, error=str(error))
        there += [self._keep_if_possible(link, self._modes[direction], request) for direction in others]
        for direction in DIRECTIONS:
            if direction not in request.directions and self._modes[direction].has(link.index):
                self._drop(link, self._modes[direction])
        return replace(
            state,
            state="attached",
            mode=there[0].mode,
            program_id=there[0].program_id,
            error=self._modes[first].refusal(link.index),
            directions=tuple(
                replace(each, coverage=self._coverages.ratio(link.index, each.direction, virtual=bool(link.kind)))
                for each in there
            ),
        )

    def _keep_if_possible(self, link: Link, modes: Modes, request: Interface) -> Attachment:
        """Have one direction's program on ``link``; where that is refused, the others go on without it."""
        try:
            return modes.keep(link, request.mode)
        except CnfError as error:
            return Attachment(modes.direction, None, None, None, str(error))

    def _judge(
        self,
        index: int,
        state: InterfaceState,
        request: Interface,
        stacks: Stacks,
        counted: Mapping[Direction, Collection[int]],
    ) -> InterfaceState:
        """Add to ``state`` what only shows when every interface has been looked at.

        ``counted`` are the interfaces that have the program, by direction.
        """
        troubles = []
        for there in state.directions:
            repetition = stacks.repetition(index, counted[there.direction], there.direction)
            if there.mode is None:
                troubles.append(("direction missing", f"{there.direction} is not counted: {there.why}"))
            elif repetition:
                advice = leave_out(state.name, request.name)
                troubles.append(("packets counted twice", f"{repetition} ({advice})"))
            if there.before:
                troubles.append(("others see packets first", _behind(there)))
        for event, words in troubles:
            if self._is_news(f"{state.name}: {words}"):
                self._log.warning(event, interface=state.name, warning=words)
        return replace(state, warning="; ".join(words for _event, words in troubles) or None)

    def _own(self, link: Link) -> None:
        owned = self._owned.get(link.index)
        if owned is None:  # a link of TCX takes its time, and there may be a thousand
            systemd.notify(WATCHDOG=1, EXTEND_TIMEOUT_USEC=PATIENCE_USEC)
        if owned is None or owned.name != link.name:
            self._seat(link)
        # Owned from before the kernel is asked, so that an interruption leaves nothing behind.
        self._owned[link.index] = link
        self._join_members(link)

    def _let_go(self, index: int, *, gone: bool = False, moved: bool = False) -> None:
        link = self._owned.pop(index)
        there = [attachment for modes in self._modes.values() if (attachment := modes.has(index))]
        if moved and any(attachment.hook == "xdp" for attachment in there):
            self._log.warning(
                "interface moved to another network namespace, with the program on it",
                interface=link.name,
                effect=f"its packets are counted still, as of interface {UNASSIGNED_INTERFACE}",
                remedy=f"there: ip link set dev {link.shown} xdpdrv off (or xdpgeneric)",
            )
        elif moved:
            self._log.info("interface moved to another network namespace", interface=link.name)
        elif gone:
            self._log.info("interface gone", interface=link.name)
        for modes in self._modes.values():
            self._drop(link, modes, here=not gone)
        self._unseat(index, link.name)

    def _drop(self, link: Link, modes: Modes, *, here: bool = True, wait: bool = True) -> None:
        """Take one direction's program off ``link``; log what refuses."""
        try:
            if modes.let_go(link, wait=wait) and here:
                self._log.info("program detached", interface=link.name, direction=modes.direction)
        except CnfError as error:
            self._log.error("detaching failed", interface=link.name, direction=modes.direction, error=str(error))

    def _put_back(self, link: Link, modes: Modes) -> bool:
        """Put the program that ours has replaced back, or have none there; tell whether it is back."""
        try:
            if modes.put_back(link):
                self._log.info("previous program is back", interface=link.name, direction=modes.direction)
                return True
        except CnfError as error:
            self._log.error("previous program not put back", interface=link.name, error=str(error))
        self._drop(link, modes)
        return False

    def _is_news(self, words: str) -> bool:
        """Note what is wrong at this look; tell whether it was not at the previous one."""
        self._saying.add(words)
        return words not in self._said

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
            slot = self.tallies.seat(link.index, link.name, ethernet=link.is_ethernet)
        except AttachError as error:
            raise AttachError(f"interface {link.shown}: {error}") from error
        if self.seating:
            self.seating.seat(link.name, slot)

    def _publish(self, states: tuple[InterfaceState, ...]) -> None:
        for state in states:
            if state.state == "missing" and state not in self.states:
                self._log.warning("interface missing, waiting for it", interface=state.name)
        self.states = states


def _behind(there: Attachment) -> str:
    """Return the words for what stands before our program, and what to do about it."""
    place = f"{', '.join(there.before)} before cnfd's program at {there.direction}"
    advice = "a stop and a start of cnfd, no restart, put cnfd's first at TC"
    return f"{place}: what is dropped, redirected or ended there is not counted ({advice})"
