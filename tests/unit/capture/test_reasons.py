"""What a packet is to the rules is told from its key as the program tells it from its headers."""

from __future__ import annotations

import pytest

from cnf.abi import FLOW_FRAGMENT, TRAFFIC, Family
from cnf.capture.reasons import Reasons, traffic_of


@pytest.mark.parametrize(
    ("family", "protocol", "flags", "tcp_flags", "traffic"),
    [
        ("ipv4", 6, 0, 0x02, "tcp_syn"),
        ("ipv4", 6, 0, 0x12, "tcp"),
        ("ipv6", 6, FLOW_FRAGMENT, 0, "tcp_fragment"),
        ("ipv4", 17, 0, 0, "udp"),
        ("ipv4", 1, 0, 0, "icmp"),
        ("ipv6", 58, 0, 0, "icmpv6"),
        ("ipv6", 1, 0, 0, "other"),
        ("ipv4", 58, FLOW_FRAGMENT, 0, "other_fragment"),
    ],
)
def test_traffic(family: Family, protocol: int, flags: int, tcp_flags: int, traffic: str) -> None:
    """Each is one of those that rules tell apart."""
    assert traffic_of(family, protocol, flags, tcp_flags) == traffic
    assert traffic in TRAFFIC


def test_without_limits_there_is_nothing_to_name() -> None:
    """A packet that passes has no reason, whatever is in force."""
    reasons = Reasons(None, str)

    assert not reasons.of("passed", 1, b"\xc0\0\x02\x01", 1, "udp")
