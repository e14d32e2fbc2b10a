"""The interfaces of this network namespace, and a descriptor that becomes readable when they change."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from pyroute2 import IPRoute, NetlinkError
from pyroute2.netlink import nlmsg

from cnf.errors import KernelError
from cnf.kernel.refusal import reported

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Mode = Literal["native", "generic", "offloaded"]
"""Who runs a program: the driver, the network stack, or the NIC itself."""

# linux/rtnetlink.h, linux/if_arp.h, linux/if_link.h
RTMGRP_LINK: Final = 1
RTM_DELLINK: Final = 17
ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772
IFLA_NEW_NETNSID: Final = 45
HSR_SLAVES: Final = (1, 2)
MESSAGE: Final = struct.Struct("=IHHII4xi8x")
"""struct nlmsghdr and struct ifinfomsg: length, type, flags, sequence, sender, ifindex."""
ATTRIBUTE: Final = struct.Struct("=HH")
# pyroute2's words for IFLA_XDP_ATTACHED
ATTACHED_AS: Final[dict[str, Mode]] = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded"}


class Program(NamedTuple):
    """An XDP program on an interface."""

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
    """What made it, in the kernel's word: veth, bond, bridge, vlan, ...; empty for a NIC."""
    master: int | None = None
    """ifindex of the bond or bridge that it is a member of."""
    lower: int | None = None
    """ifindex of what it stands on or is paired with, if that is in this namespace."""
    program: Program | None = None
    altnames: tuple[str, ...] = ()
    """Names that it has besides."""
    ring: tuple[int, ...] = ()
    """ifindexes of the two that an HSR or PRP interface stands on; they have no master."""

    @property
    def shown(self) -> str:
        """Return the name fit for a message: the kernel allows quotes, control characters and any byte in it."""
        return self.name.encode("unicode_escape").decode() if not self.name.isprintable() else self.name

    @property
    def is_ethernet(self) -> bool:
        """Tell whether its frames start with an Ethernet header."""
        return self.hardware in (ARPHRD_ETHER, ARPHRD_LOOPBACK)

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
        with reported("subscribing to the interfaces' changes"), ExitStack() as undo:
            self._netlink = undo.enter_context(IPRoute(ext_ack=True))
            self._events = undo.enter_context(socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE))
            self._events.bind((0, RTMGRP_LINK))
            undo.pop_all()
        self._moved: set[int] = set()
        self.lost = 0
        """How often notifications came faster than they were read, so that the kernel threw some away."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close both sockets."""
        self._events.close()
        self._netlink.close()

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
        try:
            with reported("listing the interfaces"):
                messages = self._netlink.get_links()
        except NetlinkError as error:
            raise KernelError(f"listing the interfaces failed: {os.strerror(error.code)}") from error
        return tuple(map(_link, messages))


def program_on(message: nlmsg) -> Program | None:
    """Return the program that ``message`` about an interface shows."""
    xdp = message.get_attr("IFLA_XDP")
    mode = ATTACHED_AS.get(xdp.get_attr("IFLA_XDP_ATTACHED") or "") if xdp else None
    return Program(mode, int(xdp.get_attr("IFLA_XDP_PROG_ID"))) if mode else None


def _link(message: nlmsg) -> Link:
    info, names = message.get_attr("IFLA_LINKINFO"), message.get_attr("IFLA_PROP_LIST")
    # An index of another namespace (IFLA_LINK_NETNSID is there) may be that of a stranger here.
    here = message.get_attr("IFLA_LINK_NETNSID") is None
    return Link(
        index=int(message["index"]),
        name=_decode(message.get_attr("IFLA_IFNAME")),
        hardware=int(message["ifi_type"]),
        mtu=int(message.get_attr("IFLA_MTU") or 0),
        kind=(info.get_attr("IFLA_INFO_KIND") if info else None) or "",
        master=message.get_attr("IFLA_MASTER") or None,
        lower=(message.get_attr("IFLA_LINK") or None) if here else None,
        program=program_on(message),
        ring=_ring(info.get_attr("IFLA_INFO_DATA")) if info and info.get_attr("IFLA_INFO_KIND") == "hsr" else (),
        altnames=tuple(map(_decode, names.get_attrs("IFLA_ALT_IFNAME"))) if names else (),
    )


def _decode(name: str | bytes) -> str:
    # pyroute2 hands over the bytes when they are not UTF-8
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else name


def _ring(data: str) -> tuple[int, ...]:
    """Return IFLA_HSR_SLAVE1 and IFLA_HSR_SLAVE2 of what pyroute2, which does not know them, hands over in hex."""
    attributes = dict(_attributes(bytes.fromhex(data.replace(":", "")), 0))
    slaves = (attributes.get(number, b"") for number in HSR_SLAVES)
    return tuple(int.from_bytes(slave, sys.byteorder) for slave in slaves if slave)


def _moved(data: bytes) -> Iterator[int]:
    """Yield the interface that a notification says has left for another namespace; few do, so little is parsed."""
    length, kind, *_, ifindex = MESSAGE.unpack_from(data)
    if kind != RTM_DELLINK:
        return
    if any(attribute == IFLA_NEW_NETNSID for attribute, _ in _attributes(data[:length], MESSAGE.size)):
        yield ifindex


def _attributes(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes (struct nlattr) from ``at`` on: type and content."""
    while at + ATTRIBUTE.size <= len(data):
        size, attribute = ATTRIBUTE.unpack_from(data, at)
        yield attribute, data[at + ATTRIBUTE.size : at + size]
        at += max(size + 3 & ~3, ATTRIBUTE.size)
