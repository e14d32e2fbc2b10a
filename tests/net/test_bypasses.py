"""Ways around a limit: what Linux delivers of frames that are odd on purpose is what the limiter must have seen.

The kernel's own stack is the judge. A form that it delivers while nothing is limited must be held back by a rule for
its protocol, and not be delivered at all while its source is denied.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pytest

from tests.bpf.packets import (
    TCP,
    UDP,
    VLAN,
    DestinationOptions,
    Fragment,
    HopByHop,
    IPv4,
    IPv6,
    Layer,
    Raw,
    Routing,
    frame,
)
from tests.net.conftest import Node
from tests.net.namespaces import Wire

PORT: Final = 4000
SERVICE: Final = 0x88A8
MAC: Final = "02:00:00:00:00:02"
NODE4: Final = "198.51.100.2"
NODE6: Final = "2001:db8::2"
ATTACKER4: Final = "198.51.100.66"
ATTACKER6: Final = "2001:db8::66"
WITNESS: Final = "198.51.100.250"
"""Is allowed: once its packet has come, those sent before have, too."""
MARK: Final = b"delivered".ljust(32, b".")
COPIES: Final = 10


class Form(NamedTuple):
    """Frames that carry one UDP packet to the node, and whether Linux delivers it, or that depends on its version."""

    name: str
    frames: Sequence[bytes]
    delivered: Literal["always", "never", "depends"] = "always"


def ethernet(*layers: Layer | bytes, pad_to: int = 0) -> bytes:
    """Return a frame to the node."""
    return frame(*layers, dst=MAC, pad_to=pad_to)


def v4(**options: object) -> IPv4:
    """Return the attacker's IPv4 header."""
    return IPv4(ATTACKER4, NODE4, **options)  # type: ignore[arg-type]


def v6(**options: object) -> IPv6:
    """Return the attacker's IPv6 header."""
    return IPv6(ATTACKER6, NODE6, **options)  # type: ignore[arg-type]


UDP_LAYERS: Final = (UDP(1000, PORT), MARK)
UDP4: Final = frame(v4(), *UDP_LAYERS)[34:]


def pieces(data: bytes, size: int) -> list[tuple[int, bytes, bool]]:
    """Return (offset in units of 8 bytes, piece, whether more follow)."""
    return [(at // 8, data[at : at + size], at + size < len(data)) for at in range(0, len(data), size)]


def fragments4(size: int, *tags: Layer) -> list[bytes]:
    """Return the UDP packet in pieces of ``size`` bytes."""
    return [
        ethernet(*tags, v4(offset=offset, more=more), Raw(piece, protocol=17))
        for offset, piece, more in pieces(UDP4, size)
    ]


def fragments6(size: int, before: Sequence[Layer] = (), inside: Sequence[Layer] = ()) -> list[bytes]:
    """Return the same for IPv6: ``before`` stand in front of each fragment header, ``inside`` behind the first."""
    data = frame(v6(), *inside, *UDP_LAYERS)[54:]
    protocol = inside[0].protocol if inside else 17
    return [
        ethernet(v6(), *before, Fragment(offset, more=more), Raw(piece, protocol=protocol))
        for offset, piece, more in pieces(data, size)
    ]


def tagged(*tags: Layer) -> list[bytes]:
    """Return the IPv4 packet behind ``tags``."""
    return [ethernet(*tags, v4(), *UDP_LAYERS)]


NOP: Final = b"\x01"  # the one-byte option of IPv4 and of TCP
SNAP: Final = Raw(b"\xaa\xaa\x03\0\0\0\x08\0", ethertype=68)
OPTIONS: Final = DestinationOptions()
FORMS: Final = (
    Form("IPv4", tagged()),
    Form("IPv6", [ethernet(v6(), *UDP_LAYERS)]),
    *(Form(f"{count} priority tags", tagged(*[VLAN(0)] * count)) for count in (1, 2, 3, 4, 20, 300)),
    Form("3 priority tags, IPv6", [ethernet(*[VLAN(0)] * 3, v6(), *UDP_LAYERS)]),
    Form("3 priority tags of 802.1ad", tagged(*[VLAN(0, SERVICE)] * 3), "depends"),
    Form("a tag of no VLAN", tagged(VLAN(5)), "never"),
    Form("a tag of no VLAN behind priority tags", tagged(VLAN(0), VLAN(0), VLAN(5)), "never"),
    Form("priority tags around a tag of no VLAN", tagged(VLAN(0), VLAN(7), VLAN(0)), "never"),
    Form("two tags of no VLAN", tagged(VLAN(7), VLAN(8)), "never"),
    Form("tag type 0x9100", tagged(VLAN(0, 0x9100)), "never"),
    Form("802.3 with SNAP", [ethernet(SNAP, v4(), *UDP_LAYERS)], "never"),
    Form("tag around 802.3 with SNAP", [ethernet(VLAN(0), SNAP, v4(), *UDP_LAYERS)], "never"),
    Form("options of IPv4", [ethernet(v4(options=NOP * 40), *UDP_LAYERS)]),
    Form("padding behind the packet", [ethernet(v4(), *UDP_LAYERS, pad_to=120)]),
    Form("total length 0", [ethernet(v4(total_length=0), *UDP_LAYERS)], "depends"),
    Form("total length beyond the frame", [ethernet(v4(total_length=100), *UDP_LAYERS)], "never"),
    Form("payload length 0", [ethernet(v6(payload_length=0), *UDP_LAYERS)], "depends"),
    Form("fragments of 8 bytes", fragments4(8)),
    Form("fragments of 8 bytes, the last first", fragments4(8)[::-1]),
    Form("fragments of 16 bytes behind priority tags", fragments4(16, VLAN(0), VLAN(0), VLAN(0))),
    Form("fragments, the first twice", [*fragments4(24)[:1], *fragments4(24)], "depends"),
    Form("fragments that overlap", [fragments4(24)[0], fragments4(16)[1], fragments4(24)[1]], "depends"),
    *(Form(f"{count} headers of options", [ethernet(v6(), *[OPTIONS] * count, *UDP_LAYERS)]) for count in (1, 7, 100)),
    Form("hop-by-hop options", [ethernet(v6(), HopByHop(), *UDP_LAYERS)]),
    Form("hop-by-hop options not first", [ethernet(v6(), OPTIONS, HopByHop(), *UDP_LAYERS)], "depends"),
    Form("a routing header", [ethernet(v6(), Routing(b"\x02\0" + bytes(20)), *UDP_LAYERS)], "depends"),
    Form("an atomic fragment", [ethernet(v6(), Fragment(), *UDP_LAYERS)]),
    Form(
        "atomic fragments in one another", [ethernet(v6(), Fragment(), Fragment(), Fragment(), *UDP_LAYERS)], "depends"
    ),
    Form("IPv6 fragments of 16 bytes", fragments6(16)),
    Form("IPv6 fragments of 8 bytes", fragments6(8)),
    Form("IPv6 fragments behind 9 headers of options", fragments6(16, before=[OPTIONS] * 9)),
    Form("IPv6 fragments around options", fragments6(32, inside=[OPTIONS])),
    Form("IPv6 fragments, options cut from what they announce", fragments6(8, inside=[OPTIONS]), "depends"),
    Form("an atomic fragment around fragments", fragments6(16, before=[Fragment()]), "depends"),
    Form("a source that is mapped IPv4", [ethernet(IPv6(f"::ffff:{ATTACKER4}", NODE6), *UDP_LAYERS)], "depends"),
)
each_form = pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])


class Target:
    """A node with a UDP server, and the wire that frames come by."""

    def __init__(self, node: Node, wire: Wire) -> None:
        """Give the node its addresses; nothing of it is limited yet."""
        self._node, self._wire = node, wire
        inside, n0 = node.inside, str(wire.name)
        with inside.entered():
            for name in ("disable_ipv6", "accept_dad"):
                Path(f"/proc/sys/net/ipv6/conf/{n0}/{name}").write_text("0", encoding="ascii")
            for name in ("all", "default", n0):
                Path(f"/proc/sys/net/ipv4/conf/{name}/rp_filter").write_text("0", encoding="ascii")
        inside.ip("link", "set", n0, "address", MAC)
        inside.ip("address", "add", f"{NODE4}/24", "dev", n0)
        inside.ip("address", "add", f"{NODE6}/64", "dev", n0, "nodad")
        self._server = inside.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._server.bind(("::", PORT))
        self._server.settimeout(20)

    def close(self) -> None:
        """Close the server."""
        self._server.close()

    def send(self, frames: Sequence[bytes]) -> int:
        """Send ``frames``, and return how many packets of the attacker's the node has delivered."""
        witness = frame(IPv4(WITNESS, NODE4), UDP(1000, PORT), b"witness", dst=MAC)
        self._wire.send([*frames, witness])
        delivered = 0
        while True:
            data, _address = self._server.recvfrom(100)
            if data == b"witness":
                return delivered
            delivered += data.startswith(b"delivered")

    def answered(self, frames: Sequence[bytes]) -> int:
        """Send ``frames``, and return how many connections that they ask for have been answered."""
        with self._node.inside.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.bind((NODE4, PORT))
            server.listen(100)
            self.send(frames)
            return self._half_open()

    def _half_open(self) -> int:
        with self._node.inside.entered():
            tables = [Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
        return sum(line.split()[3] == "03" for table in tables for line in table.splitlines()[1:])  # TCP_SYN_RECV


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    """Take away what the tests of this file have made."""
    with ExitStack() as made:
        yield made


def _target(stack: ExitStack, **limits: object) -> Target:
    node = Node(stack)
    wire = node.wire("n0")
    target = Target(node, wire)
    stack.callback(target.close)
    if limits:
        daemon = node.daemon("n0", limits={"mode": "enforce", "allow": [f"{WITNESS}/32"], **limits})
        daemon.start()
        daemon.attached("n0")
    return target


@pytest.fixture(scope="module")
def free(stack: ExitStack) -> Target:
    """Give a node that limits nothing."""
    return _target(stack)


@pytest.fixture(scope="module")
def denying(stack: ExitStack) -> Target:
    """Give a node that denies everybody but the witness."""
    return _target(stack, deny=["198.51.100.0/25", "::/0"])


@pytest.fixture(scope="module")
def limiting(stack: ExitStack) -> Target:
    """Give a node that lets one packet of UDP pass, and one SYN."""
    rule = {"prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 1}
    slow = {"name": "udp", "protocols": ["udp"], **rule, "bits_per_second": 8, "burst_bytes": 1514}
    return _target(stack, rules=[slow, {"name": "syn", "protocols": ["tcp_syn"], **rule}])


@each_form
def test_linux_delivers_a_form_or_not(free: Target, form: Form) -> None:
    """The table says what the kernel does; what depends on its version is left open."""
    delivered = "always" if free.send(form.frames) else "never"
    assert form.delivered in ("depends", delivered)


@each_form
def test_no_form_is_delivered_of_a_denied_source(denying: Target, form: Form) -> None:
    """Whatever the kernel would have taken, it never sees."""
    assert denying.send(form.frames) == 0


@each_form
def test_a_rule_for_udp_holds_in_every_form(limiting: Target, form: Form) -> None:
    """Of ten, at most the first is delivered."""
    assert limiting.send([*form.frames] * COPIES) <= 1


def syns(size: int) -> list[bytes]:
    """Return SYNs from 50 ports, each in pieces of ``size`` bytes."""
    found = []
    for port in range(50):
        data = frame(v4(), TCP(2000 + port, PORT, "S", options=NOP * 4))[34:]
        found += [
            ethernet(v4(offset=offset, more=more), Raw(piece, protocol=6)) for offset, piece, more in pieces(data, size)
        ]
    return found


@pytest.mark.parametrize("size", [8, 16, 24])
def test_a_rule_for_syn_holds_in_fragments(free: Target, limiting: Target, size: int) -> None:
    """Of fifty connections asked for in pieces all are answered without a limit, and with it at most one."""
    assert free.answered(syns(size)) == 50
    assert limiting.answered(syns(size)) <= 1
