"""A token bucket in fractions: what the program's whole numbers are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from cnf.limits.token_bucket import Meter


@dataclass(slots=True)
class Bucket:
    """The model: a bucket of tokens in fractions, full at first. A packet over either limit takes nothing of both."""

    packets: Meter | None
    octets: Meter | None
    last: Fraction = Fraction(0)
    held: tuple[Fraction, Fraction] = field(init=False)
    """Packets and bytes."""

    def __post_init__(self) -> None:
        """Fill it."""
        self.held = (
            Fraction(self.packets.burst if self.packets else 0),
            Fraction(self.octets.burst if self.octets else 0),
        )

    def admit(self, now: Fraction, octets: int) -> bool:
        """Take a packet of ``octets`` bytes at ``now`` (seconds, not before the last call), if the bucket holds it."""
        elapsed, self.last = now - self.last, now
        self.held = _refilled(self.packets, self.held[0], elapsed), _refilled(self.octets, self.held[1], elapsed)
        left = self.held[0] - bool(self.packets), self.held[1] - (octets if self.octets else 0)
        if min(left) < 0:
            return False
        self.held = left
        return True


def _refilled(meter: Meter | None, held: Fraction, elapsed: Fraction) -> Fraction:
    return min(Fraction(meter.burst), held + elapsed * meter.rate / meter.weight) if meter else held
