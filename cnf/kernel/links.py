"""The interfaces of this network namespace, and a descriptor that becomes readable when they change."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyroute2 import IPRoute, NetlinkError

from cnf.errors import KernelError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

# linux/rtnetlink.h, linux/if_arp.h
RTMGRP_LINK: Final = 1
ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772


@dataclass(frozen=True, slots=True)
class Link:
    """One interface as netlink shows it."""

    index: int
    name: str
    hardware: int
    mtu: int

    @property
    def shown(self) -> str:
        """Return the name fit for a message: the kernel allows quotes, control characters and any byte in it."""
        return self.name.encode("unicode_escape").decode() if not self.name.isprintable() else self.name

    @property
    def is_ethernet(self) -> bool:
        """Tell whether its frames start with an Ethernet header."""
        return self.hardware in (ARPHRD_ETHER, ARPHRD_LOOPBACK)


class Links:
    """List the interfaces, and wait for a change.

    The socket only tells *that* something changed; what, is read afresh. So a lost notification (ENOBUFS) is
    itself a notification, and nothing has to be pieced together.
    """

    def __init__(self) -> None:
        """Subscribe to changes from now on."""
        self._netlink = IPRoute(ext_ack=True)
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._events.bind((0, RTMGRP_LINK))

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
        """Tell whether anything has changed since the last call."""
        changed = False
        while True:
            try:
                self._events.recv(1 << 16)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            changed = True

    def read(self) -> tuple[Link, ...]:
        """Return every interface of the namespace."""
        try:
            messages = self._netlink.get_links()
        except NetlinkError as error:
            raise KernelError(f"listing the interfaces failed: {os.strerror(error.code)}") from error
        return tuple(
            Link(
                index=int(message["index"]),
                name=_decode(message.get_attr("IFLA_IFNAME")),
                hardware=int(message["ifi_type"]),
                mtu=int(message.get_attr("IFLA_MTU") or 0),
            )
            for message in messages
        )


def _decode(name: str | bytes) -> str:
    # pyroute2 hands over the bytes when they are not UTF-8
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else name
