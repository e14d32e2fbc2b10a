"""The socket at an end of a connection: questions to sock_diag(7), answered by the lookup that packets go through.

pyroute2 lists all sockets, which takes the longer the more there are. A question takes some 10 us among any number.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from types import TracebackType
from typing import Final, NamedTuple, Self

from cnf.abi import TCP, UDP
from cnf.errors import UnavailableError
from cnf.kernel.rtnetlink import BUFFER, ERROR, HEADER, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_ERROR, TIMEOUT, attributes

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
INET_DIAG_CGROUP_ID: Final = 21
INET_DIAG_NOCOOKIE: Final = (1 << 64) - 1

REQUEST: Final = struct.Struct("=BBBxI")
"""struct inet_diag_req_v2, up to ``id``: family, protocol, extensions, states."""
IDENTITY: Final = struct.Struct("!HH16s16s")
"""struct inet_diag_sockid, up to ``idiag_if``: ports and addresses of the source and of the destination."""
REST: Final = struct.Struct("=IQ")
"""Its rest: the interface, and a cookie."""
REPLY: Final = struct.Struct("=BBBB48xIIIII")
"""struct inet_diag_msg: family, state, timer, retransmissions; expiry, two queues, uid, inode."""
CGROUP_ID: Final = struct.Struct("=Q")

PROTOCOLS: Final = {TCP: "tcp", UDP: "udp"}
"""Those whose sockets can be asked for. To ask for SCTP's would load that into a kernel that does not use it."""


class End(NamedTuple):
    """An address and a port."""

    address: str
    port: int


class Owner(NamedTuple):
    """Who has a socket: a user, and a cgroup by its ID."""

    uid: int
    cgroup: int


class Sockets:
    """A socket of sock_diag's, to be used by one thread, within ``with``."""

    def __init__(self) -> None:
        """Ask nothing yet.

        Raises:
            UnavailableError: the kernel, or what confines this process, has no sock_diag.

        """
        try:
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        except OSError as error:
            raise _unavailable("sockets", error) from error
        self._netlink.settimeout(TIMEOUT)
        self._answers: set[int] = set()
        """The protocols that the kernel is known to answer for."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._netlink.close()

    def find(self, protocol: int, local: End, remote: End, ifindex: int) -> Owner | None:
        """Return who owns the socket that gets what ``remote`` sends to ``local`` on an interface; None if none does.

        A connection that is not accepted yet, or was closed, is the listener's.

        Raises:
            UnavailableError: the kernel cannot tell.

        """
        owner = self._ask(protocol, local, remote, ifindex)
        if owner is None and protocol == TCP:
            return self._ask(protocol, local, End(remote.address, 0), ifindex)
        return owner

    def _ask(self, protocol: int, local: End, remote: End, ifindex: int) -> Owner | None:
        """Return the owner that one answer names."""
        ends = (
            (local, remote) if protocol == TCP else (remote, local)
        )  # UDP: "swapped for historical reasons" (udp_diag)
        try:
            answer = self._request(protocol, NLM_F_REQUEST, *ends, ifindex)
        except FileNotFoundError:
            self._check(protocol, *ends)
            return None
        except OSError as error:
            raise _unavailable(PROTOCOLS[protocol], error) from error
        self._answers.add(protocol)
        uid = REPLY.unpack_from(answer)[7]
        cgroup = dict(attributes(answer[REPLY.size :])).get(INET_DIAG_CGROUP_ID)
        return Owner(uid, *CGROUP_ID.unpack(cgroup)) if cgroup else None

    def _check(self, protocol: int, source: End, destination: End) -> None:
        """Tell a kernel that has no such socket from one that cannot say: it has the same word for both."""
        if protocol not in self._answers:
            try:
                self._request(protocol, NLM_F_REQUEST | NLM_F_DUMP, source, destination, 0, states=0)
            except OSError as error:
                raise _unavailable(PROTOCOLS[protocol], error) from error
            self._answers.add(protocol)

    def _request(  # noqa: PLR0913, PLR0917 - what the kernel is asked
        self, protocol: int, flags: int, source: End, destination: End, ifindex: int, states: int = 0xFFFFFFFF
    ) -> bytes:
        """Return the first message of the answer. Raises OSError."""
        family = socket.AF_INET6 if ":" in source.address else socket.AF_INET
        addresses = (socket.inet_pton(family, end.address) for end in (source, destination))
        body = REQUEST.pack(family, protocol, 0, states)
        body += IDENTITY.pack(source.port, destination.port, *addresses) + REST.pack(ifindex, INET_DIAG_NOCOOKIE)
        self._netlink.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body)
        answer = self._netlink.recv(BUFFER)
        length, kind, *_ = HEADER.unpack_from(answer)
        content = answer[HEADER.size : length]
        if kind == NLMSG_ERROR:
            (code,) = ERROR.unpack_from(content)
            raise OSError(-code, os.strerror(-code))
        return content


def _unavailable(what: str, error: OSError) -> UnavailableError:
    missing = error.errno == errno.ENOENT
    remedy = f"modprobe {what}_diag" if missing else "does a sandbox forbid AF_NETLINK?"
    reason = "the kernel has no sock_diag for it" if missing else error.strerror
    return UnavailableError(f"owners of {what}: {reason}", remedy=remedy)
