"""What is denied is counted by the entry of ``deny`` that says so, and told of once."""

from __future__ import annotations

from contextlib import closing
from ipaddress import ip_address
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import EVENT_KINDS, FAMILIES
from cnf.kernel.ring import Ring
from cnf.limiter.maps import LimiterMaps
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import XDP_DROP, Clocked, Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame

SIZE: Final = 100
NOTHING: Final = (0, 0, False)
DENY: Final = {"deny": ["10.0.0.0/8", "10.2.0.0/16", "192.0.2.1/32", "2001:db8::/32"]}
RULES: Final[dict[str, Any]] = {
    "allow": ["10.3.0.0/16"],
    "rules": [{"name": "r", "prefixes": ["10.1.0.0/16", "2001:db8:1::/80"], "packets_per_second": 10}],
}
"""Longer prefixes within what is denied."""


def packet(source: str) -> bytes:
    """Return a frame of SIZE bytes."""
    return frame(IPv6(source) if ":" in source else IPv4(source), UDP(), pad_to=SIZE)


def drop(limited: Limited, source: str, times: int) -> None:
    """Send packets, of which none passes."""
    assert {limited.run(packet(source)) for _ in range(times)} == {XDP_DROP}


def test_each_entry_counts_what_it_drops(limited: Limited) -> None:
    """Also from longer prefixes within it that a rule or ``allow`` has; an entry within another counts alone."""
    limited.start(DENY | RULES)
    for times, source in enumerate(("10.0.0.1", "10.1.0.1", "10.3.0.1", "10.2.0.1", "2001:db8::1", "2001:db8:1::1"), 1):
        drop(limited, source, times)
    assert limited.run(packet("192.0.2.2")) == XDP_PASS
    assert limited.denied() == {
        "10.0.0.0/8": (6, 6 * SIZE, True),
        "10.2.0.0/16": (4, 4 * SIZE, True),
        "192.0.2.1/32": NOTHING,
        "2001:db8::/32": (11, 11 * SIZE, True),
    }
    assert limited.dropped()["denied"].packets == 21


def test_counts_stay_with_their_entry(limited: Limited) -> None:
    """Over other sets that have it, and modes that look at no list; one that comes anew begins at nothing."""
    limited.start(DENY)
    drop(limited, "192.0.2.1", 3)
    limited.switch({"deny": ["198.51.100.0/24", "192.0.2.1/32"]})
    drop(limited, "192.0.2.1", 1)
    limited.switch({"mode": "off", "deny": ["192.0.2.1/32"]})
    assert limited.run(packet("192.0.2.1")) == XDP_PASS
    limited.switch({"deny": ["192.0.2.1/32", "10.0.0.0/8"]})
    assert limited.denied() == {"192.0.2.1/32": (4, 4 * SIZE, True), "10.0.0.0/8": NOTHING}
    limited.switch({})
    limited.switch({"deny": ["192.0.2.1/32"]})
    assert limited.denied() == {"192.0.2.1/32": NOTHING}


def test_the_next_daemon_finds_the_places(limited: Limited) -> None:
    """From the prefixes in the kernel, of the bank in force alone, whatever longer prefixes share an entry's place."""
    limited.start({"deny": ["203.0.113.0/24"]})
    bank = limited.switch(DENY | RULES)
    found = LimiterMaps(limited.loaded.maps, limited.size.rules).denied_places()
    assert found == bank.numbering.denied
    assert len(set(found.values())) == len(DENY["deny"])


@pytest.mark.parametrize("source", ["10.0.0.1", "2001:db8::1"], ids=FAMILIES)
def test_the_first_drop_of_an_entry_is_an_event(clocked: Clocked, source: str) -> None:
    """Once, with the address that it came from and no rule; again for an entry that was away."""
    with closing(Ring(clocked.loaded.maps["events"])) as ring:

        def addresses() -> list[bytes]:
            events = ring.read().events
            drops = events[events["kind"] == EVENT_KINDS.index("first_drop")]
            assert not drops["key"][:, 2].any()
            assert (drops["jiffies"] == clocked.jiffies).all()
            return [each.tobytes() for each in np.ascontiguousarray(drops["key"][:, :2])]

        clocked.start(DENY)
        ring.read()
        drop(clocked, source, 3)
        first = addresses()
        drop(clocked, source, 3)
        clocked.switch(DENY | RULES)
        drop(clocked, source, 3)
        again = addresses()
        clocked.switch({})
        clocked.switch(DENY)
        drop(clocked, source, 3)
        assert (first, again, addresses()) == ([ip_address(source).packed.ljust(16, b"\0")], [], first)
