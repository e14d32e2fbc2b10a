"""The table of packet forms: a name, a frame, and what must be counted for it.

What is expected stands as literals, written by hand from the RFCs; no parser has computed any of it. Where a line says
nothing else, ports and addresses are the defaults of the builder.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final, NamedTuple

from tests.bpf.packets import (
    AH,
    ARP,
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
    Layer,
    Raw,
    Routing,
    frame,
)
from tests.bpf.reference import Key, Reason

SERVICE: Final = 0x88A8  # the type of the outer tag of 802.1ad
NOP: Final = b"\x01"  # the one-byte option of IPv4 and of TCP
LONGEST: Final = 3520
"""Bytes of the longest frame that BPF_PROG_TEST_RUN shows the program whole: a page of 4,096 less 256 of headroom and
320 of skb_shared_info behind the packet (net/bpf/test_run.c)."""

UNSPECIFIED: Final = str(IPv4Address(0))
EXTENSIONS: Final[tuple[Layer, ...]] = (
    HopByHop(),
    DestinationOptions(bytes(14)),
    Routing(bytes(22)),
    Fragment(),
    DestinationOptions(),
    Routing(),
    Fragment(),
    DestinationOptions(),
)
MANY: Final = (DestinationOptions(),) * 200


class Form(NamedTuple):
    """A frame and what it is counted as: ``reason`` if it is malformed, ``key`` if it belongs to a flow."""

    name: str
    frame: bytes
    label: str
    reason: Reason | None = None
    key: Key | None = None
    tcp_flags: int = 0


def flow(name: str, packet: bytes, label: str, key: Key, tcp_flags: int = 0) -> Form:
    """Return a form that belongs to a flow."""
    return Form(name, packet, label, None, key, tcp_flags)


def bad(name: str, packet: bytes, reason: Reason) -> Form:
    """Return a form that cannot be parsed."""
    return Form(name, packet, "malformed", reason)


def other(name: str, packet: bytes) -> Form:
    """Return a form that is not IP."""
    return Form(name, packet, "non_ip")


def v4(protocol: int, src_port: int = 0, dst_port: int = 0, vlan: int | None = None, *, fragment: bool = False) -> Key:
    """Return a key between 192.0.2.1 and 198.51.100.2."""
    return Key("ipv4", b"\xc0\x00\x02\x01", b"\xc6\x33\x64\x02", src_port, dst_port, protocol, vlan, fragment)


def v6(protocol: int, src_port: int = 0, dst_port: int = 0, vlan: int | None = None, *, fragment: bool = False) -> Key:
    """Return a key between 2001:db8::1 and 2001:db8::2."""
    net = b"\x20\x01\x0d\xb8" + bytes(11)
    return Key("ipv6", net + b"\x01", net + b"\x02", src_port, dst_port, protocol, vlan, fragment)


VLAN_FORMS: Final = (
    flow("no tag", frame(IPv4(), UDP(), bytes(18)), "udp", v4(17, 40000, 53)),
    flow("802.1Q", frame(VLAN(5), IPv4(), UDP()), "udp", v4(17, 40000, 53, 5)),
    flow("802.1Q IPv6", frame(VLAN(5), IPv6(), UDP()), "udp", v6(17, 40000, 53, 5)),
    flow("802.1ad", frame(VLAN(5, SERVICE), IPv4(), UDP()), "udp", v4(17, 40000, 53, 5)),
    flow("QinQ 802.1ad 802.1Q", frame(VLAN(100, SERVICE), VLAN(5), IPv4(), UDP()), "udp", v4(17, 40000, 53, 100)),
    flow("QinQ IPv6", frame(VLAN(100, SERVICE), VLAN(5), IPv6(), TCP()), "tcp", v6(6, 40000, 443, 100), 0x10),
    flow("QinQ 802.1Q 802.1Q", frame(VLAN(7), VLAN(8), IPv4(), UDP()), "udp", v4(17, 40000, 53, 7)),
    flow("QinQ 802.1ad 802.1ad", frame(VLAN(7, SERVICE), VLAN(8, SERVICE), IPv4(), UDP()), "udp", v4(17, 40000, 53, 7)),
    flow("QinQ 802.1Q 802.1ad", frame(VLAN(7), VLAN(8, SERVICE), IPv4(), UDP()), "udp", v4(17, 40000, 53, 7)),
    flow("priority tag", frame(VLAN(0, priority=5), IPv4(), UDP()), "udp", v4(17, 40000, 53, 0)),
    flow("priority tag around a tag", frame(VLAN(0), VLAN(5), IPv4(), UDP()), "udp", v4(17, 40000, 53, 0)),
    flow(
        "tag of all ones",
        frame(VLAN(4095, priority=7, drop_eligible=True), IPv4(), UDP()),
        "udp",
        v4(17, 40000, 53, 4095),
    ),
    *(
        flow(f"{count} priority tags", frame(*[VLAN(0)] * count, IPv4(), UDP()), "udp", v4(17, 40000, 53, 0))
        for count in (2, 3, 4, 20, 374)
    ),
    flow("3 priority tags, IPv6", frame(*[VLAN(0)] * 3, IPv6(), TCP()), "tcp", v6(6, 40000, 443, 0), 0x10),
    flow("3 priority tags, options", frame(*[VLAN(0)] * 3, IPv4(options=NOP * 8), UDP()), "udp", v4(17, 40000, 53, 0)),
    flow(
        "priority tags, 802.1Q and 802.1ad by turns",
        frame(VLAN(0), VLAN(0, SERVICE), VLAN(0), VLAN(0, SERVICE), IPv6(), *EXTENSIONS, UDP()),
        "udp",
        v6(17, 40000, 53, 0),
    ),
    flow(
        "priority tags around and between two tags",
        frame(VLAN(0), VLAN(7, SERVICE), VLAN(0, priority=7), VLAN(8), VLAN(0), IPv4(), UDP()),
        "udp",
        v4(17, 40000, 53, 0),
    ),
    flow("tag around 3 priority tags", frame(VLAN(7), *[VLAN(0)] * 3, IPv4(), UDP()), "udp", v4(17, 40000, 53, 7)),
    other("3 priority tags around ARP", frame(*[VLAN(0)] * 3, ARP())),
    other("3 priority tags around 802.3 length", frame(*[VLAN(0)] * 3, Raw(bytes(38), ethertype=38))),
    bad("375 priority tags", frame(*[VLAN(0)] * 375, IPv4(), UDP()), "vlan_depth"),
    bad(
        "3 tags between priority tags", frame(VLAN(1), VLAN(0), VLAN(2), VLAN(0), VLAN(3), IPv4(), UDP()), "vlan_depth"
    ),
    bad("3 priority tags, the last not there", frame(VLAN(0), VLAN(0), Raw(ethertype=0x8100)), "truncated"),
    bad("3 tags", frame(VLAN(1, SERVICE), VLAN(2), VLAN(3), IPv4(), UDP()), "vlan_depth"),
    bad("4 tags", frame(VLAN(1), VLAN(2), VLAN(3), VLAN(4), IPv6(), TCP()), "vlan_depth"),
    bad("5 tags", frame(VLAN(1), VLAN(2), VLAN(3), VLAN(4), VLAN(5), IPv4(), UDP()), "vlan_depth"),
    bad("3 tags, the last not there", frame(VLAN(1), VLAN(2), Raw(ethertype=0x8100)), "truncated"),
    bad("3 tags around ARP", frame(VLAN(1), VLAN(2), VLAN(3), ARP()), "vlan_depth"),
    bad("tag not there", frame(Raw(ethertype=0x8100)), "truncated"),
    bad("tag of 3 bytes", frame(Raw(b"\x00\x05\x08", ethertype=0x8100)), "truncated"),
    bad("second tag not there", frame(VLAN(1, SERVICE), Raw(ethertype=0x8100)), "truncated"),
    bad("tag around IPv4 not there", frame(VLAN(1), Raw(ethertype=0x0800)), "truncated"),
    bad("tag around bad IPv4", frame(VLAN(1), IPv4(version=5), UDP()), "bad_header"),
)

NON_IP_FORMS: Final = (
    other("ARP request", frame(ARP(), dst="ff:ff:ff:ff:ff:ff", pad_to=60)),
    other("ARP reply", frame(ARP(operation=2))),
    other("tag around ARP", frame(VLAN(5), ARP())),
    other("QinQ around ARP", frame(VLAN(5, SERVICE), VLAN(6), ARP())),
    other("RARP", frame(Raw(bytes(28), ethertype=0x8035))),
    other("LLDP", frame(Raw(bytes.fromhex("0207040200000000010000"), ethertype=0x88CC), dst="01:80:c2:00:00:0e")),
    other("tag around LLDP", frame(VLAN(5), Raw(bytes.fromhex("0207040200000000010000"), ethertype=0x88CC))),
    other("802.3 length, LLC, spanning tree", frame(Raw(b"\x42\x42\x03" + bytes(35), ethertype=38), pad_to=60)),
    other("802.3 length, SNAP around IPv4", frame(Raw(b"\xaa\xaa\x03\0\0\0\x08\0", ethertype=36), IPv4(), UDP())),
    other("tag around 802.3 length", frame(VLAN(5), Raw(b"\x42\x42\x03" + bytes(35), ethertype=38))),
    other("MPLS around IPv4", frame(Raw(b"\x00\x01\x01\x40", ethertype=0x8847), IPv4(), UDP())),
    other("MPLS multicast", frame(Raw(b"\x00\x01\x01\x40", ethertype=0x8848), IPv6(), UDP())),
    other("PPPoE session around IPv4", frame(Raw(b"\x11\0\0\x01\0\x1e\0\x21", ethertype=0x8864), IPv4(), UDP())),
    other("EAPOL", frame(Raw(b"\x02\x01\0\0", ethertype=0x888E))),
    other("pause frame", frame(Raw(b"\0\x01\xff\xff", ethertype=0x8808), dst="01:80:c2:00:00:01", pad_to=60)),
    other("precision time", frame(Raw(bytes(44), ethertype=0x88F7))),
    other("tag type 0x9100, before 802.1ad", frame(VLAN(5, 0x9100), IPv4(), UDP())),
    other("type 0", frame(Raw(ethertype=0), IPv4(), UDP())),
    other("type 0xffff", frame(Raw(ethertype=0xFFFF))),
    other("14 bytes of another type", frame()),
    bad("14 bytes of type IPv4", frame(Raw(ethertype=0x0800)), "truncated"),
    bad("14 bytes of type IPv6", frame(Raw(ethertype=0x86DD)), "truncated"),
    bad("14 bytes of type 802.1ad", frame(Raw(ethertype=SERVICE)), "truncated"),
)

IPV4_FORMS: Final = (
    *(
        flow(f"IPv4 header length {5 + words}", frame(IPv4(options=NOP * 4 * words), UDP()), "udp", v4(17, 40000, 53))
        for words in range(11)
    ),
    *(
        bad(f"IPv4 header length {words}", frame(IPv4(header_length=words), UDP(), bytes(40)), "bad_header")
        for words in range(5)
    ),
    flow("IPv4 router alert, IGMP", frame(IPv4(options=b"\x94\x04\0\0"), Raw(bytes(8), protocol=2)), "other", v4(2)),
    bad("IPv4 header length beyond the frame", frame(IPv4(header_length=15), UDP()), "truncated"),
    bad(
        "IPv4 header length beyond the frame by 1", frame(IPv4(header_length=6, total_length=23), bytes(3)), "truncated"
    ),
    bad("IPv4 header length over the UDP header", frame(IPv4(header_length=6), UDP()), "truncated"),
    bad(
        "IPv4 header length beyond total length",
        frame(IPv4(header_length=15, total_length=28), bytes(40)),
        "bad_header",
    ),
    bad("IPv4 version 0", frame(IPv4(version=0), UDP()), "bad_header"),
    bad("IPv4 version 6", frame(IPv4(version=6), UDP(), bytes(40)), "bad_header"),
    bad("IPv4 version 15", frame(IPv4(version=15), UDP()), "bad_header"),
    bad("IPv6 header under the type of IPv4", frame(Raw(ethertype=0x0800), IPv6(), UDP()), "bad_header"),
    bad("IPv4 header of 19 bytes", frame(Raw(b"\x45" + bytes(18), ethertype=0x0800)), "truncated"),
    flow("IPv4 total length 0", frame(IPv4(total_length=0), UDP()), "udp", v4(17, 40000, 53)),
    flow("IPv4 total length 0, TCP", frame(IPv4(total_length=0), TCP(), bytes(3000)), "tcp", v4(6, 40000, 443), 0x10),
    flow("IPv4 total length 0, options", frame(IPv4(options=NOP * 8, total_length=0), UDP()), "udp", v4(17, 40000, 53)),
    bad("IPv4 total length 0, UDP of 7 bytes", frame(IPv4(total_length=0), Raw(bytes(7), protocol=17)), "truncated"),
    bad("IPv4 total length 1", frame(IPv4(total_length=1), UDP()), "bad_header"),
    bad("IPv4 total length 19", frame(IPv4(total_length=19), UDP()), "bad_header"),
    bad("IPv4 total length 20, UDP", frame(IPv4(total_length=20), UDP()), "truncated"),
    bad("IPv4 total length 23 with options", frame(IPv4(options=NOP * 4, total_length=23), UDP()), "bad_header"),
    bad("IPv4 total length one short for UDP", frame(IPv4(total_length=27), UDP(), bytes(9)), "truncated"),
    bad("IPv4 total length one short for TCP", frame(IPv4(total_length=39), TCP(), bytes(9)), "truncated"),
    bad("IPv4 total length one beyond the frame", frame(IPv4(total_length=29), UDP()), "truncated"),
    bad("IPv4 total length 65535", frame(IPv4(total_length=65535), UDP(), bytes(100)), "truncated"),
    flow("IPv4 total length exact for UDP", frame(IPv4(total_length=28), UDP(), bytes(9)), "udp", v4(17, 40000, 53)),
    flow("IPv4 padded to 60, UDP", frame(IPv4(), UDP(), pad_to=60), "udp", v4(17, 40000, 53)),
    flow("IPv4 padded to 60, TCP", frame(IPv4(), TCP(), pad_to=60), "tcp", v4(6, 40000, 443), 0x10),
    bad("IPv4 padded to 60, TCP of 12 bytes", frame(IPv4(), Raw(bytes(12), protocol=6), pad_to=60), "truncated"),
    flow("IPv4 without payload", frame(IPv4(), Raw(protocol=253)), "other", v4(253)),
    flow("IPv4 do not fragment", frame(IPv4(dont_fragment=True), UDP()), "udp", v4(17, 40000, 53)),
    flow("IPv4 reserved fragment bit", frame(IPv4(reserved_bit=True), UDP()), "udp", v4(17, 40000, 53)),
    flow("IPv4 first fragment", frame(IPv4(more=True), UDP(), bytes(16)), "udp", v4(17, 40000, 53)),
    flow("IPv4 first fragment of TCP", frame(IPv4(more=True), TCP(), bytes(4)), "tcp", v4(6, 40000, 443), 0x10),
    bad("IPv4 tiny first fragment", frame(IPv4(more=True), Raw(bytes(8), protocol=6)), "truncated"),
    flow("IPv4 middle fragment", frame(IPv4(more=True, offset=185), UDP(7, 9)), "udp", v4(17, fragment=True)),
    flow("IPv4 last fragment", frame(IPv4(offset=370), UDP(7, 9)), "udp", v4(17, fragment=True)),
    flow("IPv4 fragment at 8 bytes", frame(IPv4(offset=1), TCP(7, 9, "S")), "tcp", v4(6, fragment=True)),
    flow("IPv4 fragment at 32768 bytes", frame(IPv4(offset=4096), SCTP(7, 9)), "sctp", v4(132, fragment=True)),
    flow("IPv4 fragment at 65528 bytes", frame(IPv4(offset=8191), SCTP(7, 9)), "sctp", v4(132, fragment=True)),
    flow("IPv4 fragment of 1 byte", frame(IPv4(offset=9), Raw(b"x", protocol=6)), "tcp", v4(6, fragment=True)),
    flow("IPv4 fragment of no bytes", frame(IPv4(offset=9), Raw(protocol=17)), "udp", v4(17, fragment=True)),
    flow("IPv4 fragment of ICMP", frame(IPv4(offset=9), ICMP(3, 3)), "icmp", v4(1, fragment=True)),
    flow("IPv4 fragment of ICMPv6", frame(IPv4(offset=9), ICMPv6()), "other", v4(58, fragment=True)),
    flow("IPv4 fragment of ESP", frame(IPv4(offset=9), Raw(bytes(8), protocol=50)), "esp", v4(50, fragment=True)),
    flow("IPv4 fragment with options", frame(IPv4(options=NOP * 40, offset=9), UDP()), "udp", v4(17, fragment=True)),
    flow("IPv4 fragment in a VLAN", frame(VLAN(5), IPv4(offset=9), UDP()), "udp", v4(17, vlan=5, fragment=True)),
    bad("IPv4 fragment beyond the frame", frame(IPv4(offset=9, total_length=29), UDP()), "truncated"),
    flow("IPv4 of the longest frame", frame(IPv4(), UDP(), bytes(LONGEST - 42)), "udp", v4(17, 40000, 53)),
)

IPV6_FORMS: Final = (
    *(
        flow(
            f"IPv6 with {count} extension headers", frame(IPv6(), *EXTENSIONS[:count], UDP()), "udp", v6(17, 40000, 53)
        )
        for count in range(9)
    ),
    *(
        flow(f"IPv6 with {count} extension headers", frame(IPv6(), *MANY[:count], UDP()), "udp", v6(17, 40000, 53))
        for count in (20, 184)
    ),
    *(
        bad(f"IPv6 with {count} extension headers", frame(IPv6(), *MANY[:count], UDP()), "ext_header_depth")
        for count in (185, 200)
    ),
    flow("IPv6 with 6 extension headers, TCP", frame(IPv6(), *EXTENSIONS[2:], TCP()), "tcp", v6(6, 40000, 443), 0x10),
    bad("IPv6 185th extension header not there", frame(IPv6(), *MANY[:184], Raw(protocol=60)), "ext_header_depth"),
    bad("IPv6 sixth extension header not there", frame(IPv6(), *EXTENSIONS[:5], Raw(protocol=60)), "truncated"),
    flow("IPv6 hop-by-hop of 2048 bytes", frame(IPv6(), HopByHop(bytes(2046)), UDP()), "udp", v6(17, 40000, 53)),
    bad("IPv6 extension header length beyond the packet", frame(IPv6(), HopByHop(length=255), UDP()), "truncated"),
    bad("IPv6 extension header length over UDP", frame(IPv6(), Routing(length=1), UDP()), "truncated"),
    bad(
        "IPv6 extension header length into the padding",
        frame(IPv6(), HopByHop(length=2), UDP(), pad_to=90),
        "truncated",
    ),
    flow(
        "IPv6 extension header length over UDP, into its data",
        frame(IPv6(), DestinationOptions(length=1), UDP(), b"\x00\x07\x00\x09" + bytes(4)),
        "udp",
        v6(17, 7, 9),
    ),
    bad("IPv6 extension header of 7 bytes", frame(IPv6(), Raw(b"\x11" + bytes(6), protocol=60)), "truncated"),
    bad("IPv6 fragment header of 7 bytes", frame(IPv6(), Raw(b"\x11" + bytes(6), protocol=44), pad_to=80), "truncated"),
    flow("IPv6 hop-by-hop, no next header", frame(IPv6(), HopByHop(), Raw(protocol=59)), "other", v6(59)),
    flow("IPv6 no next header", frame(IPv6(), Raw(protocol=59)), "other", v6(59)),
    flow("IPv6 mobility header", frame(IPv6(), Raw(b"\x3b" + bytes(7), protocol=135)), "other", v6(135)),
    flow("IPv6 host identity header", frame(IPv6(), Raw(b"\x3b" + bytes(39), protocol=139)), "other", v6(139)),
    flow(
        "IPv6 class and flow label", frame(IPv6(traffic_class=255, flow_label=1048575), UDP()), "udp", v6(17, 40000, 53)
    ),
    bad("IPv6 version 4", frame(IPv6(version=4), UDP()), "bad_header"),
    bad("IPv6 version 7", frame(IPv6(version=7), UDP()), "bad_header"),
    bad("IPv4 header under the type of IPv6", frame(Raw(ethertype=0x86DD), IPv4(), UDP(), bytes(20)), "bad_header"),
    bad("IPv6 header of 39 bytes", frame(Raw(b"\x60" + bytes(38), ethertype=0x86DD)), "truncated"),
    flow("IPv6 payload length 0, TCP", frame(IPv6(payload_length=0), TCP()), "tcp", v6(6, 40000, 443), 0x10),
    flow(
        "IPv6 payload length 0, destination options",
        frame(IPv6(payload_length=0), EXTENSIONS[1], UDP()),
        "udp",
        v6(17, 40000, 53),
    ),
    bad(
        "IPv6 payload length 0, UDP of 7 bytes", frame(IPv6(payload_length=0), Raw(bytes(7), protocol=17)), "truncated"
    ),
    bad("IPv6 payload length one short for UDP", frame(IPv6(payload_length=7), UDP()), "truncated"),
    bad("IPv6 payload length one short, options", frame(IPv6(payload_length=23), EXTENSIONS[1], UDP()), "truncated"),
    bad("IPv6 payload length one beyond the frame", frame(IPv6(payload_length=9), UDP()), "truncated"),
    bad("IPv6 payload length 65535", frame(IPv6(payload_length=65535), UDP()), "truncated"),
    flow("IPv6 payload length exact for UDP", frame(IPv6(payload_length=8), UDP(), bytes(9)), "udp", v6(17, 40000, 53)),
    flow("IPv6 padded", frame(IPv6(), UDP(), pad_to=80), "udp", v6(17, 40000, 53)),
    flow(
        "IPv6 jumbogram",
        frame(IPv6(payload_length=0), HopByHop(b"\xc2\x04\x00\x01\x00\x08"), UDP()),
        "udp",
        v6(17, 40000, 53),
    ),
    bad("IPv6 jumbogram without its option", frame(IPv6(payload_length=0), Raw(protocol=0)), "truncated"),
    flow("IPv6 first fragment", frame(IPv6(), Fragment(more=True), UDP(), bytes(16)), "udp", v6(17, 40000, 53)),
    flow("IPv6 atomic fragment", frame(IPv6(), Fragment(), UDP()), "udp", v6(17, 40000, 53)),
    flow("IPv6 middle fragment", frame(IPv6(), Fragment(181, more=True), UDP(7, 9)), "udp", v6(17, fragment=True)),
    flow("IPv6 last fragment", frame(IPv6(), Fragment(362), UDP(7, 9)), "udp", v6(17, fragment=True)),
    flow("IPv6 fragment at 8 bytes", frame(IPv6(), Fragment(1), TCP(7, 9, "S")), "tcp", v6(6, fragment=True)),
    flow("IPv6 fragment at 32768 bytes", frame(IPv6(), Fragment(4096), SCTP(7, 9)), "sctp", v6(132, fragment=True)),
    flow("IPv6 fragment at 65528 bytes", frame(IPv6(), Fragment(8191), SCTP(7, 9)), "sctp", v6(132, fragment=True)),
    flow("IPv6 fragment of no bytes", frame(IPv6(), Fragment(9), Raw(protocol=6)), "tcp", v6(6, fragment=True)),
    flow("IPv6 fragment of ICMPv6", frame(IPv6(), Fragment(9), ICMPv6()), "icmpv6", v6(58, fragment=True)),
    flow("IPv6 fragment of ICMP", frame(IPv6(), Fragment(9), ICMP()), "other", v6(1, fragment=True)),
    flow("IPv6 fragment of options", frame(IPv6(), Fragment(9), EXTENSIONS[1], UDP()), "other", v6(60, fragment=True)),
    flow("IPv6 fragment as sixth", frame(IPv6(), *EXTENSIONS[:5], Fragment(9), UDP()), "udp", v6(17, fragment=True)),
    flow("IPv6 fragment as 184th", frame(IPv6(), *MANY[:183], Fragment(9), UDP()), "udp", v6(17, fragment=True)),
    bad("IPv6 fragment as 185th", frame(IPv6(), *MANY[:184], Fragment(9), UDP()), "ext_header_depth"),
    flow(
        "IPv6 fragment of a fragment",
        frame(IPv6(), Fragment(more=True), Fragment(9), UDP()),
        "udp",
        v6(17, fragment=True),
    ),
    flow("IPv6 fragment in a VLAN", frame(VLAN(5), IPv6(), Fragment(9), UDP()), "udp", v6(17, vlan=5, fragment=True)),
    bad("IPv6 tiny first fragment", frame(IPv6(), Fragment(more=True), Raw(bytes(7), protocol=17)), "truncated"),
    flow("IPv6 fragment, reserved bits", frame(IPv6(), Fragment(reserved_bits=3), UDP()), "udp", v6(17, 40000, 53)),
    flow("IPv6 fragment, reserved byte", frame(IPv6(), Fragment(reserved=255), UDP()), "udp", v6(17, 40000, 53)),
    flow("IPv6 of the longest frame", frame(IPv6(), TCP(), bytes(LONGEST - 74)), "tcp", v6(6, 40000, 443), 0x10),
)

TRANSPORT_FORMS: Final = (
    flow("TCP FIN", frame(IPv4(), TCP(flags="F")), "tcp", v4(6, 40000, 443), 0x01),
    flow("TCP SYN", frame(IPv4(), TCP(flags="S")), "tcp", v4(6, 40000, 443), 0x02),
    flow("TCP RST", frame(IPv4(), TCP(flags="R")), "tcp", v4(6, 40000, 443), 0x04),
    flow("TCP PSH", frame(IPv4(), TCP(flags="P")), "tcp", v4(6, 40000, 443), 0x08),
    flow("TCP ACK", frame(IPv4(), TCP(flags="A")), "tcp", v4(6, 40000, 443), 0x10),
    flow("TCP URG", frame(IPv4(), TCP(flags="U")), "tcp", v4(6, 40000, 443), 0x20),
    flow("TCP ECE", frame(IPv4(), TCP(flags="E")), "tcp", v4(6, 40000, 443), 0x40),
    flow("TCP CWR", frame(IPv4(), TCP(flags="W")), "tcp", v4(6, 40000, 443), 0x80),
    flow("TCP no flag", frame(IPv4(), TCP(flags="")), "tcp", v4(6, 40000, 443)),
    flow("TCP every flag", frame(IPv4(), TCP(flags="SAPFRUEW")), "tcp", v4(6, 40000, 443), 0xFF),
    flow("TCP reserved bits", frame(IPv4(), TCP(reserved=15)), "tcp", v4(6, 40000, 443), 0x10),
    flow("TCP in IPv6", frame(IPv6(), TCP(flags="SA")), "tcp", v6(6, 40000, 443), 0x12),
    flow("TCP data", frame(IPv4(), TCP(flags="AP"), b"GET / HTTP/1.1\r\n"), "tcp", v4(6, 40000, 443), 0x18),
    flow("TCP options", frame(IPv4(), TCP(options=NOP * 12)), "tcp", v4(6, 40000, 443), 0x10),
    flow("TCP data offset 15", frame(IPv6(), TCP(options=NOP * 40)), "tcp", v6(6, 40000, 443), 0x10),
    bad("TCP data offset 0", frame(IPv4(), TCP(data_offset=0), bytes(40)), "bad_header"),
    bad("TCP data offset 4", frame(IPv6(), TCP(data_offset=4), bytes(40)), "bad_header"),
    bad("TCP data offset beyond the packet", frame(IPv4(), TCP(data_offset=15)), "truncated"),
    bad("TCP data offset beyond by 1 byte", frame(IPv4(), TCP(data_offset=6), bytes(3)), "truncated"),
    bad("TCP data offset into the padding", frame(IPv4(), TCP(data_offset=6), pad_to=60), "truncated"),
    bad("TCP of 19 bytes", frame(IPv6(), Raw(bytes(12) + b"\x50" + bytes(6), protocol=6)), "truncated"),
    flow("TCP ports 0", frame(IPv4(), TCP(0, 0)), "tcp", v4(6, 0, 0), 0x10),
    flow("TCP ports 65535", frame(IPv4(), TCP(65535, 65535)), "tcp", v4(6, 65535, 65535), 0x10),
    flow("UDP port 0", frame(IPv4(), UDP(0, 53)), "udp", v4(17, 0, 53)),
    flow("UDP data", frame(IPv6(), UDP(), b"hello"), "udp", v6(17, 40000, 53)),
    flow("UDP length 0", frame(IPv4(), UDP(length=0)), "udp", v4(17, 40000, 53)),
    flow("UDP length 7", frame(IPv4(), UDP(length=7)), "udp", v4(17, 40000, 53)),
    flow("UDP length beyond the packet", frame(IPv4(), UDP(length=65535)), "udp", v4(17, 40000, 53)),
    bad("UDP of 7 bytes", frame(IPv4(), Raw(bytes(7), protocol=17)), "truncated"),
    flow("SCTP", frame(IPv4(), SCTP(), bytes(4)), "sctp", v4(132, 40000, 3868)),
    flow("SCTP of 12 bytes in IPv6", frame(IPv6(), SCTP()), "sctp", v6(132, 40000, 3868)),
    bad("SCTP of 11 bytes", frame(IPv4(), Raw(bytes(11), protocol=132)), "truncated"),
    flow("ICMP echo request", frame(IPv4(), ICMP(8, 0), b"ping"), "icmp", v4(1, 8, 0)),
    flow("ICMP echo reply", frame(IPv4(), ICMP(0, 0), b"ping"), "icmp", v4(1, 0, 0)),
    flow("ICMP port unreachable", frame(IPv4(), ICMP(3, 3), IPv4(), UDP()), "icmp", v4(1, 3, 3)),
    flow("ICMP fragmentation needed", frame(IPv4(), ICMP(3, 4), IPv4(), TCP()), "icmp", v4(1, 3, 4)),
    flow("ICMP time exceeded", frame(IPv4(), ICMP(11, 0), IPv4(), UDP()), "icmp", v4(1, 11, 0)),
    flow("ICMP redirect", frame(IPv4(), ICMP(5, 1), IPv4(), UDP()), "icmp", v4(1, 5, 1)),
    flow("ICMP type and code 255", frame(IPv4(), ICMP(255, 255)), "icmp", v4(1, 255, 255)),
    bad("ICMP of 7 bytes", frame(IPv4(), Raw(bytes(7), protocol=1)), "truncated"),
    flow("ICMP in IPv6", frame(IPv6(), ICMP(8, 0)), "other", v6(1)),
    flow("ICMPv6 echo request", frame(IPv6(), ICMPv6(128, 0), b"ping"), "icmpv6", v6(58, 128, 0)),
    flow("ICMPv6 echo reply", frame(IPv6(), ICMPv6(129, 0), b"ping"), "icmpv6", v6(58, 129, 0)),
    flow("ICMPv6 port unreachable", frame(IPv6(), ICMPv6(1, 4), bytes(4), IPv6(), UDP()), "icmpv6", v6(58, 1, 4)),
    flow("ICMPv6 packet too big", frame(IPv6(), ICMPv6(2, 0), bytes(4), IPv6(), TCP()), "icmpv6", v6(58, 2, 0)),
    flow("ICMPv6 router solicitation", frame(IPv6(), ICMPv6(133), bytes(4)), "icmpv6", v6(58, 133, 0)),
    flow("ICMPv6 router advertisement", frame(IPv6(), ICMPv6(134), bytes(12)), "icmpv6", v6(58, 134, 0)),
    flow("ICMPv6 neighbour solicitation", frame(IPv6(), ICMPv6(135), bytes(28)), "icmpv6", v6(58, 135, 0)),
    flow("ICMPv6 neighbour advertisement", frame(IPv6(), ICMPv6(136), bytes(28)), "icmpv6", v6(58, 136, 0)),
    flow("ICMPv6 listener report", frame(IPv6(), HopByHop(), ICMPv6(143), bytes(24)), "icmpv6", v6(58, 143, 0)),
    flow("ICMPv6 of 4 bytes", frame(IPv6(), ICMPv6(255, 255)), "icmpv6", v6(58, 255, 255)),
    bad("ICMPv6 of 3 bytes", frame(IPv6(), Raw(bytes(3), protocol=58)), "truncated"),
    flow("ICMPv6 in IPv4", frame(IPv4(), ICMPv6()), "other", v4(58)),
    flow("GRE", frame(IPv4(), GRE(), IPv4(), TCP()), "gre", v4(47)),
    flow("GRE in IPv6", frame(IPv6(), GRE(), IPv6(), UDP()), "gre", v6(47)),
    flow("GRE without a byte", frame(IPv4(), Raw(protocol=47)), "gre", v4(47)),
    flow("ESP", frame(IPv4(), Raw(bytes(40), protocol=50)), "esp", v4(50)),
    flow("ESP in IPv6", frame(IPv6(), DestinationOptions(), Raw(bytes(40), protocol=50)), "esp", v6(50)),
    flow("AH around TCP", frame(IPv4(), AH(), TCP()), "other", v4(51)),
    flow("AH around UDP in IPv6", frame(IPv6(), HopByHop(), AH(), UDP()), "other", v6(51)),
    flow("IPv4 in IPv4", frame(IPv4(), IPv4("10.0.0.1", "10.0.0.2"), TCP()), "other", v4(4)),
    flow("IPv6 in IPv4", frame(IPv4(), IPv6(), TCP()), "other", v4(41)),
    flow("IPv4 in IPv6", frame(IPv6(), IPv4(), TCP()), "other", v6(4)),
    flow("IPv6 in IPv6", frame(IPv6(), IPv6(), TCP()), "other", v6(41)),
    flow("protocol 0 in IPv4", frame(IPv4(), HopByHop(), UDP()), "other", v4(0)),
    flow("protocol 43 in IPv4", frame(IPv4(), Routing(), UDP()), "other", v4(43)),
    flow("protocol 44 in IPv4", frame(IPv4(), Fragment(9), UDP()), "other", v4(44)),
    flow("protocol 59 in IPv4", frame(IPv4(), Raw(protocol=59)), "other", v4(59)),
    flow("protocol 60 in IPv4", frame(IPv4(), DestinationOptions(), UDP()), "other", v4(60)),
    flow("protocol 255", frame(IPv4(), Raw(b"x", protocol=255)), "other", v4(255)),
    flow("protocol 255 in IPv6", frame(IPv6(), Raw(b"x", protocol=255)), "other", v6(255)),
    flow("OSPF", frame(IPv4(), Raw(bytes(24), protocol=89)), "other", v4(89)),
    flow("VRRP in IPv6", frame(IPv6(), Raw(bytes(8), protocol=112)), "other", v6(112)),
)

ADDRESS_FORMS: Final = (
    flow(
        "IPv4 broadcast",
        frame(IPv4(UNSPECIFIED, "255.255.255.255"), UDP(68, 67), dst="ff:ff:ff:ff:ff:ff"),
        "udp",
        v4(17, 68, 67)._replace(src_addr=b"\0\0\0\0", dst_addr=b"\xff\xff\xff\xff"),
    ),
    flow(
        "IPv4 multicast",
        frame(IPv4(dst="224.0.0.251"), UDP(5353, 5353), dst="01:00:5e:00:00:fb"),
        "udp",
        v4(17, 5353, 5353)._replace(dst_addr=b"\xe0\x00\x00\xfb"),
    ),
    flow(
        "IPv4 source equal to destination",
        frame(IPv4("198.51.100.2"), TCP(443, 443, "S")),
        "tcp",
        v4(6, 443, 443)._replace(src_addr=b"\xc6\x33\x64\x02"),
        0x02,
    ),
    flow(
        "IPv6 multicast",
        frame(IPv6("fe80::1", "ff02::1"), ICMPv6(134), bytes(12), dst="33:33:00:00:00:01"),
        "icmpv6",
        v6(58, 134, 0)._replace(src_addr=b"\xfe\x80" + bytes(13) + b"\x01", dst_addr=b"\xff\x02" + bytes(13) + b"\x01"),
    ),
    flow(
        "IPv6 unspecified source",
        frame(IPv6("::", "ff02::1:ff00:1"), ICMPv6(135), bytes(20), dst="33:33:ff:00:00:01"),
        "icmpv6",
        v6(58, 135, 0)._replace(src_addr=bytes(16), dst_addr=b"\xff\x02" + bytes(9) + b"\x01\xff\x00\x00\x01"),
    ),
    flow(
        "IPv6 address of every byte",
        frame(IPv6("102:304:506:708:90a:b0c:d0e:f10", "f1f2:f3f4:f5f6:f7f8:f9fa:fbfc:fdfe:ff00"), UDP()),
        "udp",
        v6(17, 40000, 53)._replace(
            src_addr=bytes.fromhex("0102030405060708090a0b0c0d0e0f10"),
            dst_addr=bytes.fromhex("f1f2f3f4f5f6f7f8f9fafbfcfdfeff00"),
        ),
    ),
)

FORMS: Final = (*VLAN_FORMS, *NON_IP_FORMS, *IPV4_FORMS, *IPV6_FORMS, *TRANSPORT_FORMS, *ADDRESS_FORMS)
