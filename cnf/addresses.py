"""Addresses as people and programs write them. Pure."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

_MAPPED_BITS: Final = 96
_BITS: Final = 128


def unmapped(text: str) -> str:
    """Return an IPv4-mapped IPv6 address, or a prefix of such, as IPv4; any other text as it is.

    ``::ffff:192.0.2.1`` (RFC 4291, 2.5.5.2) is what a program with one socket for both families calls 192.0.2.1. On the
    wire it is nobody's address.
    """
    address, slash, length = text.partition("/")
    with suppress(ValueError):
        ipv4 = IPv6Address(address).ipv4_mapped
        if ipv4 and not slash:
            return str(ipv4)
        if ipv4 and length.isdecimal() and _MAPPED_BITS <= int(length) <= _BITS:
            return f"{ipv4}/{int(length) - _MAPPED_BITS}"
    return text


def peer(text: str) -> IPv4Network | IPv6Network:
    """Return the address of the other end of a connection, as sshd and systemd-logind write it, as a network of one.

    Behind a link-local address stands its interface, which is left out. Raises ValueError if it is no address.
    """
    return ip_network(ip_address(unmapped(text.partition("%")[0])))
