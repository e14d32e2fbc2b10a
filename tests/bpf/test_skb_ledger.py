"""The ledger of each direction closes by itself, with the flows of both in the same tables."""

from __future__ import annotations

import os
import secrets
from typing import Final

import numpy as np

from cnf.abi import DIRECTIONS, FAMILIES, FLOW_EGRESS, MALFORMED, NON_IP, Direction
from cnf.counts import Count, count_of, total
from cnf.datapath.blueprint import LimiterSize
from cnf.datapath.cache import FlowSettings
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP
from tests.bpf import kept
from tests.bpf.limited import CLOCKED, SIZE, Clocked, ClockedBlueprint
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.bpf.skb import has_skb
from tests.bpf.test_random import random_frames

SEED: Final = int(os.environ.get("CNF_SEED") or secrets.randbits(32))
SMALL: Final = 8
HOOKS: Final = (XDP, *[TC_INGRESS] * 9, *[TC_EGRESS] * 10)
IDLE: Final = 50
PACKETS: Final = 3000
STEPS: Final = (*[0] * 20, 1, 10)
"""Ticks from packet to packet."""
LIMITS: Final = {
    "mode": "enforce",
    "rules": [{"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 100, "burst_packets": 20}],
}


def test_each_direction_closes_by_itself() -> None:
    """Of all that one direction has counted, each packet and byte is in one state of flows of that direction."""
    rng = np.random.default_rng(SEED)
    size = LimiterSize(SMALL, SIZE.rules, SIZE.prefixes)
    clocked = Clocked(
        kept.load(ClockedBlueprint(SMALL, "cache", limiter=size, source=CLOCKED, hooks=(XDP, TC_INGRESS, TC_EGRESS)))
    )
    clocked.start(LIMITS)
    FlowSettings(clocked.loaded.maps).write(IDLE, IDLE)
    frames = [*filter(has_skb, random_frames(0))]
    for _ in range(PACKETS):
        clocked.hook = HOOKS[rng.integers(len(HOOKS))]
        clocked.show(clocked.now + int(rng.choice(STEPS)) * clocked.tick_ns)
        packet = frames[rng.integers(len(frames))] if rng.random() < 0.5 else established(rng)
        skb = {} if clocked.hook == XDP else {"gso_size": 100, "gso_segs": int(rng.integers(4))}
        clocked.run(packet, int(rng.integers(1, 4)), **skb)

    counters = clocked.counters()
    for direction, prefix in zip(DIRECTIONS, ("", "sent_"), strict=True):
        packets, octets = counters[f"{prefix}packets"], counters[f"{prefix}bytes"]
        unparsed = [Count(int(packets[label]), int(octets[label])) for label in (NON_IP, MALFORMED)]
        states = [*unparsed, live(clocked, direction)]
        for family in FAMILIES:
            sums = clocked.table_counters.read(family, (direction,))
            states += [sums.expired, sums.evicted, *sums.errors.values()]
            assert min(sums.expired_entries, sums.evicted_entries, sums.inserted) > 0
        if direction == "ingress":
            states.append(count_of(counters["dropped_packets"], counters["dropped_bytes"]))
        assert count_of(packets, octets) == total(states), f"CNF_SEED={SEED}: {direction}"
    assert counters["dropped_packets"].any()
    clocked.loaded.close()


def live(clocked: Clocked, direction: Direction) -> Count:
    """Return the sum of the flows of one direction that are in the tables."""
    egress = direction == "egress"
    return total(
        count_of(values["packets"][chosen], values["bytes"][chosen])
        for table in clocked.tables.values()
        for keys, values in table.batches()
        if len(chosen := np.flatnonzero(((keys["flags"] & FLOW_EGRESS) != 0) == egress))
    )


def established(rng: np.random.Generator) -> bytes:
    """Return a packet of one of more flows than the tables hold."""
    number = int(rng.integers(1, 200))
    layer = IPv4(f"10.0.0.{number}") if rng.random() < 0.5 else IPv6(f"2001:db8::{number}")
    return frame(layer, UDP(), bytes(int(rng.integers(300))))
