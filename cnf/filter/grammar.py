"""The filter expression of ``cnfctl flows``: what a tcpdump user would type, compiled to a mask of flows.

::

    chain      = operand {("and" | "or") operand}
    operand    = "not" operand | "(" chain ")" | primitive
    primitive  = [PROTOCOL] [direction] ("host" | "net" | "port" | "portrange") values
               | [PROTOCOL] direction values             an address, or a prefix
               | ["ip" | "ip6"] "proto" values
               | "iface" values | "vlan" [values] | "fragment" | "inbound" | "outbound" | PROTOCOL
               | VALUE                                   with the qualifiers of the primitive before it
    direction  = "src" | "dst" | "src or dst" | "src and dst"
    values     = VALUE | "not" values | "(" values {("and" | "or") values} ")"

PROTOCOL is ``ip``, ``ip6``, ``icmp6`` or a name of ``abi.PROTOCOL_NAMES``. ``&&``, ``||`` and ``!`` are ``and``,
``or`` and ``not``.

The rules are those of pcap-filter(7). ``not`` binds tightest; ``and`` and ``or`` have EQUAL precedence and associate to
the left: ``tcp or udp and port 53`` is ``(tcp or udp) and port 53``. ``port 80 or 443`` repeats ``port``; with nothing
to repeat, a bare address or prefix is a host or net. ``net 10`` is 10.0.0.0/8, but ``net 10.0.0.0`` is one address.

It differs where flows differ from packets. ``port`` matches TCP, UDP and SCTP, and no later fragments; a service name
is its number under each of them. ``vlan`` is the outer tag. ``iface`` takes a name, an altname or a shell pattern of
names. It is not repeated, for any word, a misspelt keyword too, might be an interface's name. Host names are not looked
up. ``inbound`` is what the node has received, on whichever interface, ``outbound`` what it has sent.
"""

from __future__ import annotations

import re
import reprlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cnf.abi import ICMP, ICMPV6, WITH_PORTS
from cnf.errors import UsageError, nearest
from cnf.filter.predicates import (
    EITHER_END,
    Chain,
    Direction,
    Filter,
    HasPort,
    InNetwork,
    InVlan,
    IpProtocol,
    IsFragment,
    IsSent,
    Not,
    Operator,
)
from cnf.filter.values import ADDRESS, KINDS, PROTOCOL_NUMBERS, Kind, prefix_of

MAX_LENGTH: Final = 4096
MAX_DEPTH: Final = 50


def compile_filter(expression: str) -> Filter:
    """Compile ``expression``; a blank one matches every flow.

    Raises:
        UsageError: it names the wrong word, its position (characters counted from 1), what was expected there, and the
            nearest expression that is valid.

    """
    if len(expression) > MAX_LENGTH:
        message = f"filter: {len(expression)} characters, more than {MAX_LENGTH}"
        raise UsageError(message)
    return _Parser(expression).parse()


_PROTOCOLS: Final = {
    "ip": IpProtocol("ipv4"),
    "ip6": IpProtocol("ipv6"),
    **{name: IpProtocol(number=number) for name, number in PROTOCOL_NUMBERS.items()},
    # As in pcap-filter(7), each is of its IP version only; "proto icmp" is the number under both versions.
    "icmp": IpProtocol("ipv4", ICMP),
    "icmp6": IpProtocol("ipv6", ICMPV6),
    "icmpv6": IpProtocol("ipv6", ICMPV6),
}


_ALONE: Final[dict[str, Filter]] = {"fragment": IsFragment(), "inbound": Not(IsSent()), "outbound": IsSent()}
"""The words that take no value."""
_SYMBOLS: Final = ("", "(", ")", "and", "or", "not")
_KEYWORDS: Final = (*_PROTOCOLS, *KINDS, *_ALONE, "src", "dst", "and", "or", "not")


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
    protocol: IpProtocol = IpProtocol()
    direction: Direction = EITHER_END
    kind: str = ADDRESS


def _tokens(expression: str) -> list[_Token]:
    # "!" is an operator only where a word begins, so that "iface [!e]*" is one word.
    matches = re.finditer(r"[()!]|&&|\|\||[&|]|[^\s()&|!][^\s()&|]*", expression)
    words = [_Token(match.group(), match.start() + 1) for match in matches]
    return [*words, _Token("", len(expression) + 1)]


class _Parser:
    """A recursive-descent parser of the grammar in the module's docstring, one method for each rule."""

    def __init__(self, expression: str) -> None:
        self._tokens = deque(_tokens(expression))
        self._depth = 0
        self._repeated = _Qualifiers()

    def parse(self) -> Filter:
        if len(self._tokens) == 1:
            return IpProtocol()
        result = self._chain(self._primitive)
        if self._tokens[0].text:
            raise self._unjoined()
        return result

    def _chain(self, leaf: Callable[[], Filter]) -> Filter:
        first = self._operand(leaf)
        rest: list[tuple[Operator, Filter]] = []
        while operator := self._accept("and", "or"):
            rest.append(("and" if operator.word == "and" else "or", self._operand(leaf)))
        return Chain(first, tuple(rest)) if rest else first

    def _operand(self, leaf: Callable[[], Filter]) -> Filter:
        token = self._accept("not", "(")
        if token is None:
            return leaf()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(token, f"more than {MAX_DEPTH} parentheses and negations in one another")
        if token.word == "not":
            result: Filter = Not(self._operand(leaf))
        else:
            result = self._chain(leaf)
            if not self._accept(")"):
                raise self._unjoined(token)
        self._depth -= 1
        return result

    def _primitive(self) -> Filter:
        word = self._accept(*_PROTOCOLS)
        protocol = _PROTOCOLS[word.text] if word else IpProtocol()
        direction = self._direction()
        if kind := self._accept("host", "net", "port", "portrange"):
            return self._values(_Qualifiers(protocol, direction or EITHER_END, kind.text))
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
        if alone := self._accept(*_ALONE):
            result = _ALONE[alone.text]
        elif self._accept("vlan"):
            if self._tokens[0].text[:1].isdigit() or self._tokens[0].word == "(":
                return self._values(_Qualifiers(kind="vlan"))
            result = InVlan(None)
        else:
            return self._value(self._repeated, "a keyword, or ")
        self._repeated = _Qualifiers()
        return result

    def _direction(self) -> Direction | None:
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
        token, kind, protocol = self._tokens[0], KINDS[qualifiers.kind], qualifiers.protocol
        result = None if token.word in _SYMBOLS else kind.read(token.text, qualifiers.direction)
        if result is None:
            raise _unread(token, kind, instead)
        if isinstance(result, InNetwork) and protocol.family not in (None, result.family):
            raise _refusal(token, f"expected an {'IPv4' if protocol.family == 'ipv4' else 'IPv6'} address")
        if isinstance(result, HasPort) and protocol.number not in (None, *WITH_PORTS):
            raise _refusal(token, "only tcp, udp and sctp have ports")
        self._tokens.popleft()
        self._repeated = _Qualifiers() if qualifiers.kind == "iface" else qualifiers
        return result if protocol == IpProtocol() else Chain(protocol, (("and", result),))

    def _accept(self, *words: str) -> _Token | None:
        return self._tokens.popleft() if self._tokens[0].word in words else None

    def _unjoined(self, opened: _Token | None = None) -> UsageError:
        token = self._tokens[0]
        end = f"a ')' for character {opened.position}" if opened else "the end"
        return _refusal(token, f"expected 'and', 'or' or {end}", _nearest(token.text, ("and", "or", "&&", "||")))


def _unread(token: _Token, kind: Kind, instead: str) -> UsageError:
    """Explain why ``token`` is not a value of ``kind``, and what could stand there ``instead``."""
    prefix = prefix_of(token.text) if "/" in token.text else None
    if prefix and prefix.ip != prefix.network.network_address:
        return _refusal(token, "host bits set", f"{prefix.network} or host {prefix.ip}")
    hint = ""
    if token.word not in _SYMBOLS:
        kinds = (word for word in kind.near if word in KINDS and KINDS[word].read(token.text, EITHER_END))
        hint = next((f"{word} {token.text}" for word in kinds), "")
        hint = hint or _nearest(token.text, _KEYWORDS if instead else kind.near)
    return _refusal(token, f"expected {instead}{kind.expected}", hint)


def _refusal(token: _Token, complaint: str, hint: str = "") -> UsageError:
    subject = _SHORT.repr(token.text) if token.text else "the end"
    question = f"; did you mean {hint}?" if hint else ""
    return UsageError(f"filter: {subject} at character {token.position}: {complaint}{question}")


def _nearest(word: str, known: Sequence[str]) -> str:
    return "" if word in known else nearest(word.lower(), known) or ""
