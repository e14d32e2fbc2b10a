"""How rates, bursts and what they cost read."""

from __future__ import annotations

import pytest

from cnf.cli.limits.units import burst, countdown, lost, pair, rate
from cnf.units import packets
from tests.unit.cli.limit_samples import DEFAULT
from tests.unit.cli.samples import NOTHING


@pytest.mark.parametrize(
    ("number", "bits", "text"),
    [
        (10_000, 1_000_000_000, "10 k packets/s, 1 Gbit/s"),
        (1, None, "1 packet/s"),
        (999, None, "999 packets/s"),
        (12_345, None, "12.345 k packets/s"),
        (1_000_000_000, None, "1 G packets/s"),
        (None, 64_000, "64 kbit/s"),
        (None, 1_500_000, "1.5 Mbit/s"),
        (None, 1_544_008, "1.544008 Mbit/s"),
        (None, 8, "8 bit/s"),
        (None, 10**19, "10000000 Tbit/s"),
        (None, None, "-"),
    ],
)
def test_rate(number: int | None, bits: int | None, text: str) -> None:
    """A rate reads as it was set: no digit of it is rounded away."""
    assert rate({**DEFAULT, "packets_per_second": number, "bits_per_second": bits}) == text


def test_burst() -> None:
    """A burst is packets and bytes, in decimal units."""
    assert burst(DEFAULT) == "20 k packets, 4 MB"
    assert burst({**DEFAULT, "burst_packets": 1, "burst_bytes": None}) == "1 packet"
    assert burst({**DEFAULT, "burst_packets": None, "burst_bytes": 65_536}) == "65.536 kB"


def test_counted() -> None:
    """What was counted reads as words, and nothing is said to be nothing."""
    assert (packets(1), packets(0.5), packets(0), packets(1_234)) == (
        "1 packet",
        "0.5 packets",
        "0 packets",
        "1.2k packets",
    )
    assert lost({"packets": 678, "bytes": 90_123}, "dropped") == "678 packets dropped (90.1 kB)"
    assert lost(NOTHING, "over it") == "nothing over it"


def test_pair() -> None:
    """Packets and bytes share a column; where a bucket has one kind of token only, it has that one."""
    assert pair(12_345, 1_234_500) == "12.3k  1.2 MB"
    assert pair(0.0, 98_765) == "0 98.8 kB"
    assert (pair(1.0, None), pair(None, 0.0), pair(None, None)) == ("1", "0 B", "-")


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.98, "60 s"), (0.4, "0 s"), (-0.1, "0 s"), (119.6, "120 s"), (300, "5m00s")]
)
def test_countdown(seconds: float, text: str) -> None:
    """What is left of a minute is in seconds, as it was set, and never below none."""
    assert countdown(seconds) == text
