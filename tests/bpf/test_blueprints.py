"""Every program that a configuration can ask for is taken by the kernel's verifier, counts, limits, and tells."""

from __future__ import annotations

from contextlib import closing
from itertools import product
from typing import Final

import pytest

from cnf.abi import EVENT_KINDS, LINK_BYTES_SHIFT, PART_FLAGS_SHIFT
from cnf.datapath.blueprint import Blueprint, Table
from cnf.flows.finished import finished_flows
from cnf.kernel.ring import Ring
from tests.bpf import kept
from tests.bpf.compare import XDP_PASS
from tests.bpf.conftest import Datapath
from tests.bpf.limited import SIZE, XDP_DROP, Limited
from tests.bpf.packets import TCP, UDP, VLAN, IPv4, IPv6, Layer, frame

FLOWS: Final = 16
"""What a table holds: with twice the slots, ten times as many flows have to make room."""
BYTES: Final = 200
PACKETS: Final = 8
ONLY_SO_MANY: Final = {
    "mode": "enforce",
    "rules": [{"name": "few", "prefixes": ["0.0.0.0/0", "::/0"], "bits_per_second": 8, "burst_bytes": PACKETS * BYTES}],
}
"""The next packet of a source would have to wait for over three minutes."""
LAYERS: Final[dict[str, tuple[Layer, ...]]] = {
    "ipv4": (IPv4(), UDP()),
    "ipv6": (IPv6(), TCP()),
    "vlan": (VLAN(5), IPv4(), UDP()),
    "vlan, ipv6": (VLAN(5), IPv6(), TCP()),
}
STORES: Final[tuple[tuple[Table, bool, bool], ...]] = (
    *(("cache", records, told) for records, told in product((False, True), repeat=2)),
    *(("lru_hash", records, False) for records in (False, True)),
)
"""Tables, whether their flows are recorded, and whether those that they let go are told of: plan() has that of a cache
only, with export or ``evicted_records``; history alone has records without it."""
SWITCHES: Final = (True, False)
ALL: Final = [
    Blueprint(FLOWS, table, ipv6=ipv6, vlan=vlan, limiter=limiter, flow_records=records, finished_events=told)
    for (table, records, told), limiter, ipv6, vlan in product(STORES, (None, SIZE), SWITCHES, SWITCHES)
]


def name(blueprint: Blueprint) -> str:
    """Return what is compiled in."""
    parts = {
        "limits": blueprint.limiter,
        "records": blueprint.flow_records,
        "evicted": blueprint.finished_events,
        "ipv6": blueprint.ipv6,
        "vlan": blueprint.vlan,
    }
    return " ".join((blueprint.table, *(part for part, there in parts.items() if there)))


@pytest.mark.parametrize("blueprint", ALL, ids=name)
def test_it_loads_and_does_all_that_it_has(blueprint: Blueprint) -> None:
    """The kernel takes it; packets count, and where it has limits, records and events, those do as they should."""
    loaded = kept.load(blueprint)
    try:
        if blueprint.limiter:
            limited = Limited(loaded)
            _check_counts(limited)
            _check_limits(limited)
            limited.start({})
        else:
            _check_counts(Datapath(loaded))
        if blueprint.finished_events:
            _check_telling(Datapath(loaded))
    finally:
        loaded.close()


def _check_counts(datapath: Datapath) -> None:
    """Check that packets pass, in a flow of their own if their kind is compiled in, and each stands in one counter."""
    blueprint = datapath.loaded.blueprint
    tracked = [
        kind for kind in LAYERS if (blueprint.ipv6 or "ipv6" not in kind) and (blueprint.vlan or "vlan" not in kind)
    ]
    for layers in LAYERS.values():
        assert datapath.run(frame(*layers, pad_to=BYTES), 3) == XDP_PASS

    assert sum(packets for packets, _octets in datapath.received().values()) == 3 * len(LAYERS)
    assert datapath.received().get("non_ip", (0, 0))[0] == 3 * (len(LAYERS) - len(tracked))
    flows = datapath.flows()
    assert [value.packets for value in flows.values()] == [3] * len(tracked)
    for key, value in flows.items():
        flags, link_bytes = (value.tcp_flags & 0xFF, 14 + 4 * bool(key.vlan)) if blueprint.flow_records else (0, 0)
        assert value.tcp_flags >> PART_FLAGS_SHIFT == flags | link_bytes << (LINK_BYTES_SHIFT - PART_FLAGS_SHIFT)


def _check_limits(limited: Limited) -> None:
    """Check that a source is dropped from the first packet on that is over its bucket, and an event says so."""
    kinds = ("ipv4", "ipv6") if limited.loaded.blueprint.ipv6 else ("ipv4",)
    limited.start(ONLY_SO_MANY)
    for kind in kinds:
        packet = frame(*LAYERS[kind], pad_to=BYTES)
        assert [limited.run(packet) for _ in range(PACKETS + 2)] == [XDP_PASS] * PACKETS + [XDP_DROP] * 2

    with closing(Ring(limited.loaded.maps["events"])) as ring:
        told = [EVENT_KINDS[kind] for kind in ring.read().events["kind"]]
    assert told == ["rule_generation", *["first_drop"] * len(kinds)]
    assert limited.packets() == {"few": {"passed": PACKETS * len(kinds), "limited": 2 * len(kinds)}}


def _check_telling(datapath: Datapath) -> None:
    """Check that each flow that makes room is told of, as the table's counters have it."""
    datapath.reset()
    ports = range(10 * FLOWS)
    for port in ports:
        datapath.run(frame(IPv4(), UDP(src_port=port), pad_to=BYTES))

    with closing(Ring(datapath.loaded.maps["events"])) as ring:
        (flows, _finish), _rows = finished_flows(ring.read().events, "ipv4", "evicted")
    assert len(flows) == datapath.table_counters.read("ipv4").evicted_entries > 0
    assert len({*flows.src_port.tolist()} | {key.src_port for key in datapath.flows()}) == len(ports)
