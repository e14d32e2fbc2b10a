"""``bucket_admit()`` of cnf/bpf/limiter.h in Python, with the arithmetic of C: what the words do, without a kernel.

One CPU: its compare-and-swap never fails.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnf.limits.token_bucket import Words

U64 = (1 << 64) - 1


def is_before(time: int, now: int) -> bool:
    """Return ``(__s64)(time - now) < 0``."""
    return bool((time - now) & U64 & 1 << 63)


def base(seen: int, now: int, most: int, *, full: bool) -> int:
    """Return what ``bucket_base()`` does."""
    return now if full or (seen - now) & U64 > most else seen


@dataclass(slots=True)
class IntegerBucket:
    """``struct limit_bucket`` under the rule ``words``."""

    words: Words
    packet_time: int = 0
    byte_time: int = 0
    last_used: int = 0

    def admit(self, octets: int, nanoseconds: int, jiffies: int) -> bool:
        """Say whether a packet is within both rates, and debit it if so."""
        words = self.words
        clock = nanoseconds if words.fine else jiffies
        packet_now, byte_now = clock * words.packet_rate & U64, clock * words.byte_rate & U64
        packet_cost, byte_cost = words.packet_cost, octets * words.byte_cost & U64
        full = is_before(self.last_used + words.full_after, jiffies)
        second = 30 if words.fine else 8  # about, as a power of two of the clock
        packet_most = words.packet_burst + (words.packet_rate << second) & U64
        byte_most = words.byte_burst + (words.byte_rate << second) & U64
        packet_base = base(self.packet_time, packet_now, packet_most, full=full)
        byte_base = base(self.byte_time, byte_now, byte_most, full=full)
        if packet_cost and (packet_base - packet_now + packet_cost) & U64 > words.packet_burst:
            return False
        if byte_cost and (byte_base - byte_now + byte_cost) & U64 > words.byte_burst:
            return False
        self.last_used = jiffies
        if packet_cost:
            self.packet_time = (packet_base + packet_cost) & U64
        if byte_cost:
            self.byte_time = (byte_base + byte_cost) & U64
        return True
