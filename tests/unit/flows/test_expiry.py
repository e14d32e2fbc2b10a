"""A flow expires when it has been idle for longer than its timeout, and earlier once it has ended."""

from __future__ import annotations

import pytest

from cnf.config import Flows
from cnf.flows.expiry import has_expired
from tests.unit.samples import CLOCK, JIFFIES, Flow, columns

TICKS_A_SECOND = 250
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


@pytest.mark.parametrize(
    ("idle_for", "tcp_flags", "expires"),
    [
        (0, ACK, False),
        (60, ACK, False),
        (60.004, ACK, True),
        (3600, SYN, True),
        (5, FIN, False),
        (5.004, FIN | ACK, True),
        (5.004, RST, True),
        (5.004, SYN | ACK, False),
        (-5, ACK, False),
    ],
)
def test_a_flow_expires_when_idle_for_longer_than_its_timeout(
    idle_for: float, tcp_flags: int, *, expires: bool
) -> None:
    """60 s without a packet end a flow, and 5 s one that has shown FIN or RST."""
    flow = Flow(last_seen=JIFFIES - round(idle_for * TICKS_A_SECOND), tcp_flags=tcp_flags)

    table = columns([flow], "ipv4")

    assert has_expired(table.last_seen, table.tcp_flags, CLOCK, Flows(idle_timeout=60, ended_timeout=5)).tolist() == [
        expires
    ]


def test_a_longer_timeout_for_ended_flows_does_not_keep_them() -> None:
    """FIN makes a flow end earlier, never later."""
    flow = Flow(last_seen=JIFFIES - 61 * TICKS_A_SECOND, tcp_flags=FIN)

    table = columns([flow], "ipv4")

    assert has_expired(table.last_seen, table.tcp_flags, CLOCK, Flows(idle_timeout=60, ended_timeout=600)).tolist() == [
        True
    ]
