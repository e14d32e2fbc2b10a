"""A packet that cannot be parsed to its end is held to its source's rules all the same: the stack may still take it."""

from __future__ import annotations

from typing import Final

import pytest

from cnf.counts import Count
from tests.bpf.compare import XDP_PASS
from tests.bpf.forms import MANY
from tests.bpf.limited import XDP_DROP, Limited
from tests.bpf.packets import ARP, UDP, VLAN, IPv4, IPv6, Raw, frame

EVERYBODY: Final = ["::/0", "0.0.0.0/0"]
FORMS: Final = {
    "185 extension headers": (frame(IPv6(), *MANY[:185], UDP()), "other"),
    "first fragment of half a header": (frame(IPv4(more=True), Raw(bytes(8), protocol=6)), "tcp_syn"),
    "cut short": (frame(IPv4(total_length=1000), UDP()), "udp"),
}
"""Frames, and their classes."""
TOO_DEEP: Final = {
    "three VLANs": frame(VLAN(1), VLAN(2), VLAN(3), IPv4(), UDP()),
    "375 priority tags": frame(*[VLAN(0)] * 375, IPv6(), UDP()),
    "three VLANs around ARP": frame(VLAN(1), VLAN(2), VLAN(3), ARP()),
    "185 extension headers": FORMS["185 extension headers"][0],
}
each_form = pytest.mark.parametrize(("packet", "traffic"), FORMS.values(), ids=FORMS)
each_too_deep = pytest.mark.parametrize("packet", TOO_DEEP.values(), ids=TOO_DEEP)


@each_form
def test_what_cannot_be_parsed_is_denied(limited: Limited, packet: bytes, traffic: str) -> None:
    """It stands as dropped, and not as malformed, too."""
    assert traffic
    limited.start({"mode": "enforce", "deny": EVERYBODY})
    assert limited.run(packet) == XDP_DROP
    assert limited.dropped() == {"denied": (1, len(packet))}
    assert limited.received() == {"other": (1, len(packet))}


@each_form
def test_what_cannot_be_parsed_is_limited_in_its_class(limited: Limited, packet: bytes, traffic: str) -> None:
    """It takes from the bucket of its source."""
    rule = {"name": "r", "prefixes": EVERYBODY, "packets_per_second": 1, "burst_packets": 1, "protocols": [traffic]}
    limited.start({"mode": "enforce", "rules": [rule]})
    assert [limited.run(packet) for _ in range(3)] == [XDP_PASS, XDP_DROP, XDP_DROP]
    assert limited.packets() == {"r": {"passed": 1, "limited": 2}}
    assert limited.unparsed().keys() <= {"truncated", "ext_header_depth"}
    assert limited.flows() == {}


@pytest.mark.parametrize("mode", ["shadow", "enforce"])
@each_too_deep
def test_what_is_too_deep_to_be_read_is_dropped_if_the_operator_says_so(
    limited: Limited, packet: bytes, mode: str
) -> None:
    """It is dropped under a reason of its own, in shadow too, also without a rule; what can be read passes."""
    limited.start({"mode": mode, "unreadable": "drop"})
    assert limited.run(packet) == XDP_DROP
    assert limited.dropped() == {"unreadable": Count(1, len(packet))}
    assert limited.received() == {"other": (1, len(packet))}
    assert limited.unparsed() == {}
    readable = [frame(VLAN(0), VLAN(0), VLAN(0), IPv4(), UDP()), frame(IPv6(), *MANY[:184], UDP()), frame(ARP())]
    assert [limited.run(each) for each in (*readable, readable[0][:20])] == [XDP_PASS] * 4


@pytest.mark.parametrize("limits", [{"mode": "off", "unreadable": "drop"}, {"mode": "enforce"}], ids=["off", "default"])
@each_too_deep
def test_what_is_too_deep_to_be_read_passes_else(limited: Limited, packet: bytes, limits: dict[str, str]) -> None:
    """By default, and in mode off, it passes; it is counted by why it was not read."""
    limited.start(limits)
    assert limited.run(packet) == XDP_PASS
    assert limited.dropped() == {}
    assert list(limited.unparsed().values()) == [1]


def test_mapped_source_is_unreadable(limited: Limited) -> None:
    """An IPv6 packet from an IPv4-mapped address is dropped with the rest, or else has the rules of IPv6."""
    packet = frame(IPv6("::ffff:192.0.2.1"), UDP())
    limited.start({"mode": "enforce", "unreadable": "drop", "allow": ["::/0"]})
    assert limited.run(packet) == XDP_DROP
    assert limited.dropped() == {"unreadable": Count(1, len(packet))}
    assert [limited.run(frame(IPv6(near), UDP())) for near in ("::fffe:192.0.2.1", "::1:ffff:192.0.2.1")] == [
        XDP_PASS
    ] * 2
    limited.start({"mode": "enforce", "deny": ["::/64"]})
    assert limited.run(packet) == XDP_DROP
    assert limited.dropped() == {"denied": Count(1, len(packet))}


def test_what_addresses_are_denied_is_unreadable_first(limited: Limited) -> None:
    """Of a packet with addresses and too many headers the one reason stands, whoever sends it."""
    packet = TOO_DEEP["185 extension headers"]
    for table in ({"deny": EVERYBODY}, {"allow": EVERYBODY}):
        limited.start({"mode": "enforce", "unreadable": "drop", **table})
        assert limited.run(packet) == XDP_DROP
        assert limited.dropped() == {"unreadable": Count(1, len(packet))}
