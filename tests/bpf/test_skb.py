"""TC sees what XDP sees, and counts what is on the wire: every segment of a frame, with its headers and its tag."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final, NamedTuple

import pytest

from cnf.abi import FLOW_EGRESS
from cnf.datapath.blueprint import Blueprint, Table
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, Hook
from tests.bpf import kept
from tests.bpf.compare import disagreement
from tests.bpf.conftest import SMALL_TABLE, Datapath
from tests.bpf.forms import FORMS
from tests.bpf.packets import ARP, TCP, UDP, VLAN, IPv4, IPv6, Layer, Raw, frame
from tests.bpf.skb import ETHERNET, TC_ACT_UNSPEC, has_skb
from tests.bpf.test_random import SEED, random_frames

HOOKS: Final = (TC_INGRESS, TC_EGRESS)


class Headers(NamedTuple):
    """Layers before a payload, and how many bytes they are."""

    layers: tuple[Layer, ...]
    bytes: int


HEADERS: Final = {
    "TCP": Headers((IPv4(), TCP()), ETHERNET + 20 + 20),
    "TCP with options": Headers((IPv4(), TCP(options=b"\x01" * 12)), ETHERNET + 20 + 32),
    "TCP, IPv4 options": Headers((IPv4(options=b"\x01" * 8), TCP()), ETHERNET + 28 + 20),
    "UDP": Headers((IPv4(), UDP()), ETHERNET + 20 + 8),
    "TCP, IPv6": Headers((IPv6(), TCP()), ETHERNET + 40 + 20),
    "UDP, IPv6": Headers((IPv6(), UDP()), ETHERNET + 40 + 8),
    "TCP in a VLAN": Headers((VLAN(5), IPv4(), TCP()), ETHERNET + 4 + 20 + 20),
    "other": Headers((IPv4(), Raw(protocol=253)), ETHERNET + 20),
    "ARP": Headers((ARP(),), ETHERNET),
}
"""What is behind the headers that are read is payload."""
PAYLOADS: Final = (0, 1, 99, 100, 101, 1000, 2999)
SIZES: Final = (0, 1, 100, 1448)
SEGMENTS: Final = (0, 1, 2, 30)


@pytest.fixture(scope="session", params=HOOKS, ids=["ingress", "egress"])
def skb_loaded(request: pytest.FixtureRequest, table: Table) -> Iterator[Datapath]:
    """Load the program of each direction once."""
    hook: Hook = request.param
    loaded = kept.load(Blueprint(SMALL_TABLE, table, hooks=(hook,)))
    yield Datapath(loaded, hook)
    loaded.close()


@pytest.fixture
def skb(skb_loaded: Datapath) -> Datapath:
    """Give each test empty tables and zero counters."""
    skb_loaded.reset()
    return skb_loaded


def test_every_form_is_counted_as_by_the_reference(skb: Datapath) -> None:
    """Whole and cut anywhere, a frame passes, and stands in the counters and the flow that it has by XDP."""
    for form in FORMS:
        frames = [form.frame[:size] for size in range(len(form.frame) + 1)]
        assert not disagreement(skb, [*filter(has_skb, frames)]), form.name


def test_random_packets_are_counted_as_by_the_reference(skb: Datapath) -> None:
    """So are mutants of forms, and noise."""
    for batch in range(20):
        assert not disagreement(skb, [*filter(has_skb, random_frames(batch))]), f"CNF_SEED={SEED}, batch {batch}"


def test_a_flow_has_the_direction_of_its_hook(skb: Datapath) -> None:
    """It is in the key, on the short way as on the general one, and its interface's counters are those of it."""
    sent = skb.hook == TC_EGRESS
    for layer in (IPv4(), IPv6()):
        skb.run(frame(layer, UDP()), 3)
        skb.run(frame(layer, Raw(protocol=253)))

    keys = [key for table in skb.tables.values() for keys, _values in table.batches() for key in keys]
    counters = skb.counters()
    assert [bool(key["flags"] & FLOW_EGRESS) for key in keys] == [sent] * 4
    assert (int(counters["packets"].sum()), int(counters["sent_packets"].sum())) == ((0, 8) if sent else (8, 0))


@pytest.mark.parametrize("name", HEADERS)
def test_a_frame_counts_as_what_is_on_the_wire(skb: Datapath, name: str) -> None:
    """Its segments are counted, each with its headers, by counter and by flow, also where the kernel knows neither."""
    layers, headers = HEADERS[name]
    for payload, size, segments in product(PAYLOADS, SIZES, SEGMENTS):
        packet = frame(*layers, bytes(payload))
        wire_len = len(packet) + 7
        skb.reset()
        for _ in range(2):  # the first makes the flow, the second finds it
            assert skb.run(packet, wire_len=wire_len, gso_size=size, gso_segs=segments) == TC_ACT_UNSPEC

        count = segments or (max(1, -(-(len(packet) - headers) // size)) if size else 1)
        octets = wire_len if skb.hook == TC_EGRESS else len(packet) + (count - 1) * headers
        assert [*skb.received().values()] == [(2 * count, 2 * octets)], (payload, size, segments)
        flows = [(flow.packets, flow.bytes) for flow in skb.flows().values()]
        assert flows == [(2 * count, 2 * octets)] * (name != "ARP")
