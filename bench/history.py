"""What a minute of the history takes: ``python -m bench.history``, in CPU time of this process and bytes of a file.

Flows are as on a node: most have a few packets, and few have most bytes (a Pareto distribution); most clients have one
flow, and few have many (Zipf's).
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import numpy as np

from cnf.abi import DIRECTIONS, FAMILIES, FLOW_EGRESS, INTERFACE_COUNTERS
from cnf.arrays import Records
from cnf.clock import Reading, WallClock
from cnf.counts import Count
from cnf.flows.records import FLOW_RECORD
from cnf.flows.stream import RecordBatch
from cnf.history.block import Block, pack
from cnf.history.minute import Minute

ROUNDS: Final = 5
MINUTE: Final = 60 * 10**9
TICK: Final = 4_000_000
NOW: Final = 1_790_000_000 * 10**9
BOOTED: Final = NOW - 10**15
CLOCK: Final = WallClock(Reading((NOW - BOOTED) // TICK, NOW - BOOTED, NOW - BOOTED, NOW), TICK)


def main() -> None:
    """Print what a minute takes, by its number of flows."""
    print(f"{'flows':>9} {'CPU':>9} {'block':>9} {'a day':>9}")
    for count in (1_000, 20_000, 1_000_000):
        times, size = [], 0
        for turn in range(ROUNDS if count < 1_000_000 else 1):
            batch = _batch(count, np.random.default_rng(turn))
            started = time.process_time()
            minute = Minute()
            minute.add(batch)
            size = len(pack(turn, _block(minute)))
            times.append(time.process_time() - started)
        seconds = statistics.median(times)
        print(f"{count:9,} {1000 * seconds:6.1f} ms {size / 1000:6.1f} kB {1440 * size / 1e6:6.1f} MB")


def _batch(count: int, rng: np.random.Generator) -> RecordBatch:
    records = {family: np.zeros(0, FLOW_RECORD[family]) for family in FAMILIES}
    records["ipv4"] = _records(count, rng)
    return RecordBatch(1, CLOCK, records, {1: "eth0", 2: "eth1"}, {}, dict.fromkeys(DIRECTIONS, Count()))


def _records(count: int, rng: np.random.Generator) -> Records:
    """Return flows of 50 servers with clients from anywhere, a few of which have many: half of them each way."""
    records = np.zeros(count, FLOW_RECORD["ipv4"])
    hosts = max(count // 5, 1)
    clients = rng.integers(0, 1 << 32, hosts)[np.minimum(rng.zipf(1.3, count) - 1, hosts - 1)]
    servers = 0x0A02A8C0 + (rng.integers(0, 50, count) << 24)
    ports, services = rng.integers(32768, 61000, count), rng.choice([443, 80, 53, 22], count, p=[0.6, 0.1, 0.25, 0.05])
    sent = rng.random(count) < 0.5
    records["src_addr"], records["dst_addr"] = np.where(sent, servers, clients), np.where(sent, clients, servers)
    records["src_port"], records["dst_port"] = np.where(sent, services, ports), np.where(sent, ports, services)
    records["flags"] = FLOW_EGRESS * sent
    records["ifindex"], records["protocol"] = rng.integers(1, 3, count), np.where(services == 53, 17, 6)
    records["tcp_flags"] = np.where(services == 53, 0, rng.choice([0x1B, 0x1A, 0x18, 0x10], count))
    records["packets"] = 1 + rng.pareto(1.2, count).astype(np.uint64)
    records["bytes"] = records["packets"] * rng.integers(60, 1514, count).astype(np.uint64)
    records["end"] = CLOCK.now.jiffies - rng.integers(0, 15_000, count)
    lasted = (records["packets"] - 1) * rng.integers(1, 50, count).astype(np.uint64)
    records["start"] = records["end"] - np.minimum(lasted, 15_000)
    return records


def _block(minute: Minute) -> Block:
    counters = np.ones((), INTERFACE_COUNTERS)
    return Block(
        begin=NOW - MINUTE,
        end=NOW,
        boottime=NOW - BOOTED,
        maps=1,
        interfaces={"eth0": counters, "eth1": counters},
        began=(),
        rules={},
        **minute.parts(CLOCK, {1: ("eth0",), 2: ("eth1",)})._asdict(),
    )


if __name__ == "__main__":
    main()
