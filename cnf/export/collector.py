"""The way to a collector: its name, its address, and a UDP socket that learns of ICMP errors."""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final, Literal

from cnf.errors import CnfError
from cnf.export.selection import Path

Reason = Literal["name", "refused", "unreachable", "not_permitted", "too_large", "other"]
REASONS: Final[tuple[Reason, ...]] = ("name", "refused", "unreachable", "not_permitted", "too_large", "other")
"""The label ``reason`` of ``cnf_export_errors_total``."""
BY_ERRNO: Final[Mapping[int | None, Reason]] = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EPERM: "not_permitted",
    errno.EACCES: "not_permitted",
    errno.EMSGSIZE: "too_large",
}
REMEDIES: Final[Mapping[Reason, str]] = {
    "name": "correct the name; for a name server elsewhere: systemctl edit cnfd: [Service] IPAddressAllow=ITS_ADDRESS",
    "refused": "start the collector, or correct the port",
    "unreachable": "ip route get {address}; else a firewall on the way refuses it",
    "not_permitted": "systemctl edit cnfd: [Service] IPAddressAllow={address}; else see the firewall of this node",
    "too_large": "mtu = {mtu}",
    "other": "",
}
# linux/in.h and in6.h; Python's socket module does not name them.
_IP_MTU_DISCOVER: Final = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
_IP_MTU: Final = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
_DONT_FRAGMENT: Final = 2
"""IP_PMTUDISC_DO."""
HEADERS: Final = {socket.AF_INET: 20 + 8, socket.AF_INET6: 40 + 8}
"""Bytes of an IP header and one of UDP."""
MOST_PATHS: Final = 8
PATIENCE: Final = 1.0
"""Seconds that a message waits for room in the socket."""


class SendError(CnfError):
    """Report that a message, or any at all, cannot be sent."""

    def __init__(self, reason: Reason, message: str, remedy: str = "") -> None:
        """Keep ``reason``, for the counter."""
        self.reason = reason
        super().__init__(message, remedy=remedy)


class Collector:
    """A UDP socket, connected to a collector."""

    def __init__(self, name: str) -> None:
        """Open nothing yet; ``name`` is HOST:PORT as configured."""
        self.name = name
        host, _, port = name.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._socket: socket.socket | None = None
        self._address: Any = None
        self.paths: tuple[Path, ...] = ()
        """The latest ways of the packets, which a flow may still be of; the last one is in use. Replaced whole."""

    @property
    def is_numeric(self) -> bool:
        """Tell whether no name server is to be asked."""
        try:
            ip_address(self._host)
        except ValueError:
            return False
        return True

    @property
    def path(self) -> Path | None:
        """Return the way of the packets; None before there is a socket."""
        return self.paths[-1] if self.paths else None

    def connect(self, *, anew: bool = False) -> None:
        """Look up the name, and have a socket to its address: the one that is there, if it still fits and not ``anew``.

        A new socket takes the source address and the path's MTU of the routes as they are now.

        Raises:
            SendError: no name, no route, or refused; the socket stays as it was.

        """
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise SendError("name", f"{self.name}: {error.strerror or error}", REMEDIES["name"]) from None
        if self._socket and not anew and self._address in [address for *_, address in found]:
            return
        failure = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        for family, kind, protocol, _, address in found:
            opened = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
            try:
                opened.setsockopt(*_IP_MTU_DISCOVER[family], _DONT_FRAGMENT)
                opened.connect(address)
            except OSError as error:
                opened.close()
                failure = error
                continue
            self.close()
            self._socket, self._address = opened, address
            source, destination = (_address(each[0]) for each in (opened.getsockname(), opened.getpeername()))
            path = Path(source, destination, self._port)
            self.paths = (*(each for each in self.paths if each != path), path)[-MOST_PATHS:]
            return
        raise self._error(failure, str(found[0][4][0]))

    def room(self, mtu: int) -> int:
        """Return the bytes that a message may have: with its headers, no more than ``mtu`` and what the path takes."""
        family = self._there.family
        return min(mtu, self._there.getsockopt(*_IP_MTU[family])) - HEADERS[family]

    def send(self, message: bytes) -> None:
        """Send a message. Raises SendError; it may also be about a message before, that a host has refused."""
        there = self._there
        try:
            try:
                there.send(message)
            except BlockingIOError:
                poll = select.poll()
                poll.register(there, select.POLLOUT)
                poll.poll(PATIENCE * 1000)
                there.send(message)
        except OSError as error:
            raise self._error(error, self._address[0]) from None

    def check(self) -> None:
        """Raise SendError if a message was refused since the latest one was sent."""
        number = self._there.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise self._error(OSError(number, os.strerror(number)), self._address[0])

    def close(self) -> None:
        """Close the socket."""
        if self._socket:
            self._socket.close()
            self._socket = None

    @property
    def _there(self) -> socket.socket:
        if self._socket is None:
            raise SendError("other", f"{self.name}: not connected")
        return self._socket

    def _error(self, error: OSError, address: str) -> SendError:
        reason = BY_ERRNO.get(error.errno, "other")
        mtu = self._socket.getsockopt(*_IP_MTU[self._socket.family]) if self._socket and reason == "too_large" else 0
        return SendError(
            reason, f"{self.name}: {error.strerror or error}", REMEDIES[reason].format(address=address, mtu=mtu)
        )


def _address(text: str) -> Any:  # noqa: ANN401 - ipaddress has no common type
    return ip_address(text.partition("%")[0])
