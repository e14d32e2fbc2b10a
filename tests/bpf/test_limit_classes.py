"""How the class of a packet is chosen, which is what rules go by: the table of docs/limits.md, form by form."""

from __future__ import annotations

from typing import Final, NamedTuple, get_args

import pytest

from cnf.limits.table import Traffic
from tests.bpf.compare import XDP_PASS
from tests.bpf.forms import MANY
from tests.bpf.limited import Limited
from tests.bpf.packets import (
    AH,
    GRE,
    ICMP,
    SCTP,
    TCP,
    UDP,
    VLAN,
    DestinationOptions,
    Fragment,
    HopByHop,
    ICMPv6,
    IPv4,
    IPv6,
    Raw,
    Routing,
    frame,
)

NAMES: Final = get_args(Traffic)


class Class(NamedTuple):
    """A frame, and the class that it is of."""

    name: str
    frame: bytes
    traffic: str


def tcp(size: int, flags: str = "A") -> Raw:
    """Return the first ``size`` bytes of a TCP header."""
    whole = frame(IPv4(), TCP(flags=flags))[34:]
    return Raw(whole[:size], protocol=6)


CLASSES: Final = (
    # Where the header is there, it decides
    Class("SYN", frame(IPv4(), TCP(flags="S")), "tcp_syn"),
    Class("SYN and FIN", frame(IPv4(), TCP(flags="SF")), "tcp_syn"),
    Class("SYN and ACK", frame(IPv4(), TCP(flags="SA")), "tcp"),
    Class("RST", frame(IPv4(), TCP(flags="R")), "tcp"),
    Class("SYN behind options of IPv4", frame(IPv4(options=bytes(8)), TCP(flags="S")), "tcp_syn"),
    Class("SYN behind hop-by-hop options", frame(IPv6(), HopByHop(), TCP(flags="S")), "tcp_syn"),
    Class("SYN behind 4 priority tags", frame(*[VLAN(0)] * 4, IPv6(), TCP(flags="S")), "tcp_syn"),
    Class("SYN of length 0", frame(IPv4(total_length=0), TCP(flags="S")), "tcp_syn"),
    Class("ACK of length 0", frame(IPv6(payload_length=0), TCP(flags="A")), "tcp"),
    Class("UDP in two VLANs", frame(VLAN(5), VLAN(6), IPv4(), UDP()), "udp"),
    Class("UDP behind 7 headers of options", frame(IPv6(), *MANY[:7], UDP()), "udp"),
    Class("UDP behind 184 headers of options", frame(IPv6(), *MANY[:184], UDP()), "udp"),
    Class("UDP behind a routing header", frame(IPv6(), Routing(), UDP()), "udp"),
    Class("ICMP", frame(IPv4(), ICMP()), "icmp"),
    Class("ICMPv6", frame(IPv6(), ICMPv6()), "icmpv6"),
    Class("ICMPv6 in IPv4", frame(IPv4(), ICMPv6()), "other"),
    Class("ICMP in IPv6", frame(IPv6(), ICMP()), "other"),
    Class("SCTP", frame(IPv4(), SCTP()), "other"),
    Class("GRE around UDP", frame(IPv4(), GRE(), IPv4(), UDP()), "other"),
    Class("AH around UDP", frame(IPv4(), AH(), UDP()), "other"),
    Class("IPv4 in IPv4", frame(IPv4(), IPv4(), UDP()), "other"),
    # Where only the protocol's number is known, it decides
    Class("UDP of 7 bytes", frame(IPv4(), Raw(bytes(7), protocol=17)), "udp"),
    Class("UDP of 7 bytes, IPv6", frame(IPv6(), Raw(bytes(7), protocol=17)), "udp"),
    Class("UDP of no bytes behind options", frame(IPv6(), DestinationOptions(), Raw(protocol=17)), "udp"),
    Class("UDP that ends before its total length", frame(IPv4(total_length=1000), UDP()), "udp"),
    Class("UDP with options that are not there", frame(IPv4(header_length=15), UDP()), "udp"),
    Class("ICMP of 7 bytes", frame(IPv4(), Raw(bytes(7), protocol=1)), "icmp"),
    Class("ICMPv6 of 3 bytes", frame(IPv6(), Raw(bytes(3), protocol=58)), "icmpv6"),
    # TCP without flags that can be read may be a SYN
    Class("first fragment of TCP, 8 bytes", frame(IPv4(more=True), tcp(8)), "tcp_syn"),
    Class("first fragment of TCP, 16 bytes", frame(IPv4(more=True), tcp(16)), "tcp_syn"),
    Class("first fragment of TCP, a whole header", frame(IPv4(more=True), tcp(20), bytes(4)), "tcp"),
    Class("first fragment of SYN, a whole header", frame(IPv4(more=True), tcp(20, "S"), bytes(4)), "tcp_syn"),
    Class("first fragment of TCP, IPv6", frame(IPv6(), Fragment(more=True), tcp(8)), "tcp_syn"),
    Class("first fragment of no bytes", frame(IPv6(), Fragment(more=True), Raw(protocol=6)), "tcp_syn"),
    Class("TCP of 19 bytes", frame(IPv4(), tcp(19)), "tcp_syn"),
    Class("TCP with a data offset that cannot be", frame(IPv4(), TCP(data_offset=4)), "tcp_syn"),
    # First fragments are as if whole
    Class("first fragment of UDP", frame(IPv4(more=True), UDP(), bytes(8)), "udp"),
    Class("first fragment of UDP, IPv6", frame(IPv6(), Fragment(more=True), UDP()), "udp"),
    Class("atomic fragment", frame(IPv6(), Fragment(), UDP()), "udp"),
    Class("first fragment amid options", frame(IPv6(), *MANY[:3], Fragment(more=True), *MANY[:3], UDP()), "udp"),
    # Later ones have a class of their own
    Class("later fragment of TCP, at 8 bytes", frame(IPv4(offset=1), TCP(flags="S")), "fragment"),
    Class("later fragment of UDP", frame(IPv4(offset=9), UDP()), "fragment"),
    Class("later fragment of UDP, IPv6", frame(IPv6(), Fragment(offset=1), UDP()), "fragment"),
    Class("later fragment behind 20 headers", frame(IPv6(), *MANY[:20], Fragment(offset=1), UDP()), "fragment"),
    Class("later fragment of ESP", frame(IPv4(offset=9), Raw(bytes(8), protocol=50)), "fragment"),
    # Where nothing is known
    Class("185 headers of options", frame(IPv6(), *MANY[:185], UDP()), "other"),
    Class("options that are not there", frame(IPv6(), Raw(bytes(7), protocol=60)), "other"),
    Class("IPv4 of version 5", frame(IPv4(version=5), UDP()), "udp"),
    Class("IPv6 of version 5", frame(IPv6(version=5), UDP()), "other"),
)  # fmt: skip

each_class = pytest.mark.parametrize("case", CLASSES, ids=[case.name for case in CLASSES])


@each_class
def test_what_a_packet_is_to_the_rules(limited: Limited, case: Class) -> None:
    """A packet counts under the rule of its class, where each class has one."""
    prefixes = ["0.0.0.0/0", "::/0"]
    rules = [{"name": name, "protocols": [name], "prefixes": prefixes, "packets_per_second": 9} for name in NAMES]
    limited.start({"mode": "enforce", "rules": rules})

    assert limited.run(case.frame) == XDP_PASS

    assert limited.packets() == {case.traffic: {"passed": 1}}


LATER: Final = {
    "tcp": [frame(IPv4(offset=1), TCP()), frame(IPv6(), Fragment(offset=1), TCP())],
    "udp": [frame(IPv4(offset=1), UDP()), frame(IPv6(), *MANY[:9], Fragment(offset=1), UDP())],
    "icmp": [frame(IPv4(offset=1), ICMP())],
    "icmpv6": [frame(IPv6(), Fragment(offset=1), ICMPv6())],
    "other": [frame(IPv4(offset=1), SCTP()), frame(IPv6(), Fragment(offset=1), ICMP())],
}
"""Later fragments, by what they are of."""


@pytest.mark.parametrize("protocol", LATER)
def test_later_fragments_are_of_their_protocol_without_a_rule_for_fragments(limited: Limited, protocol: str) -> None:
    """They take from the bucket of their protocol's rule, and of no other."""
    prefixes = ["0.0.0.0/0", "::/0"]
    rules = [{"name": name, "protocols": [name], "prefixes": prefixes, "packets_per_second": 9} for name in LATER]
    limited.start({"mode": "enforce", "rules": rules})

    for packet in LATER[protocol]:
        assert limited.run(packet) == XDP_PASS

    assert limited.packets() == {protocol: {"passed": len(LATER[protocol])}}
