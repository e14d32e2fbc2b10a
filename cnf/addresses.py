"""Addresses as people and programs write them. Pure."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv6Address
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
