"""The short way for established packets changes nothing but the time: it is run beside the program without it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import CACHE_SECRETS, DIRECTIONS, FAMILIES, TABLE_COUNT, TABLE_COUNTERS, VERDICTS
from cnf.datapath.blueprint import LimiterSize
from cnf.datapath.cache import FlowSettings
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP, Hook
from cnf.kernel.maps import Array, CounterArray
from cnf.kernel.ring import Ring
from tests.bpf import kept
from tests.bpf.limited import CLOCKED, SIZE, Clocked, ClockedBlueprint
from tests.bpf.packets import TCP, UDP, IPv4, IPv6, frame
from tests.bpf.skb import has_skb
from tests.bpf.test_random import random_frames

SEED: Final = int(os.environ.get("CNF_SEED") or secrets.randbits(32))
ROUNDS: Final = {XDP: 5 * 12, TC_INGRESS: 12, TC_EGRESS: 12}
"""Of some 1,500 packets each, half of them mutants; rule sets take turns."""
STEPS: Final = 500
SMALL: Final = 32
"""Flows and sources of a family, so that there are evictions and keys of one tag."""
TICKS: Final = (*[0] * 20, *[1] * 8, 2, 5, 100)
IDLE: Final = 800
ENDED: Final = 20
FLAGS: Final = ("A", "A", "A", "PA", "S", "SA", "FA", "R", "RA", "", "FPU")
LENGTHS: Final = (0, 0, 60, 64, 200, 1514)
SIZES: Final = (0, 0, 0, 100, 536)
SEGMENTS: Final = (0, 1, 2, 5)
"""Of an skb."""
ADDRESSES: Final = {
    "ipv4": [f"10.0.{number % 2}.{number}" for number in range(1, 40)],
    "ipv6": [f"2001:db8::{number % 4}:{number}" for number in range(1, 30)] + ["fe80::1", "fe80::2", "::ffff:10.0.0.1"],
}
EVERYBODY: Final = ["0.0.0.0/0", "::/0"]


def rule(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - of a rule
    """Return a rule for everybody, with a burst that is spent soon."""
    limit = {"packets_per_second": 50, "burst_packets": 30} if "bits_per_second" not in options else {}
    return {"name": "r", "prefixes": EVERYBODY} | limit | options


RULE_SETS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"mode": "enforce", "rules": [rule()]},
    {"mode": "shadow", "rules": [rule()]},
    {"mode": "enforce", "rules": [rule(bits_per_second=400_000, burst_bytes=20_000)]},
    {"mode": "enforce", "rules": [rule(bits_per_second=400_000, packets_per_second=100, burst_packets=20)]},
    {"mode": "enforce", "rules": [rule(bucket="prefix", prefixes=["10.0.1.0/24", "2001:db8::1:0/112"])]},
    {"mode": "enforce", "rules": [rule(protocols=["udp"]), rule(name="syn", protocols=["tcp_syn"])]},
    {
        "mode": "enforce",
        "rules": [rule()],
        "allow": ["10.0.0.2/31"],
        "deny": ["10.0.0.8/29", "2001:db8::2:0/112"],
    },
    {"mode": "enforce", "rules": [rule(), rule(name="part", prefixes=["2001:db8::3:0/112"], packets_per_second=5)]},
    {"mode": "enforce", "rules": [rule(packets_per_second=1_000_000, burst_packets=10)]},
    {"mode": "enforce", "rules": [rule()], "unreadable": "drop"},
    {"mode": "enforce", "rules": [rule(), rule(name="udp", prefixes=["10.0.1.8/29"], protocols=["udp"])]},
)


class Pair:
    """Both programs, with the same secrets, clocks and settings."""

    def __init__(self, hook: Hook) -> None:
        """Load them."""
        self.hook = hook
        size = LimiterSize(SMALL, SIZE.rules, SIZE.prefixes)
        self.both = [
            Clocked(
                kept.load(
                    ClockedBlueprint(SMALL, "cache", limiter=size, finished_events=True, hooks=(hook,), source=source)
                ),
                hook,
            )
            for source in (CLOCKED, CLOCKED.with_name("general.c"))
        ]
        record = np.zeros((), CACHE_SECRETS)
        record["words"] = np.random.default_rng(SEED).integers(1 << 63, size=record["words"].shape)
        for each in self.both:
            Array("cache_secrets", each.loaded.maps["cache_secrets"], CACHE_SECRETS).write(0, record)
            FlowSettings(each.loaded.maps).write(IDLE, ENDED)
        self.rings = [Ring(each.loaded.maps["events"]) for each in self.both]

    def wait(self, ticks: int) -> None:
        """Let some time pass."""
        for each in self.both:
            each.show(each.now + ticks * each.tick_ns)

    def run(self, packet: bytes, rng: np.random.Generator) -> tuple[int, int]:
        """Return the verdicts of both; an skb may be many packets."""
        skb = {}
        if self.hook != XDP:
            if not has_skb(packet):
                return 0, 0
            skb = {"gso_size": int(rng.choice(SIZES)), "gso_segs": int(rng.choice(SEGMENTS))}
        short, general = (each.run(packet, **skb) for each in self.both)
        return short, general

    def differences(self) -> list[str]:
        """Return the names of what the two differ in, to the byte."""
        return [name for name, states in self._states() if states[0] != states[1]]

    def _states(self) -> Iterator[tuple[str, list[bytes]]]:
        for family in FAMILIES:
            for name in ("tables", "sources_by_family"):
                tables = [getattr(each, name)[family] for each in self.both]
                yield f"{name} {family}", [table.writable().tobytes() for table in tables]
                yield f"{name} {family} aside", [table.aside.window(0, table.aside.size).tobytes() for table in tables]
        yield "interfaces", [each.counters().tobytes() for each in self.both]
        for name, count in (
            ("table_counters", len(DIRECTIONS) * TABLE_COUNT * TABLE_COUNTERS),
            ("limit_counters", len(VERDICTS) * SIZE.rules),
        ):
            yield name, [CounterArray(name, each.loaded.maps[name]).sums(0, count).tobytes() for each in self.both]
        yield "events", [ring.read().events.tobytes() for ring in self.rings]


def established(rng: np.random.Generator) -> bytes:
    """Return a packet of one of some flows, for which the short way may be there."""
    family = str(rng.choice(FAMILIES))
    addresses = ADDRESSES[family]
    source = addresses[min(int(rng.exponential(4)), len(addresses) - 1)]
    layer = IPv4(source) if family == "ipv4" else IPv6(source)
    port = 1000 + int(rng.integers(3))
    transport = UDP(src_port=port) if rng.random() < 0.5 else TCP(src_port=port, flags=str(rng.choice(FLAGS)))
    return frame(layer, transport, pad_to=int(rng.choice(LENGTHS)))


@pytest.fixture(scope="module", params=ROUNDS, ids=[hook.entry for hook in ROUNDS])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Load both programs of each hook once."""
    pair = Pair(request.param)
    with closing(pair.both[0].loaded), closing(pair.both[1].loaded):
        yield pair


def test_the_short_way_and_the_general_code_do_the_same(pair: Pair) -> None:
    """Verdicts, counters, flows, sources, events: of any packets, rule sets and times, to the byte."""
    rng = np.random.default_rng((SEED, 1))
    for round_ in range(ROUNDS[pair.hook]):
        limits = RULE_SETS[round_ % len(RULE_SETS)]
        mutants = random_frames(round_)
        for each in pair.both:
            each.switch(limits)
        for step in range(STEPS):
            pair.wait(int(rng.choice(TICKS)))
            packet = established(rng)
            packets = [packet] * int(rng.integers(1, 4)) + [mutants[step]]
            for each_packet in packets:
                short, general = pair.run(each_packet, rng)
                assert short == general, f"CNF_SEED={SEED}, round {round_}, step {step}: {each_packet.hex()}"
        assert pair.differences() == [], f"CNF_SEED={SEED}, round {round_}: {limits}"
    tables = [pair.both[0].table_counters.read(family) for family in FAMILIES]
    assert all(table.evicted_entries and table.expired_entries for table in tables)
    assert pair.both[0].dropped().keys() >= ({"limited", "denied"} if pair.hook != TC_EGRESS else set())
