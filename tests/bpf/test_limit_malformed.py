"""A packet that cannot be parsed to its end is held to its source's rules all the same: the stack may still take it."""

from __future__ import annotations

import pytest

from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import XDP_DROP, Limited
from tests.bpf.packets import UDP, DestinationOptions, IPv4, IPv6, Raw, frame

FORMS = {
    "seven extension headers": frame(IPv6(), *[DestinationOptions()] * 7, UDP()),
    "first fragment of half a header": frame(IPv4(more=True), Raw(bytes(8), protocol=6)),
    "cut short": frame(IPv4(total_length=1000), UDP()),
}


@pytest.mark.parametrize("packet", FORMS.values(), ids=FORMS)
def test_what_cannot_be_parsed_is_denied(limited: Limited, packet: bytes) -> None:
    """It stands as dropped, and not as malformed, too."""
    limited.start({"mode": "enforce", "deny": ["::/0", "0.0.0.0/0"]})
    assert limited.run(packet) == XDP_DROP
    assert limited.dropped() == {"denied": (1, len(packet))}
    assert limited.received() == {"other": (1, len(packet))}


@pytest.mark.parametrize("packet", FORMS.values(), ids=FORMS)
def test_what_cannot_be_parsed_is_limited_as_other(limited: Limited, packet: bytes) -> None:
    """It takes from the bucket of its source."""
    rule = {"name": "r", "prefixes": ["::/0", "0.0.0.0/0"], "packets_per_second": 1, "burst_packets": 1}
    limited.start({"mode": "enforce", "rules": [rule | {"protocols": ["other"]}]})
    assert [limited.run(packet) for _ in range(3)] == [XDP_PASS, XDP_DROP, XDP_DROP]
    assert limited.packets() == {"r": {"passed": 1, "limited": 2}}
    assert limited.unparsed().keys() <= {"truncated", "ext_header_depth"}
    assert limited.flows() == {}
