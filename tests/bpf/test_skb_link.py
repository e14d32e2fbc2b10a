"""Frames without an Ethernet header, as those of tun, WireGuard and PPP are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnf.datapath.blueprint import Blueprint, Table
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS
from tests.bpf import kept
from tests.bpf.conftest import LOOPBACK, SMALL_TABLE, Datapath
from tests.bpf.packets import TCP, UDP, Fragment, HopByHop, IPv4, IPv6, Layer, Raw, frame
from tests.bpf.reference import tally
from tests.bpf.skb import ETHERNET, has_skb

LAYERS: tuple[tuple[Layer | bytes, ...], ...] = (
    (IPv4("8.0.0.1"), TCP(), bytes(500)),
    (IPv4("8.0.0.1"), UDP()),
    (IPv4("8.0.0.1"), UDP(), bytes(10)),
    (IPv4("8.0.0.1", options=b"\x01" * 8), UDP()),
    (IPv4("8.0.0.1", offset=9), UDP()),
    (IPv4("8.0.0.1", total_length=0), TCP()),
    (IPv4("8.0.0.1"), Raw(bytes(30), protocol=50)),
    (IPv6("2001:db8:86dd::1"), TCP(), bytes(500)),
    (IPv6("2001:db8:86dd::1"), UDP(), bytes(10)),
    (IPv6("2001:db8:86dd::1"), HopByHop(), Fragment(), UDP(), bytes(10)),
)
"""In the place of an EtherType these source addresses have that of their family, which BPF_PROG_TEST_RUN takes for the
protocol of the skb."""


@pytest.fixture(scope="module", params=[TC_INGRESS, TC_EGRESS], ids=["ingress", "egress"])
def bare(request: pytest.FixtureRequest, table: Table) -> Iterator[Datapath]:
    """Load the program of each direction once; the loopback interface has no Ethernet header."""
    loaded = kept.load(Blueprint(SMALL_TABLE, table, hooks=(request.param,)))
    datapath = Datapath(loaded, request.param)
    yield datapath
    loaded.close()


@pytest.mark.parametrize("layers", LAYERS)
def test_a_frame_is_parsed_from_its_ip_header_on(bare: Datapath, layers: tuple[Layer | bytes, ...]) -> None:
    """Key and counters are those of the packet in Ethernet, and its bytes those that are there; so cut anywhere."""
    whole = frame(*layers)[ETHERNET:]
    for size in range(len(whole) + 1):
        packet = whole[:size]
        if not has_skb(packet):
            continue
        bare.reset()
        bare.interfaces.release(LOOPBACK)
        bare.interfaces.assign(LOOPBACK, ethernet=False)
        for _ in range(3):
            bare.run(packet)

        expected = tally([frame(*layers)[: ETHERNET + size]] * 3)
        assert bare.received() == dict.fromkeys(expected.received, (3, 3 * size))
        assert bare.flows() == {key: value._replace(bytes=3 * size) for key, value in expected.flows.items()}


def test_every_segment_has_its_ip_header(bare: Datapath) -> None:
    """There are no more headers than that and TCP's."""
    packet = frame(IPv4("8.0.0.1"), TCP(), bytes(1000))[ETHERNET:]
    bare.reset()
    bare.interfaces.release(LOOPBACK)
    bare.interfaces.assign(LOOPBACK, ethernet=False)
    bare.run(packet, gso_size=300, wire_len=len(packet) + 3 * 40)

    assert bare.received() == {"tcp": (4, len(packet) + 3 * 40)}
