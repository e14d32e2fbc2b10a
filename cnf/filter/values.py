"""The values of a filter expression: addresses, ports, numbers, names. A reader returns None for any other word."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from cnf.abi import ICMPV6, PROTOCOL_NAMES, VLAN_PRESENT
from cnf.addresses import unmapped
from cnf.filter.predicates import Direction, Filter, HasPort, InNetwork, InVlan, IpProtocol, OnInterface

PROTOCOL_NUMBERS: Final = {name: number for number, name in PROTOCOL_NAMES.items()} | {"icmp6": ICMPV6}


def _number(word: str, largest: int) -> int | None:
    """Read a number up to ``largest``. Longer words are not tried: int() refuses thousands of digits."""
    digits = word.lstrip("0") or "0"
    fits = word.isascii() and word.isdigit() and len(digits) <= len(str(largest))
    return int(digits) if fits and int(digits) <= largest else None


def prefix_of(word: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """Read an address with or without a length, host bits allowed; ``10.1`` is 10.1.0.0/16."""
    address, slash, length = unmapped(word).partition("/")
    if "%" in word or (slash and _number(length, ipaddress.IPV6LENGTH) is None):
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", address):
        octets = address.split(".")
        address, length = ".".join([*octets, "0", "0", "0"][:4]), length or str(8 * len(octets))
    try:
        return ipaddress.ip_interface(f"{address}/{length}" if length else address)
    except ValueError:
        return None


def _read_net(word: str, direction: Direction) -> Filter | None:
    prefix = prefix_of(word)
    if prefix is None or prefix.ip != prefix.network.network_address:
        return None
    return InNetwork(prefix.network, direction)


def _read_host(word: str, direction: Direction) -> Filter | None:
    prefix = None if "/" in word else prefix_of(word)
    if prefix is None or prefix.network.num_addresses > 1:
        return None
    return InNetwork(prefix.network, direction)


def _read_address(word: str, direction: Direction) -> Filter | None:
    return _read_net(word, direction) if "/" in word else _read_host(word, direction)


def _read_port(word: str, direction: Direction) -> Filter | None:
    number = _number(word, 0xFFFF)
    if number is None:
        try:
            number = socket.getservbyname(word)
        except (OSError, ValueError):  # ValueError: a word that is no C string
            return None
    return HasPort(number, number, direction)


def _read_portrange(word: str, direction: Direction) -> Filter | None:
    low, high = (_number(end, 0xFFFF) for end in word.partition("-")[::2])
    if low is None or high is None or low > high:
        return None
    return HasPort(low, high, direction)


def _read_proto(word: str, _direction: Direction) -> Filter | None:
    # tcpdump wants names that are keywords as "\tcp".
    number = PROTOCOL_NUMBERS.get(word.removeprefix("\\"), _number(word, 0xFF))
    return None if number is None else IpProtocol(number=number)


def _read_iface(word: str, _direction: Direction) -> Filter | None:
    return OnInterface(word)


def _read_vlan(word: str, _direction: Direction) -> Filter | None:
    number = _number(word, VLAN_PRESENT - 1)
    return None if number is None else InVlan(number)


class Kind(NamedTuple):
    """The values that follow a keyword; ``near`` are the words that people often forget or misspell there."""

    expected: str
    read: Callable[[str, Direction], Filter | None]
    near: tuple[str, ...] = ()


ADDRESS: Final = ""  # the kind of a value without a keyword
KINDS: Final = {
    ADDRESS: Kind("an IPv4 or IPv6 address or prefix", _read_address, ("port", "portrange", "net", "host")),
    "host": Kind("a numeric IPv4 or IPv6 address", _read_host, ("net",)),
    "net": Kind("an IPv4 or IPv6 prefix", _read_net, ("port", "portrange")),
    "port": Kind("a port number (0-65535) or a name of /etc/services", _read_port, ("portrange", "host", "net")),
    "portrange": Kind("a port range such as 1000-2000, the lower first", _read_portrange, ("port",)),
    "proto": Kind(f"a protocol number (0-255) or {', '.join(PROTOCOL_NUMBERS)}", _read_proto, tuple(PROTOCOL_NUMBERS)),
    "iface": Kind("an interface's name or a shell pattern", _read_iface),
    "vlan": Kind("a VLAN id (0-4095)", _read_vlan),
}
