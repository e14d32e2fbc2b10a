"""Properties of interfaces for ``cnfctl doctor``: they decide in which mode the program can be attached."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from pyroute2 import NetlinkError
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.generic import GenericNetlinkSocket

from cnf.direction import DIRECTIONS, Direction
from cnf.errors import UnavailableError
from cnf.kernel.links import Link, Links
from cnf.kernel.tc import programs

# linux/ethtool.h, linux/sockios.h
SIOCETHTOOL: Final = 0x8946
ETHTOOL_GDRVINFO: Final = 3
ETHTOOL_GFLAGS: Final = 0x25
ETH_FLAG_TXVLAN: Final = 1 << 7
ETH_FLAG_RXVLAN: Final = 1 << 8
ETH_FLAG_LRO: Final = 1 << 15
DRIVER_NAME: Final = slice(4, 36)
ETHTOOL_ANSWER_BYTES: Final = 256

PAIRED: Final = ("veth", "netkit")
"""Kinds whose link is their other end."""
NETDEV_CMD_DEV_GET: Final = 1  # linux/netdev.h
NETDEV_XDP_ACT_BASIC: Final = 1


@dataclass(frozen=True, slots=True)
class Nic:
    """An interface, and what decides in which mode it can have the program. None: unknown."""

    link: Link
    driver: str | None = None
    peer: Nic | None = None
    """The interface that it is paired with, without that one's peer, if it is in this network namespace."""
    native: bool | None = None
    """Whether the driver takes native XDP; kernels before 6.3 do not tell."""
    rx_vlan: bool | None = None
    """Whether the NIC takes VLAN tags off as it receives."""
    tx_vlan: bool | None = None
    """Whether the NIC puts VLAN tags on as it sends."""
    lro: bool | None = None
    """Whether the NIC joins received packets (large receive offload)."""
    at_tc: Mapping[Direction, tuple[int, ...]] = field(default_factory=dict)
    """The ids of the programs at TC, in the order in which they run, by direction; of those that this user may see."""


def nics() -> tuple[Nic, ...]:
    """Return every interface of this network namespace."""
    with Links() as links, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        native = _native()
        found = {link.index: _nic(link, native, any_socket) for link in links.read()}
    return tuple(
        replace(nic, peer=found.get(nic.link.lower or 0)) if nic.link.kind in PAIRED else nic for nic in found.values()
    )


def _nic(link: Link, native: dict[int, bool], any_socket: socket.socket) -> Nic:
    driver = _ethtool(any_socket, link.name, ETHTOOL_GDRVINFO)
    offloads = _ethtool(any_socket, link.name, ETHTOOL_GFLAGS)
    flags = int.from_bytes(offloads[4:8], sys.byteorder) if offloads else None
    return Nic(
        link=link,
        driver=driver[DRIVER_NAME].split(b"\0")[0].decode(errors="backslashreplace") if driver else None,
        native=native.get(link.index),
        rx_vlan=None if flags is None else bool(flags & ETH_FLAG_RXVLAN),
        tx_vlan=None if flags is None else bool(flags & ETH_FLAG_TXVLAN),
        lro=None if flags is None else bool(flags & ETH_FLAG_LRO),
        at_tc=_at_tc(link),
    )


def _at_tc(link: Link) -> dict[Direction, tuple[int, ...]]:
    found = {}
    for direction in DIRECTIONS:
        with suppress(OSError, UnavailableError):  # not this user's to see, or no libbpf
            found[direction] = programs(link.index, direction)
    return found


def _ethtool(any_socket: socket.socket, name: str, command: int) -> bytes | None:
    """Return the answer to an ethtool command; None where the driver has none."""
    answer = ctypes.create_string_buffer(struct.pack("=I", command), ETHTOOL_ANSWER_BYTES)
    request = struct.pack("16sP16x", name.encode()[:15], ctypes.addressof(answer))
    try:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)
    except OSError:
        return None
    return answer.raw


class _NetdevMessage(genlmsg):  # type: ignore[misc]  # pyroute2 comes without types
    nla_map = (
        ("NETDEV_A_DEV_UNSPEC", "none"),
        ("NETDEV_A_DEV_IFINDEX", "uint32"),
        ("NETDEV_A_DEV_PAD", "none"),
        ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
    )


def _native() -> dict[int, bool]:
    """Return, by ifindex, whether a driver takes native XDP (linux/netdev.h); nothing on a kernel without that."""
    message = _NetdevMessage()
    message["cmd"] = NETDEV_CMD_DEV_GET
    message["version"] = 1
    with GenericNetlinkSocket() as netlink:
        try:
            netlink.bind("netdev", _NetdevMessage)
        except NetlinkError:
            return {}
        replies = netlink.nlm_request(message, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST | NLM_F_DUMP)
        return {
            int(reply.get_attr("NETDEV_A_DEV_IFINDEX")): bool(
                reply.get_attr("NETDEV_A_DEV_XDP_FEATURES") & NETDEV_XDP_ACT_BASIC
            )
            for reply in replies
        }
