"""The bucket in the kernel decides exactly as the model, at any rate, burst, time and size; the clock is an input."""

from __future__ import annotations

from fractions import Fraction
from ipaddress import ip_network
from typing import Final, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnf.limits.table import Limits, Rule
from cnf.limits.token_bucket import SECOND_NS, Meter, words
from tests.bpf.compare import XDP_PASS
from tests.bpf.forms import LONGEST
from tests.bpf.limited import XDP_DROP, Clocked
from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.exact_bucket import Bucket
from tests.unit.limits.test_token_bucket import DAY_NS, TICKS_NS, gaps, limits, magnitudes

FRAMES: Final = {"ipv4": frame(IPv4(), UDP()), "ipv6": frame(IPv6(), UDP())}
SMALLEST: Final = 64


class Scene(NamedTuple):
    """A bucket, whose it is, and the packets that come."""

    packets: Meter | None
    octets: Meter | None
    family: str
    kind: Literal["source", "prefix"]
    tick_ns: int
    uptime: int
    arrivals: list[tuple[int, int, int]]
    """Gap in ns, bytes, how many at once."""


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw a scene."""
    packets, octets = draw(limits())
    tick_ns = draw(st.sampled_from(TICKS_NS))
    arrival = st.tuples(gaps(packets, octets, tick_ns), st.integers(SMALLEST, LONGEST), st.integers(1, 4))
    return Scene(
        packets,
        octets,
        draw(st.sampled_from(sorted(FRAMES))),
        draw(st.sampled_from(["source", "prefix"])),
        tick_ns,
        draw(magnitudes(1, 1000 * DAY_NS)),
        draw(st.lists(arrival, min_size=5, max_size=30)),
    )


def rule(packets: Meter | None, octets: Meter | None, kind: Literal["source", "prefix"] = "source") -> Limits:
    """Return limits with this bucket for everybody."""
    prefixes = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    packet, byte = packets or Meter(0, 0, 0), octets or Meter(0, 0, 0)
    only = Rule("r", prefixes, packet.rate or None, packet.burst or None, byte.rate or None, byte.burst or None, kind)
    assert (only.packets, only.octets) == (packets, octets)
    return Limits(mode="enforce", rules=(only,))


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_every_verdict_is_the_models(clocked: Clocked, scene: Scene) -> None:
    """The program admits what the fractions do at the time that the bucket's clock shows, and counts each packet so."""
    fine = words(scene.packets, scene.octets, scene.tick_ns).fine
    model = Bucket(scene.packets, scene.octets)
    now, passed, octets = scene.uptime, 0, 0
    with clocked.ticking(scene.tick_ns):
        clocked.start(rule(scene.packets, scene.octets, scene.kind))
        for gap, size, count in scene.arrivals:
            now += gap
            clocked.show(now)
            seen = Fraction(now if fine else now // scene.tick_ns * scene.tick_ns, SECOND_NS)
            packet = FRAMES[scene.family].ljust(size, b"\0")
            for _ in range(count):
                admitted = model.admit(seen, size)
                assert clocked.run(packet) == (XDP_PASS if admitted else XDP_DROP)
                passed, octets = passed + admitted, octets + size * admitted
    counts = clocked.counts()["r"]
    assert counts.get("passed", (0, 0)) == (passed, octets)
    assert sum(count.packets for count in counts.values()) == sum(count for _, _, count in scene.arrivals)


@pytest.mark.parametrize("family", FRAMES)
@pytest.mark.parametrize(
    ("meter", "step"),
    [(Meter(1, 1, 1), SECOND_NS), (Meter(10, 5, 1), SECOND_NS // 10), (Meter(10**9, 1, 1), 1)],
    ids=["1/s by ticks", "10/s by ticks", "10^9/s by nanoseconds"],
)
def test_source_that_never_stops_is_admitted_as_soon_as_it_may(
    clocked: Clocked, family: str, meter: Meter, step: int
) -> None:
    """However often it was refused, a packet is admitted at the very tick or nanosecond that brings its token."""
    unit = 1 if step == 1 else clocked.tick_ns
    clocked.start(rule(meter, None))
    start = clocked.now
    assert [clocked.run(FRAMES[family]) for _ in range(meter.burst + 1)] == [XDP_PASS] * meter.burst + [XDP_DROP]
    for turn in range(1, 20):
        clocked.show(start + turn * step - unit)
        assert {clocked.run(FRAMES[family]) for _ in range(50)} == {XDP_DROP}
        clocked.show(start + turn * step)
        assert [clocked.run(FRAMES[family]) for _ in range(2)] == [XDP_PASS, XDP_DROP]


@pytest.mark.parametrize("meter", [Meter(999_999_937, 1, 1), Meter(999_999_937, 999_999_937, 1)], ids=["ns", "ticks"])
def test_bucket_is_full_after_a_time_in_which_its_word_comes_round(clocked: Clocked, meter: Meter) -> None:
    """After idle times around the wrap of 64 bits, where the word looks debited again, the burst is there whole."""
    lap = (1 << 64) // meter.units_per_ns
    assert lap < 20 * SECOND_NS
    clocked.start(rule(meter, None))
    burst = min(meter.burst, 50)
    for idle in (lap // 2, lap - 10 * SECOND_NS, lap - 1, lap, lap + 1, 7 * lap, 10 * DAY_NS):
        clocked.show(clocked.now + idle)
        verdicts = [clocked.run(FRAMES["ipv4"]) for _ in range(burst + 1)]
        assert verdicts[:burst] == [XDP_PASS] * burst
        assert verdicts[burst] == (XDP_DROP if burst == meter.burst else XDP_PASS)


def test_refused_packet_costs_nothing(clocked: Clocked) -> None:
    """A packet over one limit leaves the other's tokens, and its own, to the next that is within both."""
    clocked.start(rule(Meter(1, 3, 1), Meter(8, 3000, 8)))
    sizes = (2000, 1500, 1500, 900, 1500, 100, 64)
    assert [clocked.run(FRAMES["ipv4"].ljust(size, b"\0")) for size in sizes] == [
        XDP_PASS, XDP_DROP, XDP_DROP, XDP_PASS, XDP_DROP, XDP_PASS, XDP_DROP,
    ]  # fmt: skip


def test_packet_larger_than_the_burst_never_passes(clocked: Clocked) -> None:
    """Nor does it spoil the bucket for others: not even after a time that has the word come half round."""
    meter = Meter(999_999_937, 1514, 8)
    clocked.start(rule(None, meter))
    for _ in range(5):
        verdicts = [clocked.run(FRAMES["ipv4"].ljust(size, b"\0")) for size in (1515, LONGEST, 1514, 64)]
        assert verdicts == [XDP_DROP, XDP_DROP, XDP_PASS, XDP_DROP]
        clocked.show(clocked.now + (1 << 64) // meter.units_per_ns * 3 // 4)
