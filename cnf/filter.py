"""The filter expression of ``cnfctl flows``: what a tcpdump user would type, as masks over the columns of flows.

::

    chain      = operand {("and" | "or") operand}
    operand    = "not" operand | "(" chain ")" | primitive
    primitive  = [PROTOCOL] [direction] ("host" | "net" | "port" | "portrange") values
               | [PROTOCOL] direction values             an address, or a prefix
               | ["ip" | "ip6"] "proto" values
               | "iface" values | "vlan" [values] | "fragment" | PROTOCOL
               | VALUE                                   with the qualifiers of the primitive before it
    direction  = "src" | "dst" | "src or dst" | "src and dst"
    values     = VALUE | "not" values | "(" values {("and" | "or") values} ")"

PROTOCOL is ``ip``, ``ip6``, ``icmp6`` or a name of ``records.PROTOCOL_NAMES``. ``&&``, ``||`` and ``!`` are ``and``,
``or`` and ``not``.

The rules are those of pcap-filter(7). ``not`` binds tightest; ``and`` and ``or`` have EQUAL precedence and associate to
the left: ``tcp or udp and port 53`` is ``(tcp or udp) and port 53``. ``port 80 or 443`` repeats ``port``; with nothing
to repeat, a bare address or prefix is a host or net. ``net 10`` is 10.0.0.0/8, but ``net 10.0.0.0`` is one address.

It differs where flows differ from packets. ``port`` knows TCP, UDP and SCTP, and no later fragments; a service name is
its number under each of them. ``vlan`` is the outer tag. ``iface`` takes shell patterns, and is not repeated: any word,
a misspelt keyword too, would be an interface's name. Host names are not looked up.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import re
import reprlib
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cnf.errors import UsageError
from cnf.records import FLOW_FRAGMENT, ICMP, ICMPV6, PROTOCOL_NAMES, SCTP, TCP, UDP, VLAN_PRESENT, Family

MAX_LENGTH: Final = 4096
MAX_DEPTH: Final = 50

_Mask = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.unsignedinteger]
_Names = Mapping[int, str]
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Direction = Literal["src", "dst", "src or dst", "src and dst"]
_Operator = Literal["and", "or"]
_EITHER_END: Final = "src or dst"

_WITH_PORTS: Final = (TCP, UDP, SCTP)
_FEW: Final = 16  # values up to here are found fastest by numpy's "sort", which then compares with them one by one
_FAMILY: Final[Mapping[int, Family]] = {4: "ipv4", 6: "ipv6"}


class _Columns(Protocol):
    """What a filter reads of ``flows.FlowColumns``, which stands below this module."""

    @property
    def family(self) -> Family: ...
    @property
    def src_addr(self) -> _Words: ...
    @property
    def dst_addr(self) -> _Words: ...
    @property
    def src_port(self) -> npt.NDArray[np.uint16]: ...
    @property
    def dst_port(self) -> npt.NDArray[np.uint16]: ...
    @property
    def ifindex(self) -> npt.NDArray[np.uint32]: ...
    @property
    def vlan(self) -> npt.NDArray[np.uint16]: ...
    @property
    def protocol(self) -> npt.NDArray[np.uint8]: ...
    @property
    def flags(self) -> npt.NDArray[np.uint8]: ...
    def __len__(self) -> int: ...


class Filter(Protocol):
    """Select flows: an expression, or a part of one."""

    def mask(self, flows: _Columns, names: _Names, /) -> _Mask:
        """Return a new array, True for each flow that matches; ``names`` are the interfaces' by ifindex."""


def compile_filter(expression: str) -> Filter:
    """Compile ``expression``; a blank one matches every flow.

    Raises ``UsageError`` with the word at fault, its position (characters counted from 1), what was expected there and
    the nearest thing that would have been understood.
    """
    if len(expression) > MAX_LENGTH:
        message = f"filter: {len(expression)} characters, more than {MAX_LENGTH}"
        raise UsageError(message)
    return _Parser(expression).parse()


# --- The parts of an expression ---


@dataclass(frozen=True, slots=True)
class _Chain:
    """Join masks from left to right. Flat, so that only parentheses and negations nest."""

    first: Filter
    rest: tuple[tuple[_Operator, Filter], ...]

    def mask(self, flows: _Columns, names: _Names, /) -> _Mask:
        result = self.first.mask(flows, names)
        for operator, operand in self.rest:
            if operator == "and":
                if result.any():
                    result &= operand.mask(flows, names)
            elif not result.all():
                result |= operand.mask(flows, names)
        return result


@dataclass(frozen=True, slots=True)
class _Not:
    operand: Filter

    def mask(self, flows: _Columns, names: _Names, /) -> _Mask:
        return ~self.operand.mask(flows, names)


@dataclass(frozen=True, slots=True)
class _IpProtocol:
    """Match an IP version, a protocol number, or both; None is any."""

    family: Family | None = None
    number: int | None = None

    def mask(self, flows: _Columns, _names: _Names, /) -> _Mask:
        if self.family not in (None, flows.family):
            return np.zeros(len(flows), np.bool_)
        if self.number is None:
            return np.ones(len(flows), np.bool_)
        return np.equal(flows.protocol, self.number)


@dataclass(frozen=True, slots=True)
class _InNetwork:
    network: _Network
    direction: _Direction

    @property
    def family(self) -> Family:
        return _FAMILY[self.network.version]

    def mask(self, flows: _Columns, _names: _Names, /) -> _Mask:
        if flows.family != self.family:
            return np.zeros(len(flows), np.bool_)
        return _toward(self.direction, self._contains, flows.src_addr, flows.dst_addr)

    def _contains(self, addresses: _Words) -> _Mask:
        # Bytes in network order on both sides, so the words compare whatever the byte order of the machine.
        netmask = np.frombuffer(self.network.netmask.packed, addresses.dtype)
        network = np.frombuffer(self.network.network_address.packed, addresses.dtype)
        result = np.ones(len(addresses), np.bool_)
        for column, bits, wanted in zip(addresses.reshape(-1, netmask.size).T, netmask, network, strict=True):
            if bits and result.any():
                result &= (column & bits) == wanted
        return result


@dataclass(frozen=True, slots=True)
class _HasPort:
    low: int
    high: int
    direction: _Direction

    def mask(self, flows: _Columns, _names: _Names, /) -> _Mask:
        result = _toward(self.direction, self._contains, flows.src_port, flows.dst_port)
        result &= np.isin(flows.protocol, np.array(_WITH_PORTS, flows.protocol.dtype), kind="sort")
        result &= (flows.flags & FLOW_FRAGMENT) == 0
        return result

    def _contains(self, ports: _Words) -> _Mask:
        return (ports >= self.low) & (ports <= self.high)


@dataclass(frozen=True, slots=True)
class _OnInterface:
    pattern: str

    def mask(self, flows: _Columns, names: _Names, /) -> _Mask:
        matching = [index for index, name in names.items() if fnmatch.fnmatchcase(name, self.pattern)]
        wanted = np.array(matching, flows.ifindex.dtype)
        return np.isin(flows.ifindex, wanted, kind="sort" if wanted.size <= _FEW else None)


@dataclass(frozen=True, slots=True)
class _InVlan:
    number: int | None

    def mask(self, flows: _Columns, _names: _Names, /) -> _Mask:
        if self.number is None:
            return np.not_equal(flows.vlan, 0)
        return np.equal(flows.vlan, VLAN_PRESENT | self.number)


@dataclass(frozen=True, slots=True)
class _IsFragment:
    def mask(self, flows: _Columns, _names: _Names, /) -> _Mask:
        return (flows.flags & FLOW_FRAGMENT).astype(np.bool_)


_PROTOCOL_NUMBERS: Final = {name: number for number, name in PROTOCOL_NAMES.items()} | {"icmp6": ICMPV6}
_PROTOCOLS: Final = {
    "ip": _IpProtocol("ipv4"),
    "ip6": _IpProtocol("ipv6"),
    **{name: _IpProtocol(number=number) for name, number in _PROTOCOL_NUMBERS.items()},
    # As in pcap-filter(7), each belongs to its IP version; "proto icmp" is the number under both.
    "icmp": _IpProtocol("ipv4", ICMP),
    "icmp6": _IpProtocol("ipv6", ICMPV6),
    "icmpv6": _IpProtocol("ipv6", ICMPV6),
}


def _toward(direction: _Direction, matches: Callable[[_Words], _Mask], src: _Words, dst: _Words) -> _Mask:
    match direction:
        case "src":
            return matches(src)
        case "dst":
            return matches(dst)
        case "src or dst":
            return matches(src) | matches(dst)
        case "src and dst":
            return matches(src) & matches(dst)


# --- Values: a reader returns None for a word that it cannot read ---


def _number(word: str, largest: int) -> int | None:
    return int(word) if word.isascii() and word.isdigit() and int(word) <= largest else None


def _prefix(word: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    """Read an address with or without a length, host bits allowed; ``10.1`` is 10.1.0.0/16."""
    address, slash, length = word.partition("/")
    if "%" in word or (slash and _number(length, ipaddress.IPV6LENGTH) is None):
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+){0,2}", address):
        octets = address.split(".")
        address, length = ".".join([*octets, "0", "0", "0"][:4]), length or str(8 * len(octets))
    try:
        return ipaddress.ip_interface(f"{address}/{length}" if length else address)
    except ValueError:
        return None


def _read_net(word: str, direction: _Direction) -> Filter | None:
    prefix = _prefix(word)
    if prefix is None or prefix.ip != prefix.network.network_address:
        return None
    return _InNetwork(prefix.network, direction)


def _read_host(word: str, direction: _Direction) -> Filter | None:
    prefix = None if "/" in word else _prefix(word)
    if prefix is None or prefix.network.num_addresses > 1:
        return None
    return _InNetwork(prefix.network, direction)


def _read_address(word: str, direction: _Direction) -> Filter | None:
    return _read_net(word, direction) if "/" in word else _read_host(word, direction)


def _read_port(word: str, direction: _Direction) -> Filter | None:
    number = _number(word, 0xFFFF)
    if number is None:
        try:
            number = socket.getservbyname(word)
        except (OSError, ValueError):  # ValueError: a word that is no C string
            return None
    return _HasPort(number, number, direction)


def _read_portrange(word: str, direction: _Direction) -> Filter | None:
    low, high = (_number(end, 0xFFFF) for end in word.partition("-")[::2])
    if low is None or high is None or low > high:
        return None
    return _HasPort(low, high, direction)


def _read_proto(word: str, _direction: _Direction) -> Filter | None:
    # tcpdump wants names that are keywords as "\tcp".
    number = _PROTOCOL_NUMBERS.get(word.removeprefix("\\"), _number(word, 0xFF))
    return None if number is None else _IpProtocol(number=number)


def _read_iface(word: str, _direction: _Direction) -> Filter | None:
    return _OnInterface(word)


def _read_vlan(word: str, _direction: _Direction) -> Filter | None:
    number = _number(word, VLAN_PRESENT - 1)
    return None if number is None else _InVlan(number)


class _Kind(NamedTuple):
    """What the values after a keyword are; ``near`` are words that are often missing, or misspelt, before or in one."""

    expected: str
    read: Callable[[str, _Direction], Filter | None]
    near: tuple[str, ...] = ()


_ADDRESS: Final = ""  # the kind of a value without a keyword
_KINDS: Final = {
    _ADDRESS: _Kind("an IPv4 or IPv6 address or prefix", _read_address, ("port", "portrange", "net", "host")),
    "host": _Kind("a numeric IPv4 or IPv6 address", _read_host, ("net",)),
    "net": _Kind("an IPv4 or IPv6 prefix", _read_net, ("port", "portrange")),
    "port": _Kind("a port number (0-65535) or a name of /etc/services", _read_port, ("portrange", "host", "net")),
    "portrange": _Kind("a port range such as 1000-2000, the lower first", _read_portrange, ("port",)),
    "proto": _Kind(
        f"a protocol number (0-255) or {', '.join(_PROTOCOL_NUMBERS)}", _read_proto, tuple(_PROTOCOL_NUMBERS)
    ),
    "iface": _Kind("an interface's name or a shell pattern", _read_iface),
    "vlan": _Kind("a VLAN id (0-4095)", _read_vlan),
}
_SYMBOLS: Final = ("", "(", ")", "and", "or", "not")
_KEYWORDS: Final = (*_PROTOCOLS, *_KINDS, "src", "dst", "fragment", "and", "or", "not")


# --- Grammar ---


_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = 60


class _Token(NamedTuple):
    text: str
    position: int

    @property
    def word(self) -> str:
        """The text, with one spelling for each operator; empty at the end of the expression."""
        return {"&&": "and", "||": "or", "!": "not"}.get(self.text, self.text)


class _Qualifiers(NamedTuple):
    protocol: _IpProtocol = _IpProtocol()
    direction: _Direction = _EITHER_END
    kind: str = _ADDRESS


def _tokens(expression: str) -> list[_Token]:
    # "!" begins an operator only where a word begins, so that "iface [!e]*" stays one word.
    matches = re.finditer(r"[()!]|&&|\|\||[&|]|[^\s()&|!][^\s()&|]*", expression)
    words = [_Token(match.group(), match.start() + 1) for match in matches]
    return [*words, _Token("", len(expression) + 1)]


class _Parser:
    """Recursive descent over the grammar of the module's docstring, one method a rule."""

    def __init__(self, expression: str) -> None:
        self._tokens = deque(_tokens(expression))
        self._depth = 0
        self._repeated = _Qualifiers()

    def parse(self) -> Filter:
        if len(self._tokens) == 1:
            return _IpProtocol()
        result = self._chain(self._primitive)
        if self._tokens[0].text:
            raise self._unjoined()
        return result

    def _chain(self, leaf: Callable[[], Filter]) -> Filter:
        first = self._operand(leaf)
        rest: list[tuple[_Operator, Filter]] = []
        while operator := self._accept("and", "or"):
            rest.append(("and" if operator.word == "and" else "or", self._operand(leaf)))
        return _Chain(first, tuple(rest)) if rest else first

    def _operand(self, leaf: Callable[[], Filter]) -> Filter:
        token = self._accept("not", "(")
        if token is None:
            return leaf()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(token, f"more than {MAX_DEPTH} parentheses and negations in one another")
        if token.word == "not":
            result: Filter = _Not(self._operand(leaf))
        else:
            result = self._chain(leaf)
            if not self._accept(")"):
                raise self._unjoined(token)
        self._depth -= 1
        return result

    def _primitive(self) -> Filter:
        word = self._accept(*_PROTOCOLS)
        protocol = _PROTOCOLS[word.text] if word else _IpProtocol()
        direction = self._direction()
        if kind := self._accept("host", "net", "port", "portrange"):
            return self._values(_Qualifiers(protocol, direction or _EITHER_END, kind.text))
        if direction:
            return self._values(_Qualifiers(protocol, direction))
        if protocol.number is None and self._accept("proto"):
            return self._values(_Qualifiers(protocol, kind="proto"))
        if word:
            self._repeated = _Qualifiers()
            return protocol
        return self._unqualified()

    def _unqualified(self) -> Filter:
        result: Filter
        if self._accept("iface"):
            return self._values(_Qualifiers(kind="iface"))
        if self._accept("fragment"):
            result = _IsFragment()
        elif self._accept("vlan"):
            if self._tokens[0].text[:1].isdigit() or self._tokens[0].word == "(":
                return self._values(_Qualifiers(kind="vlan"))
            result = _InVlan(None)
        else:
            return self._value(self._repeated, "a keyword, or ")
        self._repeated = _Qualifiers()
        return result

    def _direction(self) -> _Direction | None:
        first = self._accept("src", "dst")
        if first is None:
            return None
        if operator := self._accept("and", "or"):
            other = "dst" if first.text == "src" else "src"
            if not self._accept(other):
                raise _refusal(self._tokens[0], f"expected {other!r}")
            return "src and dst" if operator.word == "and" else "src or dst"
        return "src" if first.text == "src" else "dst"

    def _values(self, qualifiers: _Qualifiers) -> Filter:
        return self._operand(lambda: self._value(qualifiers))

    def _value(self, qualifiers: _Qualifiers, instead: str = "") -> Filter:
        token, kind, protocol = self._tokens[0], _KINDS[qualifiers.kind], qualifiers.protocol
        result = None if token.word in _SYMBOLS else kind.read(token.text, qualifiers.direction)
        if result is None:
            raise _unread(token, kind, instead)
        if isinstance(result, _InNetwork) and protocol.family not in (None, result.family):
            raise _refusal(token, f"expected an {'IPv4' if protocol.family == 'ipv4' else 'IPv6'} address")
        if isinstance(result, _HasPort) and protocol.number not in (None, *_WITH_PORTS):
            raise _refusal(token, "only tcp, udp and sctp have ports")
        self._tokens.popleft()
        self._repeated = _Qualifiers() if qualifiers.kind == "iface" else qualifiers
        return result if protocol == _IpProtocol() else _Chain(protocol, (("and", result),))

    def _accept(self, *words: str) -> _Token | None:
        return self._tokens.popleft() if self._tokens[0].word in words else None

    def _unjoined(self, opened: _Token | None = None) -> UsageError:
        token = self._tokens[0]
        end = f"a ')' for character {opened.position}" if opened else "the end"
        return _refusal(token, f"expected 'and', 'or' or {end}", _nearest(token.text, ("and", "or", "&&", "||")))


def _unread(token: _Token, kind: _Kind, instead: str) -> UsageError:
    """Explain why ``token`` is not a value of ``kind``, and what could stand there ``instead``."""
    prefix = _prefix(token.text) if "/" in token.text else None
    if prefix and prefix.ip != prefix.network.network_address:
        return _refusal(token, "host bits set", f"{prefix.network} or host {prefix.ip}")
    hint = ""
    if token.word not in _SYMBOLS:
        kinds = (word for word in kind.near if word in _KINDS and _KINDS[word].read(token.text, _EITHER_END))
        hint = next((f"{word} {token.text}" for word in kinds), "")
        hint = hint or _nearest(token.text, _KEYWORDS if instead else kind.near)
    return _refusal(token, f"expected {instead}{kind.expected}", hint)


def _refusal(token: _Token, complaint: str, hint: str = "") -> UsageError:
    subject = _SHORT.repr(token.text) if token.text else "the end"
    question = f"; did you mean {hint}?" if hint else ""
    return UsageError(f"filter: {subject} at character {token.position}: {complaint}{question}")


def _nearest(word: str, known: Sequence[str]) -> str:
    return "" if word in known else next(iter(difflib.get_close_matches(word.lower(), known, n=1)), "")
