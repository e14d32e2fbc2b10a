"""Limits in TC: the buckets of XDP, of which a frame of many packets takes the tokens of all of them, or none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from cnf.counts import Count
from cnf.datapath.blueprint import Blueprint, Table
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP
from tests.bpf import kept
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import FLOWS, SIZE, XDP_DROP, Limited
from tests.bpf.packets import TCP, IPv4, IPv6, Layer, frame
from tests.bpf.skb import TC_ACT_SHOT, TC_ACT_UNSPEC

EVERYBODY: Final = ["0.0.0.0/0", "::/0"]
FEW: Final = {"packets_per_second": 1, "burst_packets": 10}
PAYLOAD: Final = 1000
SEGMENT: Final = {"gso_segs": 4, "gso_size": 250}
LAYERS: Final = {"ipv4": (IPv4(), 54), "ipv6": (IPv6(), 74)}


@pytest.fixture(scope="module")
def everywhere(table: Table) -> Iterator[Limited]:
    """Load the programs of all hooks, onto the same maps."""
    limited = Limited(kept.load(Blueprint(FLOWS, table, limiter=SIZE, hooks=(XDP, TC_INGRESS, TC_EGRESS))))
    yield limited
    limited.loaded.close()


def enforce(everywhere: Limited, **rule: Any) -> None:  # noqa: ANN401 - of a rule
    """Put one rule for everybody in force."""
    everywhere.hook = TC_INGRESS
    everywhere.start({"mode": "enforce", "rules": [{"name": "r", "prefixes": EVERYBODY} | rule]})


@pytest.mark.parametrize(("layer", "headers"), LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("bucket", ["source", "prefix"])
def test_a_frame_takes_a_token_a_segment(everywhere: Limited, layer: Layer, headers: int, bucket: str) -> None:
    """It passes whole or is dropped whole; what is dropped takes none, and counts as what it would have been."""
    enforce(everywhere, bucket=bucket, **FEW)
    many, one = frame(layer, TCP(), bytes(PAYLOAD)), frame(layer, TCP(), bytes(5))
    octets = len(many) + 3 * headers
    verdicts = [everywhere.run(many, **SEGMENT) for _ in range(3)] + [everywhere.run(one) for _ in range(3)]

    assert verdicts == [TC_ACT_UNSPEC] * 2 + [TC_ACT_SHOT] + [TC_ACT_UNSPEC] * 2 + [TC_ACT_SHOT]
    passed, dropped = Count(10, 2 * octets + 2 * len(one)), Count(5, octets + len(one))
    assert everywhere.counts() == {"r": {"passed": passed, "limited": dropped}}
    assert everywhere.dropped() == {"limited": dropped}
    assert everywhere.received() == {"tcp": passed.plus(dropped)}
    (flow,) = everywhere.flows().values()
    assert (flow.packets, flow.bytes) == passed


def test_a_frame_takes_its_bytes_of_the_wire(everywhere: Limited) -> None:
    """Each segment's headers are paid for, and the last byte counts."""
    packet = frame(IPv4(), TCP(), bytes(PAYLOAD))
    octets = len(packet) + 3 * 54
    for burst, fits in ((2 * octets, 2), (2 * octets - 1, 1)):
        enforce(everywhere, bits_per_second=8, burst_bytes=burst)
        verdicts = [everywhere.run(packet, **SEGMENT) for _ in range(3)]
        assert verdicts == [TC_ACT_UNSPEC] * fits + [TC_ACT_SHOT] * (3 - fits)


def test_xdp_and_tc_share_a_bucket(everywhere: Limited) -> None:
    """A source cannot have its limit once a hook."""
    enforce(everywhere, **FEW)
    packet = frame(IPv4(), TCP(), bytes(PAYLOAD))
    assert everywhere.run(packet, **SEGMENT) == TC_ACT_UNSPEC
    everywhere.hook = XDP
    assert [everywhere.run(packet) for _ in range(7)] == [XDP_PASS] * 6 + [XDP_DROP]


def test_what_is_sent_is_not_limited(everywhere: Limited) -> None:
    """Not by a rule and not by a prefix that is denied, and it takes no tokens of what is received."""
    everywhere.start({"mode": "enforce", "deny": EVERYBODY})
    everywhere.hook = TC_EGRESS
    packet = frame(IPv4(), TCP(), bytes(PAYLOAD))
    assert [everywhere.run(packet) for _ in range(3)] == [TC_ACT_UNSPEC] * 3
    assert (everywhere.received(), everywhere.dropped()) == ({"tcp": (3, 3 * len(packet))}, {})

    enforce(everywhere, **FEW)
    everywhere.hook = TC_EGRESS
    for _ in range(20):
        assert everywhere.run(packet) == TC_ACT_UNSPEC
    assert (everywhere.counts(), everywhere.sources()) == ({}, [])


@pytest.mark.parametrize(("deny", "unreadable"), [(EVERYBODY, "pass"), ([], "drop")])
def test_what_xdp_drops_tc_drops(everywhere: Limited, deny: list[str], unreadable: str) -> None:
    """Also what is denied, and what cannot be read."""
    limits = {
        "mode": "enforce",
        "deny": deny,
        "unreadable": unreadable,
        "rules": [{"name": "r", "prefixes": ["192.0.2.99/32"]} | FEW],
    }
    packet = frame(IPv4(), TCP()) if deny else frame(IPv6("::ffff:192.0.2.1"), TCP())
    seen = {}
    for hook in (XDP, TC_INGRESS):
        everywhere.hook = hook
        everywhere.start(limits)
        seen[hook] = everywhere.run(packet), everywhere.dropped(), everywhere.received()

    assert (seen[XDP][0], seen[TC_INGRESS][0]) == (XDP_DROP, TC_ACT_SHOT)
    assert seen[XDP][1:] == seen[TC_INGRESS][1:] != ({}, {})
