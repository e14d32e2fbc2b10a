"""Promises of cnf.limits.token_bucket: the model is a token bucket, and the program's numbers decide exactly as it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.limits.table import MAX_BITS, MAX_RATE, MIN_BURST_BYTES
from cnf.limits.token_bucket import (
    MAX_BURST_UNITS,
    SECOND_NS,
    Meter,
    Words,
    byte_meter,
    longest_burst,
    packet_meter,
    words,
)
from tests.exact_bucket import Bucket
from tests.unit.integer_bucket import IntegerBucket

DAY_NS = 86_400 * SECOND_NS
TICKS_NS = (10_000_000, 4_000_000, 3_333_333, 1_000_000)  # TICK_NSEC at HZ=100, 250, 300, 1000
FIRST_JIFFY = {tick: (1 << 32) - 300 * round(SECOND_NS / tick) for tick in TICKS_NS}  # INITIAL_JIFFIES, linux/jiffies.h

Scene = tuple[Meter | None, Meter | None, int, int, list[tuple[int, int, int]]]
"""A bucket, a tick, how long the machine has been up, and packets: (gap in ns, bytes, how many at once)."""


def magnitudes(least: int, most: int) -> st.SearchStrategy[int]:
    """Return whole numbers whose logarithms are evenly spread."""
    widths = st.integers(least.bit_length(), most.bit_length())
    return widths.flatmap(lambda bits: st.integers(max(least, 1 << bits >> 1), min(most, (1 << bits) - 1)))


PACKET_RATES = magnitudes(1, MAX_RATE) | st.sampled_from([1, 10, 1_000, 10**6, MAX_RATE, 999_999_937])
BIT_RATES = (
    magnitudes(8, MAX_RATE)
    | magnitudes(1, MAX_BITS // 1000).map(lambda rate: 1000 * rate)
    | st.sampled_from([8, 64_000, 10**9, 999_999_937, 10**11, MAX_BITS, 999_999_999_000])
)


@st.composite
def limits(draw: st.DrawFn) -> tuple[Meter | None, Meter | None]:
    """Draw any bucket that a rule can have."""
    kind = draw(st.sampled_from(["packets", "bytes", "both"]))
    packets = packet_meter(draw(PACKET_RATES), 1) if kind != "bytes" else None
    octets = byte_meter(draw(BIT_RATES), MIN_BURST_BYTES) if kind != "packets" else None
    if octets and longest_burst(octets, packets) < MIN_BURST_BYTES:
        octets = byte_meter(10**9, MIN_BURST_BYTES)
    if packets:
        most = min(longest_burst(packets, octets), MAX_RATE)
        packets = packets._replace(burst=draw(magnitudes(1, most) | st.just(most)))
    if octets:
        most = min(longest_burst(octets, packets), MAX_BITS)
        octets = octets._replace(burst=draw(magnitudes(MIN_BURST_BYTES, most) | st.just(most)))
    return packets, octets


@st.composite
def gaps(draw: st.DrawFn, packets: Meter | None, octets: Meter | None, tick_ns: int) -> int:
    """Draw a time between two packets, in ns: any from 0 to days, or one about where the bucket's answer changes."""
    lengths = [tick_ns]
    for meter in (packets, octets):
        if meter:
            lengths += [meter.weight * SECOND_NS // meter.rate, meter.burst_ns]
    near = draw(st.sampled_from(lengths)) * draw(st.integers(0, 3)) + draw(st.integers(-2, 2))
    return max(0, draw(st.sampled_from([0, near, draw(magnitudes(1, 30 * DAY_NS))])))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Draw a scene."""
    packets, octets = draw(limits())
    tick_ns = draw(st.sampled_from(TICKS_NS))
    sizes = st.integers(64, 9000)
    arrival = st.tuples(gaps(packets, octets, tick_ns), sizes, st.integers(1, 4))
    return packets, octets, tick_ns, draw(magnitudes(1, 1000 * DAY_NS)), draw(st.lists(arrival, max_size=30))


@given(scenes())
def test_words_decide_exactly_as_the_model(scene: Scene) -> None:
    """At any rate, burst, size and gap, the words admit what the fractions do at the time that their clock shows."""
    packets, octets, tick_ns, now, arrivals = scene
    numbers = words(packets, octets, tick_ns)
    model, bucket = Bucket(packets, octets), IntegerBucket(numbers)
    for gap, size, count in arrivals:
        now += gap
        ticks = now // tick_ns
        seen = Fraction(now if numbers.fine else ticks * tick_ns, SECOND_NS)
        for _ in range(count):
            assert bucket.admit(size, now, FIRST_JIFFY[tick_ns] + ticks) == model.admit(seen, size)


@given(scenes())
def test_never_more_than_rate_times_time_and_burst(scene: Scene) -> None:
    """From any packet to any other, the model admits at most what the rate brought and the burst held."""
    packets, octets, _, _, arrivals = scene
    model = Bucket(packets, octets)
    now = 0
    admitted: list[tuple[int, int]] = []
    for gap, size, count in arrivals:
        now += gap
        admitted += [(now, size) for _ in range(count) if model.admit(Fraction(now, SECOND_NS), size)]
    for first, (start, _) in enumerate(admitted):
        taken = 0
        for number, (end, size) in enumerate(admitted[first:], 1):
            taken += size
            elapsed = Fraction(end - start, SECOND_NS)
            assert packets is None or number <= packets.rate * elapsed + packets.burst
            assert octets is None or taken <= octets.rate * elapsed / 8 + octets.burst


@given(limits(), st.sampled_from(TICKS_NS))
def test_words_keep_their_bounds(bucket: tuple[Meter | None, Meter | None], tick_ns: int) -> None:
    """No word runs further ahead of now, or is trusted for longer, than a signed 64-bit difference can tell."""
    numbers = words(*bucket, tick_ns)
    clock_ns = 1 if numbers.fine else tick_ns
    assert max(numbers.packet_burst, numbers.byte_burst) <= MAX_BURST_UNITS
    assert 9000 * numbers.byte_cost < 1 << 62
    assert numbers.full_after < min(FIRST_JIFFY.values())
    for rate, burst in ((numbers.packet_rate, numbers.packet_burst), (numbers.byte_rate, numbers.byte_burst)):
        trusted = rate * numbers.full_after * tick_ns // clock_ns
        assert trusted >= burst + rate * SECOND_NS // clock_ns
        assert trusted < 1 << 62


def test_a_bucket_that_64_bits_have_come_round_for_is_full() -> None:
    """After an idle time in which a word overflowed, and looks debited, the bucket is full."""
    packets = Meter(999_999_937, 1, 1)
    numbers = words(packets, None, 4_000_000)
    bucket = IntegerBucket(numbers)
    lap = (1 << 64) // numbers.packet_rate
    assert [bucket.admit(64, now, now // 4_000_000 + (1 << 32)) for now in (1, 1, lap, lap)] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(("burst", "late"), [(2, 0), (640, 40)], ids=["nanoseconds", "ticks"])
def test_source_just_over_its_rate_does_not_starve(burst: int, late: int) -> None:
    """At 1 % over 10,000 packets a second, a source gets these and its burst; by jiffies, the last tick's come late."""
    bucket = IntegerBucket(words(Meter(10_000, burst, 1), None, 4_000_000))
    times = range(0, 20 * SECOND_NS, 99_000)
    admitted = sum(bucket.admit(64, now, now // 4_000_000 + (1 << 32)) for now in times)
    assert 0 <= 10_000 * 20 + burst - admitted <= 1 + late


@pytest.mark.parametrize(
    ("packets", "octets", "expected"),
    [
        (Meter(10_000, 20_000, 1), None, Words(100_000, 4_000_000, 2_000_000_000, 0, 0, 0, 751, 0)),
        (Meter(10_000, 639, 1), None, Words(100_000, 1, 63_900_000, 0, 0, 0, 267, 1)),
        (Meter(10, 100, 1), Meter(8 * 10**6, 10**4, 8), Words(10**8, 1, 10**10, 1000, 1, 10**7, 2751, 1)),
        (None, Meter(10**11, 10**7, 8), Words(0, 0, 0, 2, 25, 2 * 10**7, 252, 1)),
        (
            Meter(3, 3, 1),
            Meter(8, 2000, 8),
            Words(10**9, 12_000_000, 3 * 10**9, 10**9, 4_000_000, 2 * 10**12, 500_251, 0),
        ),
    ],
)
def test_words_of_some_rules(packets: Meter | None, octets: Meter | None, expected: Words) -> None:
    """Costs and bursts are in units, rates in units a tick: of jiffies, if each burst lasts 64 ms or more."""
    assert words(packets, octets, 4_000_000) == expected


def test_refused_packet_takes_nothing() -> None:
    """A packet over one limit leaves the other's tokens to the next."""
    model = Bucket(Meter(1, 2, 1), Meter(8, 1600, 8))
    now = Fraction(0)
    assert [model.admit(now, size) for size in (1000, 1000, 600, 64)] == [True, False, True, False]
