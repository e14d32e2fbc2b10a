"""The filter expression selects what a tcpdump user expects, and refuses in one line what it does not understand."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnf.abi import FAMILIES, FLOW_EGRESS, FLOW_FRAGMENT, VLAN_PRESENT, Family
from cnf.errors import UsageError
from cnf.filter.grammar import MAX_LENGTH, compile_filter
from cnf.filter.predicates import Names
from cnf.flows.columns import FlowColumns

INTERFACES: Final = {1: ("eth0",), 2: ("eth1", "lan-port-of-rack-7", "enp2s0"), 7: ('q"x\\y',)}


@dataclass(frozen=True)
class Row:
    """A flow, as a person would write it."""

    protocol: int
    src: IPv4Address | IPv6Address
    src_port: int
    dst: IPv4Address | IPv6Address
    dst_port: int
    ifindex: int = 1
    vlan: int | None = None
    fragment: bool = False
    sent: bool = False

    @property
    def family(self) -> Family:
        """The IP version as the columns name it."""
        return "ipv4" if self.src.version == 4 else "ipv6"


def flow(protocol: int, ends: str, **rest: Any) -> Row:  # noqa: ANN401 - the fields of a row
    """Build a row from ``ends`` like ``10.0.0.1 40000 > 10.0.0.2 443`` or ``fe80::1 > fe80::2``."""
    (src, _, src_port), (dst, _, dst_port) = (end.partition(" ") for end in ends.split(" > "))
    ports = (int(src_port or 0), int(dst_port or 0))
    return Row(protocol, ip_address(src), ports[0], ip_address(dst), ports[1], **rest)


def columns(rows: Iterable[Row], family: Family) -> FlowColumns:
    """Build read-only columns from the rows of ``family``."""
    chosen = [row for row in rows if row.family == family]
    flows = FlowColumns.empty(family, len(chosen))
    for at, row in enumerate(chosen):
        flows.src_addr[at : at + 1] = np.frombuffer(row.src.packed, flows.src_addr.dtype)
        flows.dst_addr[at : at + 1] = np.frombuffer(row.dst.packed, flows.dst_addr.dtype)
        flows.src_port[at], flows.dst_port[at] = row.src_port, row.dst_port
        flows.ifindex[at] = row.ifindex
        flows.vlan[at] = 0 if row.vlan is None else VLAN_PRESENT | row.vlan
        flows.protocol[at] = row.protocol
        flows.flags[at] = FLOW_FRAGMENT * row.fragment | FLOW_EGRESS * row.sent
    flows.records.flags.writeable = False
    return FlowColumns(family, flows.records, flows.dropped)


def selected(expression: str, rows: Iterable[Row]) -> list[Row]:
    """Return the rows that ``expression`` selects, IPv4 first."""
    rows = list(rows)
    chosen = compile_filter(expression)
    result = []
    for family in FAMILIES:
        mask = chosen.mask(columns(rows, family), Names(INTERFACES))
        assert mask.dtype == np.bool_
        result += [row for row, found in zip([row for row in rows if row.family == family], mask, strict=True) if found]
    return result


# --- Exact cases ---

FLOWS: Final = {
    "web": flow(6, "10.0.0.1 40000 > 192.168.1.7 443"),
    "reply": flow(6, "192.168.1.7 443 > 10.0.0.1 40000", sent=True),
    "dns": flow(17, "10.9.0.2 1053 > 8.8.8.8 53", vlan=5, ifindex=2),
    "piece": flow(17, "10.9.0.2 > 8.8.8.8", vlan=0, ifindex=2, fragment=True, sent=True),
    "ping": flow(1, "10.0.0.1 8 > 10.9.0.2 0"),
    "gre": flow(47, "192.168.1.7 > 8.8.8.8", ifindex=7),
    "ssh6": flow(6, "fe80::1 40001 > fe80::2 22", vlan=5),
    "dns6": flow(17, "2001:db8::5 53 > 2001:db8::6 1053"),
    "ping6": flow(58, "fe80::1 128 > fe80::2 0"),
    "sctp6": flow(132, "2001:db8::5 1000 > 2001:db8::6 2000", ifindex=2),
    "mapped": flow(50, "::ffff:10.0.0.1 > ::1"),
    "odd6": flow(1, "2001:db8::9 > 2001:db8::a", ifindex=7),
}
ALL: Final = " ".join(FLOWS)

CASES: Final = {
    "": ALL,
    " \t\n": ALL,
    # protocols and IP versions
    "ip": "web reply dns piece ping gre",
    "ip6": "ssh6 dns6 ping6 sctp6 mapped odd6",
    "tcp": "web reply ssh6",
    "udp": "dns piece dns6",
    "icmp": "ping",
    "icmp6": "ping6",
    "icmpv6": "ping6",
    "sctp or gre or esp": "gre sctp6 mapped",
    "proto gre": "gre",
    "proto icmp": "ping odd6",
    "proto 58": "ping6",
    r"proto \tcp or \sctp": "web reply ssh6 sctp6",
    "ip proto 17 or 47": "dns piece gre",
    "ip6 proto udp": "dns6",
    # addresses
    "host 10.0.0.1": "web reply ping",
    "10.0.0.1": "web reply ping",
    "src 10.0.0.1": "web ping",
    "dst host 10.0.0.1": "reply",
    "src or dst host 10.0.0.1": "web reply ping",
    "src and dst net 10.0.0.0/8": "ping",
    "dst and src net fe80::/64": "ssh6 ping6",
    "src net 10.0.0.0/8": "web dns piece ping",
    "dst 10.0.0.0/8": "reply ping",
    "10.9.0.0/16": "dns piece ping",
    "net 10.0.0.0": "",
    "net 10.0.0.1": "web reply ping",
    "net 10": "web reply dns piece ping",
    "net 192.168.1": "web reply gre",
    "net 10.8/15": "dns piece ping",
    "net 0.0.0.0/0": "web reply dns piece ping gre",
    "net ::/0": "ssh6 dns6 ping6 sctp6 mapped odd6",
    "net 2001:db8::4/127": "dns6 sctp6",
    "host 2001:DB8:0::5": "dns6 sctp6",
    "host ::ffff:10.0.0.1": "web reply ping",
    "net ::ffff:10.8.0.0/111": "dns piece ping",
    "src ::ffff:a00:1": "web ping",
    "host ::1": "mapped",
    "ip host 10.0.0.1": "web reply ping",
    "ip6 net fe80::/10": "ssh6 ping6",
    "tcp host 10.0.0.1": "web reply",
    "icmp dst 10.9.0.2": "ping",
    # ports
    "port 53": "dns dns6",
    "dst port 53": "dns",
    "src port 53": "dns6",
    "src or dst port 53": "dns dns6",
    "src and dst port 53": "",
    "portrange 1000-2000": "dns dns6 sctp6",
    "src and dst portrange 1000-2000": "sctp6",
    "src portrange 40000-40001": "web ssh6",
    "src portrange 39999-40000": "web",
    "src portrange 40001-40002": "ssh6",
    "tcp port 22": "ssh6",
    "udp dst port 53": "dns",
    "ip6 port 53": "dns6",
    "sctp port 2000": "sctp6",
    "tcp port 53": "",
    "port 0 or 8 or 128": "",
    "portrange 0-65535": "web reply dns ssh6 dns6 sctp6",
    # what is cnf's own
    "iface eth0": "web reply ping ssh6 dns6 ping6 mapped",
    "iface eth[!0]": "dns piece sctp6",
    'iface q"*\\y': "gre odd6",
    "iface lan-port-of-rack-7": "dns piece sctp6",
    "iface (enp2s0 and eth1)": "dns piece sctp6",
    "iface enp2*": "",  # patterns are of the name that is shown
    "iface eth9": "",
    "iface (eth1 or q*)": "dns piece gre sctp6 odd6",
    "vlan": "dns piece ssh6",
    "vlan 5": "dns ssh6",
    "vlan 0": "piece",
    "vlan 1 or 5": "dns ssh6",
    "vlan (0 or 1)": "piece",
    "vlan and tcp": "ssh6",
    "fragment": "piece",
    "udp and not fragment": "dns dns6",
    "inbound": "web dns ping gre ssh6 dns6 ping6 sctp6 mapped odd6",
    "outbound": "reply piece",
    "tcp and not inbound": "reply",
    "outbound and port 443 or 22": "reply ssh6",
    # joining
    "src net 10.0.0.0/8 and dst port 443 and not udp": "web",
    "not port 53": "web reply piece ping gre ssh6 ping6 sctp6 mapped odd6",
    "tcp&&!ip6": "web reply",
    "!(tcp||udp)&&ip": "ping gre",
    "! ! tcp": "web reply ssh6",
    "udp or tcp and port 22": "ssh6",
    "port 22 and tcp or udp": "dns piece ssh6 dns6",
    "udp or (tcp and port 22)": "dns piece ssh6 dns6",
    "not tcp or ip6": "dns piece ping gre ssh6 dns6 ping6 sctp6 mapped odd6",
    "not (tcp or ip6)": "dns piece ping gre",
    # qualifiers left out
    "port 22 or 53": "dns ssh6 dns6",
    "tcp dst port 22 or 443": "web ssh6",
    "src 10.0.0.1 or 192.168.1.0/24": "web reply ping gre",
    "host 10.0.0.1 and not 192.168.1.7": "ping",
    "not host 10.0.0.1 and 8.8.8.8": "dns piece gre",
    "host 10.0.0.1 and (10.9.0.2 or 8.8.8.8)": "ping",
    "host (fe80::1 or 8.8.8.8)": "dns piece gre ssh6 ping6",
    "dst port (443 or (53 or 22))": "web dns ssh6",
    "src net not 10.0.0.0/8": "reply gre ssh6 dns6 ping6 sctp6 mapped odd6",
    "dst port 22 and tcp or 10.0.0.1": "web reply ping ssh6",
}


@pytest.mark.parametrize(("expression", "names"), CASES.items())
def test_expressions_select_what_tcpdump_would(expression: str, names: str) -> None:
    """Each expression selects exactly the flows named beside it."""
    assert selected(expression, FLOWS.values()) == [FLOWS[name] for name in names.split()]


def test_service_names_stand_for_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """``port domain`` is ``port 53``, hyphens and all."""
    monkeypatch.setattr(socket, "getservbyname", {"domain": 53, "ftp-data": 20}.__getitem__)
    assert compile_filter("udp port domain or ftp-data") == compile_filter("udp port 53 or 20")


# --- Random expressions, against a reference that goes flow by flow ---

T = TypeVar("T")
Test = Callable[[Row], bool]


@dataclass(frozen=True)
class Leaf:
    """A primitive: its words, of which the last may be a value that can stand without the others, and its meaning."""

    qualifiers: str
    value: str
    holds: Test


@dataclass(frozen=True)
class Not:
    """A negation."""

    operand: Tree

    def holds(self, row: Row) -> bool:
        """Say whether the operand does not hold."""
        return not self.operand.holds(row)


@dataclass(frozen=True)
class Join:
    """``left and right`` or ``left or right``."""

    operator: str
    left: Tree
    right: Tree

    def holds(self, row: Row) -> bool:
        """Say whether both, or one of them, holds."""
        joined = all if self.operator == "and" else any
        return joined(side.holds(row) for side in (self.left, self.right))


Tree = Leaf | Not | Join

PROTOCOLS: Final[Mapping[str, Test]] = {
    "": lambda _row: True,
    "ip": lambda row: row.family == "ipv4",
    "ip6": lambda row: row.family == "ipv6",
    "tcp": lambda row: row.protocol == 6,
    "udp": lambda row: row.protocol == 17,
    "sctp": lambda row: row.protocol == 132,
    "icmp": lambda row: row.protocol == 1 and row.family == "ipv4",
    "icmp6": lambda row: row.protocol == 58 and row.family == "ipv6",
}
DIRECTIONS: Final[Mapping[str, Callable[[bool, bool], bool]]] = {
    "": lambda src, dst: src or dst,
    "src": lambda src, _dst: src,
    "dst": lambda _src, dst: dst,
    "src or dst": lambda src, dst: src or dst,
    "dst or src": lambda src, dst: src or dst,
    "src and dst": lambda src, dst: src and dst,
    "dst and src": lambda src, dst: src and dst,
}
ADDRESSES: Final = (
    *("10.0.0.1", "10.0.0.2", "10.128.0.1", "11.0.0.1", "255.255.255.255", "0.0.0.1"),
    *("::", "::1", "fe80::1", "fe80::1:0:0:1", "fe81::1", "8000::"),
)
PORTS: Final = (0, 1, 53, 255, 256, 443, 65535)
OPERATORS: Final = st.sampled_from(("and", "or"))


@st.composite
def network_leaves(draw: st.DrawFn) -> Leaf:
    """Draw ``[protocol] [direction] [host|net] address-or-prefix``."""
    address = ip_address(draw(st.sampled_from(ADDRESSES)))
    of_family = ("ip", "icmp") if address.version == 4 else ("ip6", "icmp6")
    protocol = draw(st.sampled_from(("", "tcp", "udp", "sctp", *of_family)))
    direction = draw(st.sampled_from(tuple(DIRECTIONS)))
    kind = draw(st.sampled_from(("host", "net", "") if direction else ("host", "net")))
    length = address.max_prefixlen if kind == "host" else draw(st.integers(0, address.max_prefixlen))
    network = ip_network((address, length), strict=False)
    value = str(address) if kind == "host" else str(network)

    def holds(row: Row) -> bool:
        ends = (end.version == network.version and end in network for end in (row.src, row.dst))
        return PROTOCOLS[protocol](row) and DIRECTIONS[direction](*ends)

    return Leaf(f"{protocol} {direction} {kind}", value, holds)


def chain(first: Tree, rest: list[tuple[str, Tree]]) -> Tree:
    """Join operands from the left."""
    return functools.reduce(lambda left, step: Join(step[0], left, step[1]), rest, first)


def port_leaf(protocol: str, direction: str, low: int, high: int) -> Leaf:
    """Build ``[protocol] [direction] port|portrange value``."""
    kind, value = ("port", str(low)) if low == high else ("portrange", f"{low}-{high}")

    def holds(row: Row) -> bool:
        known = row.protocol in (6, 17, 132) and not row.fragment
        ends = (low <= port <= high for port in (row.src_port, row.dst_port))
        return known and PROTOCOLS[protocol](row) and DIRECTIONS[direction](*ends)

    return Leaf(f"{protocol} {direction} {kind}", value, holds)


@st.composite
def port_chains(draw: st.DrawFn) -> Tree:
    """Draw one or more port primitives of the same protocol and direction, so that these words can be left out."""
    protocol = draw(st.sampled_from(("", "ip", "ip6", "tcp", "udp", "sctp")))
    direction = draw(st.sampled_from(tuple(DIRECTIONS)))
    ranges = st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)).map(sorted)
    leaves = ranges.map(lambda ends: port_leaf(protocol, direction, *ends))
    return chain(draw(leaves), draw(st.lists(st.tuples(OPERATORS, leaves), max_size=3)))


def word_leaves() -> st.SearchStrategy[Leaf]:
    """Draw a primitive of one word, or of one keyword and a value."""
    leaves = [Leaf(word, "", holds) for word, holds in PROTOCOLS.items() if word]
    leaves += [
        Leaf("fragment", "", lambda row: row.fragment),
        Leaf("inbound", "", lambda row: not row.sent),
        Leaf("outbound", "", lambda row: row.sent),
        Leaf("vlan", "", lambda row: row.vlan is not None),
        Leaf("vlan", "0", lambda row: row.vlan == 0),
        Leaf("vlan", "4095", lambda row: row.vlan == 4095),
        Leaf("proto", "58", lambda row: row.protocol == 58),
        Leaf("proto", "gre", lambda row: row.protocol == 47),
        Leaf("ip6 proto", "icmp", lambda row: row.protocol == 1 and row.family == "ipv6"),
        Leaf("iface", "eth0", lambda row: row.ifindex == 1),
        Leaf("iface", "eth?", lambda row: row.ifindex in (1, 2)),
        Leaf("iface", "wlan*", lambda _row: False),
    ]
    return st.sampled_from(leaves)


def trees() -> st.SearchStrategy[Tree]:
    """Draw an expression."""
    return st.recursive(
        network_leaves() | port_chains() | word_leaves(),
        lambda part: (
            st.builds(Not, part) | st.builds(chain, part, st.lists(st.tuples(OPERATORS, part), min_size=1, max_size=4))
        ),
        max_leaves=12,
    )


def random_rows(seed: int) -> list[Row]:
    """Make a hundred flows from few values, so that most expressions hold for some of them."""
    generator = np.random.default_rng(seed)

    def choice(values: Sequence[T]) -> T:
        return values[int(generator.integers(len(values)))]

    result = []
    for _ in range(100):
        src = ip_address(choice(ADDRESSES))
        dst = ip_address(choice([text for text in ADDRESSES if (":" in text) == (src.version == 6)]))
        result.append(
            Row(
                choice((1, 6, 6, 17, 47, 58, 132, 255)),
                *(src, choice(PORTS), dst, choice(PORTS)),
                ifindex=choice((1, 2, 7, 99)),
                vlan=choice((None, 0, 1, 4095)),
                fragment=choice((False, False, True)),
                sent=choice((False, True)),
            )
        )
    return result


class Writer:
    """Writes a tree as text: with the parentheses that it needs and others, and without some words that it does not."""

    SPELLINGS: Final = {"and": ("and", "&&"), "or": ("or", "||"), "not": ("not", "!")}

    def __init__(self, draw: st.DrawFn) -> None:
        """Take every free choice from ``draw``."""
        self.draw = draw
        self.words: list[str] = []
        self.qualifiers = ""

    def write(self, tree: Tree, *, may_be_join: bool = True) -> None:
        """Append the words of ``tree``; a join goes into parentheses where it would be read otherwise."""
        if self.draw(st.integers(0, 5)) == 0 or (isinstance(tree, Join) and not may_be_join):
            self.words.append("(")
            self.write_bare(tree)
            self.words.append(")")
        else:
            self.write_bare(tree)

    def write_bare(self, tree: Tree) -> None:
        """Append the words of ``tree`` without parentheses around it."""
        match tree:
            case Leaf():
                self.write_leaf(tree)
            case Not():
                self.write_operator("not")
                self.write(tree.operand, may_be_join=False)
            case Join():
                self.write(tree.left)
                self.write_operator(tree.operator)
                self.write(tree.right, may_be_join=False)

    def write_operator(self, operator: str) -> None:
        """Append one of the spellings of ``operator``."""
        self.words.append(self.draw(st.sampled_from(self.SPELLINGS[operator])))

    def write_leaf(self, leaf: Leaf) -> None:
        """Append the words of ``leaf``, sometimes without qualifiers that are those of the leaf before."""
        repeated = leaf.value and leaf.qualifiers == self.qualifiers and leaf.qualifiers != "iface"
        if leaf.qualifiers.endswith("proto") and leaf.value.isalpha():  # "icmp" by itself means IPv4's
            repeated = False
        if not (repeated and self.draw(st.booleans())):
            self.words += leaf.qualifiers.split()
        self.words += leaf.value.split()
        self.qualifiers = leaf.qualifiers if leaf.value else ""

    def text(self) -> str:
        """Join the words with blanks, which may be left out beside a parenthesis."""
        result = ""
        for word in self.words:
            tight = result.endswith(("(", ")", "!", "&&", "||")) or word in ("(", ")", "&&", "||")
            result += self.draw(st.sampled_from((" ", "\t ", "") if tight else (" ", " \n"))) + word
        return result


@st.composite
def written_trees(draw: st.DrawFn) -> tuple[Tree, str]:
    """Draw an expression and one way to write it."""
    tree = draw(trees())
    writer = Writer(draw)
    writer.write(tree)
    return tree, writer.text()


@settings(deadline=None)
@given(written_trees(), st.integers(0, 1000).map(random_rows))
def test_masks_agree_with_a_reference_flow_by_flow(written: tuple[Tree, str], rows: list[Row]) -> None:
    """However an expression is written, its mask is what evaluating it on each flow gives."""
    tree, text = written
    by_family = sorted(rows, key=lambda row: row.family)
    assert selected(text, rows) == [row for row in by_family if tree.holds(row)]


# --- Refusals ---

ERRORS: Final = {
    "sorce net 10.0.0.0/8": "'sorce' at character 1: expected a keyword, or an IPv4 or IPv6 address or prefix; "
    "did you mean src?",
    "hsot ::1": "'hsot' at character 1: expected a keyword, or an IPv4 or IPv6 address or prefix; did you mean host?",
    "TCP": "'TCP' at character 1: expected a keyword, or an IPv4 or IPv6 address or prefix; did you mean tcp?",
    "tcp or 443": "'443' at character 8: expected a keyword, or an IPv4 or IPv6 address or prefix; "
    "did you mean port 443?",
    "tcp adn udp": "'adn' at character 5: expected 'and', 'or' or the end; did you mean and?",
    "tcp & udp": "'&' at character 5: expected 'and', 'or' or the end; did you mean &&?",
    "tcp proto 6": "'proto' at character 5: expected 'and', 'or' or the end",
    "tcp udp": "'udp' at character 5: expected 'and', 'or' or the end",
    "tcp)": "')' at character 4: expected 'and', 'or' or the end",
    "ip and (tcp or udp": "the end at character 19: expected 'and', 'or' or a ')' for character 8",
    "()": "')' at character 2: expected a keyword, or an IPv4 or IPv6 address or prefix",
    "tcp and": "the end at character 8: expected a keyword, or an IPv4 or IPv6 address or prefix",
    "src net 10.0.0.1/8": "'10.0.0.1/8' at character 9: host bits set; did you mean 10.0.0.0/8 or host 10.0.0.1?",
    "dst fe80::1/64": "'fe80::1/64' at character 5: host bits set; did you mean fe80::/64 or host fe80::1?",
    "host 10.0.0.0/8": "'10.0.0.0/8' at character 6: expected a numeric IPv4 or IPv6 address; "
    "did you mean net 10.0.0.0/8?",
    "host example.org": "'example.org' at character 6: expected a numeric IPv4 or IPv6 address",
    "host fe80::1%eth0": "'fe80::1%eth0' at character 6: expected a numeric IPv4 or IPv6 address",
    "host 10": "'10' at character 6: expected a numeric IPv4 or IPv6 address; did you mean net 10?",
    "net 10.0.0.0/255.0.0.0": "'10.0.0.0/255.0.0.0' at character 5: expected an IPv4 or IPv6 prefix",
    "net 10.0.0.0/33": "'10.0.0.0/33' at character 5: expected an IPv4 or IPv6 prefix",
    "ip host ::1": "'::1' at character 9: expected an IPv4 address",
    "icmp6 src 10.0.0.1": "'10.0.0.1' at character 11: expected an IPv6 address",
    "src 443": "'443' at character 5: expected an IPv4 or IPv6 address or prefix; did you mean port 443?",
    "src prot 80": "'prot' at character 5: expected an IPv4 or IPv6 address or prefix; did you mean port?",
    "src or port 80": "'port' at character 8: expected 'dst'",
    "port 65536": "'65536' at character 6: expected a port number (0-65535) or a name of /etc/services",
    "port ²": "'²' at character 6: expected a port number (0-65535) or a name of /etc/services",
    "port 1000-2000": "'1000-2000' at character 6: expected a port number (0-65535) or a name of /etc/services; "
    "did you mean portrange 1000-2000?",
    "port 80 and 10.0.0.1": "'10.0.0.1' at character 13: expected a keyword, or a port number (0-65535) or a name of "
    "/etc/services; did you mean host 10.0.0.1?",
    "portrange 80": "'80' at character 11: expected a port range such as 1000-2000, the lower first; "
    "did you mean port 80?",
    "portrange 9-1": "'9-1' at character 11: expected a port range such as 1000-2000, the lower first",
    "icmp port 80": "'80' at character 11: only tcp, udp and sctp have ports",
    "proto icmp7": "'icmp7' at character 7: expected a protocol number (0-255) or icmp, tcp, udp, gre, esp, ah, "
    "icmpv6, sctp, icmp6; did you mean icmp?",
    "vlan 4096": "'4096' at character 6: expected a VLAN id (0-4095)",
    "iface": "the end at character 6: expected an interface's name or a shell pattern",
    "iface eth0 and fragmet": "'fragmet' at character 16: expected a keyword, or an IPv4 or IPv6 address or prefix; "
    "did you mean fragment?",
    "inbound 10.0.0.1": "'10.0.0.1' at character 9: expected 'and', 'or' or the end",
    "outbond": "'outbond' at character 1: expected a keyword, or an IPv4 or IPv6 address or prefix; "
    "did you mean outbound?",
    "host \x1b[31m": r"'\x1b[31m' at character 6: expected a numeric IPv4 or IPv6 address",
    "x" * 100: f"'{'x' * 27}...{'x' * 28}' at character 1: expected a keyword, or an IPv4 or IPv6 address or prefix",
}


@pytest.mark.parametrize(("expression", "message"), ERRORS.items())
def test_refusals_say_where_what_and_the_nearest_word(expression: str, message: str) -> None:
    """Each message quotes the word and its position, and says what was expected and what was probably meant."""
    with pytest.raises(UsageError) as caught:
        compile_filter(expression)
    assert str(caught.value) == f"filter: {message}"


@pytest.mark.parametrize(("opening", "closing", "times"), [("(", ")", 50), ("!", "", 50), ("!(not((", ")))", 10)])
def test_depth_is_bounded(opening: str, closing: str, times: int) -> None:
    """Parentheses and negations nest fifty deep and no deeper."""
    assert selected(opening * times + "tcp" + closing * times, FLOWS.values()) == selected("tcp", FLOWS.values())
    with pytest.raises(UsageError, match="more than 50 parentheses and negations in one another"):
        compile_filter("(" + opening * times + "tcp" + closing * times + ")")


def test_parentheses_side_by_side_are_no_depth() -> None:
    """A hundred groups in a row are fine."""
    assert selected(" or ".join(["(not tcp)"] * 100), FLOWS.values()) == selected("not tcp", FLOWS.values())


def test_length_is_bounded_and_the_longest_is_evaluated() -> None:
    """An expression of 4,096 characters, alternating as often as it can, has its mask; one of 4,097 is refused."""
    longest = ("ip&&ip||" * MAX_LENGTH)[: MAX_LENGTH - 4] + "ip  "
    assert selected(longest, FLOWS.values()) == selected("ip", FLOWS.values())
    with pytest.raises(UsageError, match=r"^filter: 4097 characters, more than 4096$"):
        compile_filter(longest + " ")


def test_masks_of_no_flows_are_empty() -> None:
    """Every exact case gives an empty mask for empty columns."""
    for expression in CASES:
        assert selected(expression, []) == []


VOCABULARY: Final = (
    *("and", "or", "not", "(", ")", "!", "&&", "||", "&", "src", "dst", "host", "net", "port", "portrange", "proto"),
    *("tcp", "udp", "icmp", "icmp6", "sctp", "ip", "ip6", "iface", "vlan", "fragment", "inbound", "outbound"),
    *("10.0.0.1", "10.0.0.0/8"),
    *("10.0.0.1/8", "fe80::/10", "::1", "80", "443", "70000", "1-2", "2-1", "eth0", "[", "*", "%", "/", "10/"),
    *("\0", "\ud800"),
)


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(VOCABULARY)).map(" ".join))
def test_any_text_has_a_mask_or_one_line_of_refusal(text: str) -> None:
    """Whatever is typed, the answer is a mask or a ``UsageError`` of one printable line."""
    refusal = ""
    found: list[Row] = []
    try:
        found = selected(text, FLOWS.values())
    except UsageError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert set(found) <= set(FLOWS.values())
