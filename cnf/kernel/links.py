"""The interfaces of this network namespace, and a descriptor that becomes readable when they change."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cnf.direction import Direction
from cnf.errors import KernelError
from cnf.kernel import rtnetlink
from cnf.kernel.refusal import reported
from cnf.kernel.rtnetlink import Message, attributes, number

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Mode = Literal["native", "generic", "offloaded", "tc"]
"""The place where a program runs: XDP's in the driver, in the network stack, or in the NIC itself; or TC's."""

# linux/rtnetlink.h, linux/if_arp.h
RTMGRP_LINK: Final = 1
ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772
BARE_IP: Final = {65534: "NONE", 512: "PPP", 519: "RAWIP", 768: "TUNNEL", 769: "TUNNEL6", 776: "SIT"}
"""ARP types of interfaces whose packets are IP, with no header before it where TC sees them: tun, WireGuard, ..."""
# linux/if_link.h
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_MASTER: Final = 10
IFLA_LINKINFO: Final = 18
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_STATS64: Final = 23
IFLA_LINK_NETNSID: Final = 37
IFLA_XDP: Final = 43
IFLA_XDP_ATTACHED: Final = 2
IFLA_XDP_PROG_ID: Final = 4
IFLA_NEW_NETNSID: Final = 45
IFLA_PROP_LIST: Final = 52
IFLA_ALT_IFNAME: Final = 53
HSR_SLAVES: Final = (1, 2)
STATISTICS: Final = struct.Struct("=QQQQ")
"""The first fields of struct rtnl_link_stats64: packets received and sent, bytes received and sent."""
ATTACHED_AS: Final[dict[int, Mode]] = {1: "native", 2: "generic", 3: "offloaded"}
"""The mode by the kernel's number: XDP_ATTACHED_DRV, XDP_ATTACHED_SKB, XDP_ATTACHED_HW."""


class Program(NamedTuple):
    """A program on an interface."""

    mode: Mode
    id: int


@dataclass(frozen=True, slots=True)
class Link:
    """One interface as netlink shows it."""

    index: int
    name: str
    hardware: int
    mtu: int
    kind: str = ""
    """The kind of interface in the kernel's word: veth, bond, bridge, vlan, ...; empty for a NIC."""
    master: int | None = None
    """ifindex of the bond or bridge that it is a member of."""
    lower: int | None = None
    """ifindex of the interface that it stands on or is paired with, if that is in this namespace."""
    program: Program | None = None
    altnames: tuple[str, ...] = ()
    """The interface's other names."""
    ring: tuple[int, ...] = ()
    """ifindexes of the two interfaces that an HSR or PRP interface stands on; they have no master."""
    statistics: Mapping[Direction, tuple[int, int]] = field(default_factory=dict, compare=False)
    """Packets and bytes that the driver has counted, by direction; empty where it does not tell."""

    @property
    def shown(self) -> str:
        """Return the name as a message can show it: the kernel allows quotes, control characters and any byte in it."""
        return self.name.encode("unicode_escape").decode() if not self.name.isprintable() else self.name

    @property
    def is_ethernet(self) -> bool:
        """Tell whether its frames start with an Ethernet header."""
        return self.hardware in (ARPHRD_ETHER, ARPHRD_LOOPBACK)

    @property
    def is_ip(self) -> bool:
        """Tell whether its packets start with an IP header."""
        return self.hardware in BARE_IP

    def is_meant_by(self, wanted: str) -> bool:
        """Tell whether a name or shell pattern of the configuration means it; no pattern means the loopback one."""
        # A name that is not UTF-8: the command line has it with surrogates, a Link with backslashes.
        name = wanted.encode(errors="surrogateescape").decode(errors="backslashreplace")
        if name == self.name or name in self.altnames:
            return True
        return self.hardware != ARPHRD_LOOPBACK and fnmatchcase(self.name, name)


class Links:
    """List the interfaces, and wait for a change.

    The socket only tells *that* something changed; what, is read afresh. So a lost notification (ENOBUFS) is
    itself a notification, and nothing has to be pieced together. The one thing that cannot be read afresh is where
    an interface has gone.
    """

    def __init__(self) -> None:
        """Subscribe to changes from now on. Raises KernelError."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        with reported("subscribing to the interfaces' changes"):
            self._events = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
            self._events.bind((0, RTMGRP_LINK))
        self._moved: set[int] = set()
        self.lost = 0
        """The number of times that the kernel threw notifications away, since they came faster than they were read."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self._events.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable after a change."""
        return self._events.fileno()

    def changed(self) -> bool:
        """Tell whether anything has changed since the last call. Raises KernelError."""
        changed = False
        while True:
            try:
                self._moved.update(_moved(self._events.recv(1 << 16)))
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError(f"reading the interfaces' changes failed: {error.strerror}") from error
                self.lost += 1
            changed = True

    def take_moved(self) -> set[int]:
        """Return the interfaces that were seen to leave for another namespace since the last call."""
        moved, self._moved = self._moved, set()
        return moved

    def read(self) -> tuple[Link, ...]:
        """Return every interface of the namespace. Raises KernelError."""
        with reported("listing the interfaces"):
            return tuple(map(_link, rtnetlink.ask()))


def program_of(message: Message) -> Program | None:
    """Return the program that ``message`` about an interface shows."""
    xdp = dict(attributes(message.attributes.get(IFLA_XDP, b"")))
    mode = ATTACHED_AS.get(number(xdp.get(IFLA_XDP_ATTACHED)))
    return Program(mode, number(xdp.get(IFLA_XDP_PROG_ID))) if mode else None


def _link(message: Message) -> Link:
    """Return the interface that ``message`` is about."""
    said = message.attributes
    info = dict(attributes(said.get(IFLA_LINKINFO, b"")))
    kind = _text(info.get(IFLA_INFO_KIND, b""))
    slaves = dict(attributes(info.get(IFLA_INFO_DATA, b""))) if kind == "hsr" else {}
    # An index of another namespace (IFLA_LINK_NETNSID is there) may be that of a stranger here.
    here = IFLA_LINK_NETNSID not in said
    return Link(
        index=message.ifindex,
        name=_text(said[IFLA_IFNAME]),
        hardware=message.hardware,
        mtu=number(said.get(IFLA_MTU)),
        kind=kind,
        master=number(said.get(IFLA_MASTER)) or None,
        lower=(number(said.get(IFLA_LINK)) or None) if here else None,
        program=program_of(message),
        ring=tuple(number(slaves[slave]) for slave in HSR_SLAVES if slaves.get(slave)),
        statistics=_statistics(said.get(IFLA_STATS64, b"")),
        altnames=tuple(
            _text(name)
            for kind_of_name, name in attributes(said.get(IFLA_PROP_LIST, b""))
            if kind_of_name == IFLA_ALT_IFNAME
        ),
    )


def _statistics(content: bytes) -> dict[Direction, tuple[int, int]]:
    if len(content) < STATISTICS.size:
        return {}
    received, sent, received_bytes, sent_bytes = STATISTICS.unpack_from(content)
    return {"ingress": (received, received_bytes), "egress": (sent, sent_bytes)}


def _text(content: bytes) -> str:
    return content.split(b"\0")[0].decode(errors="backslashreplace")


def _moved(data: bytes) -> set[int]:
    """Return the interfaces that notifications say have left for another namespace."""
    return {
        message.ifindex
        for message in rtnetlink.messages(data, rtnetlink.RTM_DELLINK)
        if IFLA_NEW_NETNSID in message.attributes
    }
