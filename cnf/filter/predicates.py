"""The parts of a filter expression: each makes a mask of the columns of flows. Pure numpy."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW_EGRESS, FLOW_FRAGMENT, VLAN_PRESENT, WITH_PORTS, Family
from cnf.arrays import Mask

Words = npt.NDArray[np.unsignedinteger]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Direction = Literal["src", "dst", "src or dst", "src and dst"]
Operator = Literal["and", "or"]
EITHER_END: Final = "src or dst"

FEW: Final = 16  # up to so many values, numpy's kind "sort" is fastest: it compares with one after the other
FAMILY: Final[Mapping[int, Family]] = {4: "ipv4", 6: "ipv6"}


class Names:
    """The interfaces' names. A filter asks for each block of flows; what a pattern means is worked out once."""

    def __init__(self, names: Mapping[int, tuple[str, ...]]) -> None:
        """Take each interface's name and then its altnames, by ifindex."""
        self._names = names
        self._meant: dict[str, npt.NDArray[np.uint32]] = {}

    def meant_by(self, pattern: str) -> npt.NDArray[np.uint32]:
        """Return the indexes of the interfaces that ``pattern`` means."""
        if pattern not in self._meant:
            indexes = [index for index, names in self._names.items() if _means(pattern, *names)]
            self._meant[pattern] = np.array(indexes, np.uint32)
        return self._meant[pattern]


def _means(pattern: str, name: str, *altnames: str) -> bool:
    # As in the configuration (Link.is_meant_by); nobody has a name that is a pattern.
    return pattern in altnames or fnmatch.fnmatchcase(name, pattern)


class Keyed(Protocol):
    """What has the keys of flows of one family, as columns of one length; see ``KeyColumns``."""

    family: Family
    src_addr: npt.NDArray[np.unsignedinteger]
    dst_addr: npt.NDArray[np.unsignedinteger]
    src_port: npt.NDArray[np.uint16]
    dst_port: npt.NDArray[np.uint16]
    ifindex: npt.NDArray[np.uint32]
    vlan: npt.NDArray[np.uint16]
    protocol: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of flows."""


class Filter(Protocol):
    """Select flows: an expression, or a part of one."""

    def mask(self, flows: Keyed, names: Names, /) -> Mask:
        """Return a new array, True for each flow that matches; ``names`` are the interfaces'."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Join masks from left to right. It is flat, so that only parentheses and negations nest."""

    first: Filter
    rest: tuple[tuple[Operator, Filter], ...]

    def mask(self, flows: Keyed, names: Names, /) -> Mask:
        result = self.first.mask(flows, names)
        for operator, operand in self.rest:
            if operator == "and":
                if result.any():
                    result &= operand.mask(flows, names)
            elif not result.all():
                result |= operand.mask(flows, names)
        return result


@dataclass(frozen=True, slots=True)
class Not:
    """Match what the operand does not."""

    operand: Filter

    def mask(self, flows: Keyed, names: Names, /) -> Mask:
        return ~self.operand.mask(flows, names)


@dataclass(frozen=True, slots=True)
class IpProtocol:
    """Match an IP version, a protocol number, or both; None is any."""

    family: Family | None = None
    number: int | None = None

    def mask(self, flows: Keyed, _names: Names, /) -> Mask:
        if self.family not in (None, flows.family):
            return np.zeros(len(flows), np.bool_)
        if self.number is None:
            return np.ones(len(flows), np.bool_)
        return np.equal(flows.protocol, self.number)


@dataclass(frozen=True, slots=True)
class InNetwork:
    """Match a network at one end or both."""

    network: Network
    direction: Direction

    @property
    def family(self) -> Family:
        return FAMILY[self.network.version]

    def mask(self, flows: Keyed, _names: Names, /) -> Mask:
        if flows.family != self.family:
            return np.zeros(len(flows), np.bool_)
        return _toward(self.direction, self._contains, flows.src_addr, flows.dst_addr)

    def _contains(self, addresses: Words) -> Mask:
        # Bytes are in network order on both sides, so words compare in any byte order of the machine.
        netmask = np.frombuffer(self.network.netmask.packed, addresses.dtype)
        network = np.frombuffer(self.network.network_address.packed, addresses.dtype)
        result = np.ones(len(addresses), np.bool_)
        for column, bits, wanted in zip(addresses.reshape(-1, netmask.size).T, netmask, network, strict=True):
            if bits and result.any():
                result &= (column & bits) == wanted
        return result


@dataclass(frozen=True, slots=True)
class HasPort:
    """Match a range of ports at one end or both."""

    low: int
    high: int
    direction: Direction

    def mask(self, flows: Keyed, _names: Names, /) -> Mask:
        result = _toward(self.direction, self._contains, flows.src_port, flows.dst_port)
        result &= np.isin(flows.protocol, np.array(WITH_PORTS, flows.protocol.dtype), kind="sort")
        result &= (flows.flags & FLOW_FRAGMENT) == 0
        return result

    def _contains(self, ports: Words) -> Mask:
        return (ports >= self.low) & (ports <= self.high)


@dataclass(frozen=True, slots=True)
class OnInterface:
    """Match an interface by its name, one of its altnames, or a shell pattern of its name."""

    pattern: str

    def mask(self, flows: Keyed, names: Names, /) -> Mask:
        wanted = names.meant_by(self.pattern)
        return np.isin(flows.ifindex, wanted, kind="sort" if wanted.size <= FEW else None)


@dataclass(frozen=True, slots=True)
class InVlan:
    """Match an outer VLAN tag; any tag if None."""

    number: int | None

    def mask(self, flows: Keyed, _names: Names, /) -> Mask:
        if self.number is None:
            return np.not_equal(flows.vlan, 0)
        return np.equal(flows.vlan, VLAN_PRESENT | self.number)


@dataclass(frozen=True, slots=True)
class IsFragment:
    """Match later fragments."""

    def mask(self, flows: Keyed, _names: Names, /) -> Mask:
        return (flows.flags & FLOW_FRAGMENT).astype(np.bool_)


@dataclass(frozen=True, slots=True)
class IsSent:
    """Match what the node has sent."""

    def mask(self, flows: Keyed, _names: Names, /) -> Mask:
        return (flows.flags & FLOW_EGRESS).astype(np.bool_)


def _toward(direction: Direction, matches: Callable[[Words], Mask], src: Words, dst: Words) -> Mask:
    match direction:
        case "src":
            return matches(src)
        case "dst":
            return matches(dst)
        case "src or dst":
            return matches(src) | matches(dst)
        case "src and dst":
            return matches(src) & matches(dst)
