"""Questions about interfaces, what hangs on them, and addresses to rtnetlink(7), and its answers taken apart.

pyroute2 would take a second for two thousand interfaces, fifty times as long as this.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h
NLM_F_REQUEST: Final = 0x1
NLM_F_DUMP: Final = 0x300
NLM_F_DUMP_INTR: Final = 0x10
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_GETROUTE: Final = 26
RTM_GETQDISC: Final = 38
RTM_GETTFILTER: Final = 46
RTA_DST: Final = 1
RTN_LOCAL: Final = 2
RTN_MULTICAST: Final = 5
IFLA_EXT_MASK: Final = 29
RTEXT_FILTER_SKIP_STATS: Final = 1 << 3
TYPE: Final = 0x3FFF
"""Of an attribute, without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, sender."""
INTERFACE: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, ARP type, ifindex, flags, changed flags."""
TRAFFIC_CONTROL: Final = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, ifindex, handle, parent, of a filter its priority and protocol."""
ROUTE: Final = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, bits of destination and source, TOS, table, protocol, scope, type, flags."""
ATTRIBUTE: Final = struct.Struct("=HH")
"""struct nlattr: length, type."""
ERROR: Final = struct.Struct("=i")

BUFFER: Final = 1 << 16
TIMEOUT: Final = 10.0
"""Seconds for a piece of an answer; the kernel takes milliseconds."""
TRIES: Final = 10
"""Of a list during which interfaces came or went, so that one that stays may be missing."""


class TrafficControl(NamedTuple):
    """A qdisc or a filter, as one message describes it."""

    ifindex: int
    handle: int
    parent: int
    info: int
    """Of a filter: its priority in the upper 16 bits, its protocol in network byte order in the lower ones."""
    attributes: dict[int, bytes]


class Message(NamedTuple):
    """An interface, as one message describes it."""

    ifindex: int
    hardware: int
    """ARP type."""
    attributes: dict[int, bytes]
    """By number; of one that comes several times, the last."""


def ask(ifindex: int = 0) -> list[Message]:
    """Return what the kernel says of one interface, or of all, of these with their statistics.

    Raises:
        OSError: it refused, or did not answer in time.

    """
    body = INTERFACE.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0)
    left_out = RTEXT_FILTER_SKIP_STATS if ifindex else 0
    body += ATTRIBUTE.pack(ATTRIBUTE.size + 4, IFLA_EXT_MASK) + struct.pack("=I", left_out)
    return [_message(content) for content in _answer(RTM_GETLINK, body, whole=not ifindex)]


def qdiscs(ifindex: int) -> list[TrafficControl]:
    """Return the qdiscs of an interface, without those in classes. Raises OSError as ``ask()`` does."""
    found = _traffic_control(RTM_GETQDISC, TRAFFIC_CONTROL.pack(socket.AF_UNSPEC, ifindex, 0, 0, 0))
    return [qdisc for qdisc in found if qdisc.ifindex == ifindex]  # the kernel lists those of all interfaces


def filters(ifindex: int, parent: int) -> list[TrafficControl]:
    """Return the filters of an interface below ``parent``, in the order in which they run. Raises OSError."""
    return _traffic_control(RTM_GETTFILTER, TRAFFIC_CONTROL.pack(socket.AF_UNSPEC, ifindex, 0, parent, 0))


def is_local(address: str) -> bool:
    """Tell whether packets to ``address`` are delivered on this node, also as broadcast, anycast or multicast.

    Raises:
        OSError: the kernel did not answer in time.

    """
    if ip_address(address).is_multicast:
        return True  # there may be no route
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    body = ROUTE.pack(family, 8 * len(packed), 0, 0, 0, 0, 0, 0, 0)
    body += ATTRIBUTE.pack(ATTRIBUTE.size + len(packed), RTA_DST) + packed
    try:
        (content,) = _answer(RTM_GETROUTE, body, whole=False)
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
            return False  # no route, or one that refuses
        raise
    kind: int = ROUTE.unpack_from(content)[7]
    return RTN_LOCAL <= kind <= RTN_MULTICAST


def messages(data: bytes, wanted: int) -> Iterator[Message]:
    """Yield the messages of one type about interfaces, of what a socket has received."""
    for kind, _, body in _split(data):
        if kind == wanted:
            yield _message(body)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each attribute's number and content."""
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, number = ATTRIBUTE.unpack_from(data, at)
        yield number & TYPE, data[at + ATTRIBUTE.size : at + length]
        at += max(_aligned(length), ATTRIBUTE.size)


def number(content: bytes | None) -> int:
    """Return an attribute's number in the machine's byte order; 0 without one."""
    return int.from_bytes(content or b"", sys.byteorder)


def _answer(kind: int, body: bytes, *, whole: bool = True) -> list[bytes]:
    """Return the answer to one question: a ``whole`` list, or one message."""
    for _ in range(TRIES):
        if (found := _ask(kind, body, dump=whole)) is not None:
            return found
    raise InterruptedError("they came and went all the while")


def _ask(kind: int, body: bytes, *, dump: bool) -> list[bytes] | None:
    """Return the answer to one question; None if it may not be whole."""
    flags = NLM_F_REQUEST | NLM_F_DUMP if dump else NLM_F_REQUEST
    found: list[bytes] = []
    whole = True
    # A socket for each question: nothing of an answer that was not waited for is taken for the next one's.
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(TIMEOUT)
        netlink.send(HEADER.pack(HEADER.size + len(body), kind, flags, 0, 0) + body)
        while True:
            for answer, message_flags, content in _split(netlink.recv(BUFFER)):
                whole = whole and not message_flags & NLM_F_DUMP_INTR
                if answer in (NLMSG_ERROR, NLMSG_DONE):
                    (code,) = ERROR.unpack_from(content)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return found if whole else None
                found.append(content)
                if not dump:
                    return found


def _traffic_control(kind: int, body: bytes) -> list[TrafficControl]:
    found = []
    for content in _answer(kind, body):
        _, ifindex, handle, parent, info = TRAFFIC_CONTROL.unpack_from(content)
        found.append(TrafficControl(ifindex, handle, parent, info, dict(attributes(content[TRAFFIC_CONTROL.size :]))))
    return found


def _message(body: bytes) -> Message:
    _, hardware, index, *_ = INTERFACE.unpack_from(body)
    return Message(index, hardware, dict(attributes(body[INTERFACE.size :])))


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield each message's type, flags and content."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, *_ = HEADER.unpack_from(data, at)
        yield kind, flags, data[at + HEADER.size : at + length]
        at += max(_aligned(length), HEADER.size)


def _aligned(length: int) -> int:
    return length + 3 & ~3
