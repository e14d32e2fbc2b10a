"""One source on every CPU at once: no token is lost, none is given twice, and every packet is counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pytest

from cnf.abi import FAMILIES
from cnf.limits.table import MIN_BURST_BYTES
from cnf.limits.token_bucket import SECOND_NS
from tests.bpf.limited import Clocked, Limited
from tests.bpf.packets import ICMP, UDP, ICMPv6, IPv4, IPv6, frame
from tests.bpf.pinned import REPEAT, Flood
from tests.bpf.sender import numbered
from tests.bpf.test_flow_table import on_every_cpu

PACKETS: Final = [
    [frame(IPv4(), UDP(), bytes(100)), frame(IPv4(), ICMP(), bytes(100))],
    [frame(IPv6(), UDP(), bytes(100)), frame(IPv6(), ICMPv6(), bytes(104))],
]
"""By family, and of two groups; in a family of one length."""
EVERYBODY: Final = ["0.0.0.0/0", "::/0"]
BURST: Final = 300_000
RATE: Final = 20_000
DEADLINE: Final = 30.0


def meet(limited: Limited, packets: list[bytes]) -> int:
    """Send each packet once, which makes its flow and its source; return how many those were.

    In a cache, a CPU that wants to make the same one just then lets its packet pass, and counts it as an error.
    """
    for packet in packets:
        limited.run(packet)
    return len(packets)


def until(done: Callable[[], bool]) -> None:
    """Look again and again, and leave the CPUs to the packets meanwhile."""
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not done():
        assert time.monotonic() < deadline
        pause.wait(0.002)


def dry(limited: Limited) -> None:
    """Wait until every CPU has found the bucket empty for a while."""
    limit = passing(limited, "limited") + 8 * REPEAT
    until(lambda: passing(limited, "limited") >= limit)


def passing(limited: Limited, verdict: str = "passed") -> int:
    """Return the packets that the rule has counted under a verdict."""
    return limited.packets().get("r", {}).get(verdict, 0)


def limits(**options: Any) -> dict[str, Any]:  # noqa: ANN401 - options of a rule
    """Return a rule for everybody, and one elsewhere, for which a source has two groups."""
    elsewhere = {"name": "icmp", "prefixes": ["10.0.0.0/8"], "protocols": ["icmp", "icmpv6"], "packets_per_second": 1}
    return {"mode": "enforce", "rules": [{"name": "r", "prefixes": EVERYBODY, **options}, elsewhere]}


@pytest.mark.parametrize("packets", PACKETS, ids=FAMILIES)
@pytest.mark.parametrize("kind", ["source", "prefix"])
def test_bucket_gives_exactly_what_it_holds(clocked: Clocked, packets: list[bytes], kind: str) -> None:
    """While the clock stands still the burst is admitted, and of each step of the clock what it brings."""
    size, steps = len(packets[0]), 50
    clocked.start(
        limits(
            bucket=kind,
            packets_per_second=10**6,
            burst_packets=10**6,
            bits_per_second=8 * size * 10**6,
            burst_bytes=size * BURST,
        )
    )
    assert {len(each) for each in packets} == {size}
    met = meet(clocked, packets)
    with Flood(clocked, packets) as flood:
        dry(clocked)
        assert passing(clocked) == BURST
        for step in range(1, steps + 1):
            clocked.show(clocked.now + clocked.tick_ns)
            if step % 10 == 0:
                dry(clocked)
        dry(clocked)
    admitted = BURST + steps * clocked.tick_ns // 1000
    sent = met + sum(flood.sent.values())
    assert clocked.packets()["r"] == {"passed": admitted, "limited": sent - admitted}
    assert clocked.dropped()["limited"] == (sent - admitted, size * (sent - admitted))
    if kind == "source":
        (value,) = (value for _, _, value in clocked.sources() if value["packets"])
        assert [int(value[name]) for name in ("packets", "over_packets")] == [admitted, sent - admitted]


@pytest.mark.parametrize("packets", PACKETS, ids=FAMILIES)
def test_packet_refused_for_its_bytes_gives_its_token_back(limited: Limited, packets: list[bytes]) -> None:
    """Where CPUs vie for bytes for one packet at a time, of the packets' tokens just those are gone that were used."""
    whole = [packet.ljust(MIN_BURST_BYTES, b"\0") for packet in packets]
    limited.start(
        limits(
            packets_per_second=1,
            burst_packets=500_000,
            bits_per_second=8 * MIN_BURST_BYTES * 10**6,
            burst_bytes=MIN_BURST_BYTES,
        )
    )
    start = time.monotonic_ns()
    meet(limited, whole)
    with Flood(limited, whole):
        until(lambda: passing(limited) >= 200_000)
    (bucket,) = (value["bucket"] for _, _, value in limited.sources() if value["packets"])
    assert (int(bucket["packet_time"]) - start) // SECOND_NS == passing(limited)  # a token's time is a second


@pytest.mark.parametrize(("ticks", "least"), [(8, 0), (250, 0.9)], ids=["by nanoseconds", "by ticks"])
def test_rate_and_burst_hold_on_all_cpus_together(limited: Limited, ticks: int, least: float) -> None:
    """By the machine's own clock, at most rate x time + burst is admitted, a tick's worth, and a packet a CPU.

    With the shorter burst, how little is admitted depends on how often the CPUs have something else to do.
    """
    burst = RATE * ticks * limited.tick_ns // SECOND_NS
    (packet, *_) = PACKETS[0]
    limited.start(limits(packets_per_second=RATE, burst_packets=burst))
    start = time.monotonic()
    sent = meet(limited, [packet])
    with Flood(limited, [packet]) as flood:
        until(lambda: passing(limited) >= burst + RATE)
    seconds = time.monotonic() - start
    sent += flood.sent[packet]
    admitted = passing(limited)
    most = RATE * (seconds + limited.tick_ns / SECOND_NS) + burst + len(flood.cpus)
    assert least * (RATE * seconds + burst) <= admitted <= most
    assert limited.packets()["r"] == {"passed": admitted, "limited": sent - admitted}
    (flow,) = limited.flows().values()
    assert flow.packets == admitted


def test_new_source_that_meets_itself_on_all_cpus_has_one_bucket(clocked: Clocked) -> None:
    """Of the first packets of a source, on every CPU at once, as many pass as its burst has.

    But for those that pass since the slot could not be had in time, which are errors, and rare.
    """
    sources, burst = 1000, 1
    clocked.start(limits(packets_per_second=1, burst_packets=burst))

    def send() -> None:
        for number in range(sources):
            clocked.run(numbered(number + (192 << 24)))

    cpus = on_every_cpu(send)

    made = clocked.table_counters.read_sources("ipv4")
    busy = made.errors["busy"].packets
    assert busy <= sources // 100
    assert clocked.packets()["r"] == {"passed": sources * burst, "limited": sources * (cpus - burst) - busy}
    assert made.inserted == sources
    assert sum(count.packets for count in made.errors.values()) == busy
