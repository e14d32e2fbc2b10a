"""A token bucket in exact numbers: the model, and the whole numbers that the program keeps one in. Pure.

The program's form is virtual scheduling (GCRA: ITU-T I.371, annex A), described in abi.h at ``struct limit_rule``: a
64-bit word says when the bucket will be full again.
"""

import math
from typing import Final, NamedTuple

SECOND_NS: Final = 1_000_000_000

MAX_BURST_UNITS: Final = 1 << 61
"""Units that a word may be ahead of now. It counts so long and ``SLACK_NS`` more; a 64-bit difference has a sign."""

MAX_BURST_NS: Final = 10 * 24 * 3600 * SECOND_NS
"""Time that a burst may last: even at HZ=1000 fewer ticks than jiffies are at boot (2^32 less 300 seconds), so that a
bucket whose last use stands as jiffy 0 is full."""

SLACK_NS: Final = SECOND_NS
"""Time beyond its burst after which an unused bucket counts as full: jiffies can stand still for a while."""

_WORD: Final = 1 << 64

TICK_CLOCK_BURST: Final = 16
"""A burst that lasts this many ticks or more is kept by jiffies; a tick is then at most a sixteenth of it."""


class Meter(NamedTuple):
    """One limit of a bucket: ``rate`` a second, ``burst`` tokens, each of which takes ``weight`` of the rate.

    A packet has weight 1 of packets a second, a byte 8 of bits a second.
    """

    rate: int
    burst: int
    weight: int

    @property
    def token_units(self) -> int:
        """Return what a token costs in units of 1 / (rate / g) ns; g makes it whole."""
        return self.weight * SECOND_NS // math.gcd(self.rate, self.weight * SECOND_NS)

    @property
    def units_per_ns(self) -> int:
        """Return how many units pass in a ns: rate / g."""
        return self.rate // math.gcd(self.rate, self.weight * SECOND_NS)

    @property
    def burst_ns(self) -> int:
        """Return how long the burst lasts at the rate, rounded up."""
        return -(-self.burst * self.weight * SECOND_NS // self.rate)


class Words(NamedTuple):
    """The numbers of ``struct limit_rule``, field by field."""

    packet_cost: int
    packet_rate: int
    packet_burst: int
    byte_cost: int
    byte_rate: int
    byte_burst: int
    full_after: int
    fine: int


def packet_meter(rate: int | None, burst: int | None) -> Meter | None:
    """Return the limit of packets a second, if there is one; a burst that is left open is a second's worth."""
    return Meter(rate, burst or rate, 1) if rate else None


def byte_meter(rate: int | None, burst: int | None) -> Meter | None:
    """Return the limit of bits a second, if there is one; a burst that is left open is a second's worth, or 64 KiB."""
    return Meter(rate, burst or max(rate // 8, 1 << 16), 8) if rate else None


def longest_burst(meter: Meter, other: Meter | None) -> int:
    """Return the most tokens that ``meter`` may hold beside the bucket's other limit.

    The time that the burst lasts must fit the units of both: for so long, either word may be unused and still count.
    """
    fastest = max(each.units_per_ns for each in (meter, other) if each)
    return min(MAX_BURST_NS, MAX_BURST_UNITS // fastest) * meter.rate // (meter.weight * SECOND_NS)


def words(packets: Meter | None, octets: Meter | None, tick_ns: int) -> Words:
    """Work out the numbers of a bucket for a kernel whose tick is ``tick_ns``; no burst is over ``longest_burst()``."""
    durations = [meter.burst_ns for meter in (packets, octets) if meter]
    fine = min(durations) < TICK_CLOCK_BURST * tick_ns
    clock_ns = 1 if fine else tick_ns
    packet, byte = (
        (meter.token_units, meter.units_per_ns * clock_ns, meter.burst * meter.token_units) if meter else (0, 0, 0)
        for meter in (packets, octets)
    )
    return Words(*packet, *byte, -(-(max(durations) + SLACK_NS) // tick_ns) + 1, int(fine))


class Level(NamedTuple):
    """The numbers of ``struct limit_bucket``, field by field."""

    packet_time: int
    byte_time: int
    last_used: int


def tokens(rule: Words, level: Level, jiffies: int, monotonic: int) -> tuple[float | None, float | None]:
    """Return the packets and bytes that a bucket holds at a time (in ticks and in ns); None for what has no limit."""
    clock = monotonic if rule.fine else jiffies
    full = jiffies - level.last_used > rule.full_after
    return (
        _tokens(rule.packet_cost, rule.packet_burst, 0 if full else level.packet_time - clock * rule.packet_rate),
        _tokens(rule.byte_cost, rule.byte_burst, 0 if full else level.byte_time - clock * rule.byte_rate),
    )


def _tokens(cost: int, burst: int, ahead: int) -> float | None:
    if not cost:
        return None
    ahead &= _WORD - 1
    taken = 0 if ahead >= _WORD // 2 else ahead  # below 0 as a signed word: full
    return max(burst - taken, 0) / cost
