"""The qdisc clsact, and our program as a filter of it: for kernels before 6.6, which have no TCX.

A filter's handle and name are whatever its owner likes. Ours has a handle of its own, and its name tells the next
daemon whether the qdisc is cnfd's, too.
"""

from __future__ import annotations

import errno
import itertools
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from pyroute2 import NetlinkError

from cnf.kernel import rtnetlink
from cnf.kernel.changing import Changer
from cnf.kernel.rtnetlink import TrafficControl, attributes, number

if TYPE_CHECKING:
    from cnf.direction import Direction

# linux/pkt_sched.h, linux/rtnetlink.h, linux/pkt_cls.h
TC_H_CLSACT: Final = 0xFFFFFFF1
PARENTS: Final[dict[Direction, int]] = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
TCA_KIND: Final = 1
TCA_OPTIONS: Final = 2
TCA_BPF_NAME: Final = 7
TCA_BPF_ID: Final = 11

HANDLE: Final = int.from_bytes(b"cnf")
ETH_P_ALL: Final = socket.htons(0x0003)  # linux/if_ether.h
WITH_QDISC: Final = " and its clsact"
"""The end of the filter's name where the qdisc was made for it."""


class Filter(NamedTuple):
    """A filter, of any kind."""

    priority: int
    protocol: int
    """The protocol of its packets, in network byte order."""
    handle: int
    kind: str
    name: str = ""
    program: int = 0
    """The id of its program; 0 for another kind of filter."""

    @property
    def is_ours(self) -> bool:
        """Tell whether its place is the one that cnfd takes."""
        return self.kind == "bpf" and self.handle == HANDLE


def filters(ifindex: int, direction: Direction) -> list[Filter]:
    """Return the filters of an interface, in the order in which they run. Raises OSError."""
    return [_filter(each) for each in rtnetlink.filters(ifindex, PARENTS[direction]) if each.handle]


def ours(ifindex: int, direction: Direction) -> Filter | None:
    """Return the filter that stands where cnfd's does. Raises OSError."""
    return next((each for each in filters(ifindex, direction) if each.is_ours), None)


class Clsact:
    """Filters of one direction, and the qdisc that they are in.

    Every change raises NetlinkError where the kernel refuses, and OSError where it gives no answer.
    """

    def __init__(self, direction: Direction) -> None:
        """Change nothing yet."""
        self._direction = direction
        self._opened: Changer | None = None

    def close(self) -> None:
        """Close the netlink socket; filters stay."""
        if self._opened:
            self._opened.close()

    def add(self, ifindex: int, program: int, name: str) -> None:
        """Put a program on an interface, before all others where that can be; make the qdisc if there is none."""
        kind = _qdisc(ifindex)
        if kind not in ("clsact", ""):
            raise NetlinkError(errno.EEXIST, f"the qdisc {kind} is there, which has no egress")
        siblings = [filter_ for each in PARENTS if (filter_ := ours(ifindex, each))]
        made = not kind or any(each.name.endswith(WITH_QDISC) for each in siblings)
        if not kind:
            self._changer.change(lambda netlink: netlink.tc("add", "clsact", ifindex))
        place = _first_priority(filters(ifindex, self._direction))
        try:
            self._put("add-filter", ifindex, place, program, name + WITH_QDISC if made else name)
        except (OSError, NetlinkError):
            if not kind:
                self._remove_qdisc(ifindex)
            raise

    def replace(self, ifindex: int, program: int, name: str) -> None:
        """Put a program in the place of the one that is there, in one step."""
        there = ours(ifindex, self._direction)
        if there is None:
            raise NetlinkError(errno.ENOENT, "the filter has gone")
        made = there.name.endswith(WITH_QDISC)
        self._put("replace-filter", ifindex, there.priority, program, name + WITH_QDISC if made else name)

    def remove(self, ifindex: int) -> None:
        """Take the program off; and the qdisc, if it is cnfd's and nothing else is in it."""
        there = ours(ifindex, self._direction)
        if there is None:
            return
        parent = PARENTS[self._direction]
        self._changer.change(
            lambda netlink: netlink.tc("del-filter", "bpf", ifindex, HANDLE, parent=parent, prio=there.priority)
        )
        if there.name.endswith(WITH_QDISC):
            self._remove_qdisc(ifindex)

    def _put(self, command: str, ifindex: int, priority: int, program: int, name: str) -> None:
        how = {"parent": PARENTS[self._direction], "direct_action": True, "prio": priority}
        self._changer.change(lambda netlink: netlink.tc(command, "bpf", ifindex, HANDLE, fd=program, name=name, **how))

    def _remove_qdisc(self, ifindex: int) -> None:
        """Take the qdisc off unless a filter is in it."""
        if not any(rtnetlink.filters(ifindex, parent) for parent in PARENTS.values()):
            self._changer.change(lambda netlink: netlink.tc("del", "clsact", ifindex))

    @property
    def _changer(self) -> Changer:
        """The netlink socket for changes; kernels with TCX need none."""
        if self._opened is None:
            self._opened = Changer()
        return self._opened


def _first_priority(there: list[Filter]) -> int:
    """Return the first priority to be had: filters of one priority are of one kind and for one protocol.

    Among these, the latest runs first (cls_bpf_change() of net/sched/cls_bpf.c).
    """
    taken = {each.priority for each in there if (each.kind, each.protocol) != ("bpf", ETH_P_ALL)}
    return next(priority for priority in itertools.count(1) if priority not in taken)


def _qdisc(ifindex: int) -> str:
    """Return the kind of qdisc that is where clsact would be: clsact, ingress, or nothing."""
    there = (each for each in rtnetlink.qdiscs(ifindex) if each.parent == TC_H_CLSACT)
    return next((_text(each.attributes[TCA_KIND]) for each in there), "")


def _filter(message: TrafficControl) -> Filter:
    kind = _text(message.attributes.get(TCA_KIND, b""))
    options = dict(attributes(message.attributes.get(TCA_OPTIONS, b""))) if kind == "bpf" else {}
    return Filter(
        priority=message.info >> 16,
        protocol=message.info & 0xFFFF,
        handle=message.handle,
        kind=kind,
        name=_text(options.get(TCA_BPF_NAME, b"")),
        program=number(options.get(TCA_BPF_ID)),
    )


def _text(content: bytes) -> str:
    return content.split(b"\0")[0].decode(errors="backslashreplace")
