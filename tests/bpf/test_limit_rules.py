"""The limiter in the kernel decides as the rules say: by prefix, traffic, interface, list and mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any, Final, get_args

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from cnf.abi import FRAGMENTS, TRAFFIC
from cnf.counts import Count
from cnf.errors import ConfigError
from cnf.limits.ruleset import Address, explain
from cnf.limits.table import Limits, Network, Traffic
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import XDP_DROP, Clocked, Limited
from tests.bpf.packets import (
    ARP,
    ICMP,
    SCTP,
    TCP,
    UDP,
    Fragment,
    ICMPv6,
    IPv4,
    IPv6,
    Layer,
    Raw,
    frame,
)
from tests.unit.rule_sets import ADDRESSES, INTERFACES, rule_sets, set_aside

BURST: Final = 2
LAYERS: Final[dict[str, tuple[Layer, ...]]] = {
    "tcp": (TCP(flags="SA"),),
    "tcp_syn": (TCP(flags="SE"),),
    "udp": (UDP(),),
    "icmp": (ICMP(),),
    "icmpv6": (ICMPv6(),),
    "other": (SCTP(),),
}
KINDS: Final = {
    "ipv4": {"icmpv6": "other", "icmpv6_fragment": "other_fragment"},
    "ipv6": {"icmp": "other", "icmp_fragment": "other_fragment"},
}
"""What a protocol counts as in the IP version that it does not belong to."""


def packet(source: str | Address, traffic: str = "udp") -> bytes:
    """Return a frame of this traffic."""
    address = ip_address(source)
    if traffic in FRAGMENTS:
        (first, *_) = LAYERS[FRAGMENTS[traffic]]
        later = Raw(b"later fragment", protocol=first.protocol)
        if isinstance(address, IPv4Address):
            return frame(IPv4(src=str(address), offset=10), later)
        return frame(IPv6(src=str(address)), Fragment(offset=10), later)
    if isinstance(address, IPv4Address):
        return frame(IPv4(src=str(address)), *LAYERS[traffic])
    return frame(IPv6(src=str(address)), *LAYERS[traffic])


def rules(*names: str, **options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rules of BURST packets, by name, for everybody unless ``options`` say otherwise."""
    each = {"packets_per_second": 1, "burst_packets": BURST, "prefixes": ["0.0.0.0/0", "::/0"]}
    return [{"name": name, **each, **options.get(name, {})} for name in names]


def verdicts(limited: Limited, frames: Sequence[bytes]) -> str:
    """Run the frames, and return P for each that passes and D for each that is dropped."""
    return "".join({XDP_PASS: "P", XDP_DROP: "D"}[limited.run(each)] for each in frames)


# Any rules


@settings(max_examples=250, deadline=None)
@given(
    rule_sets(),
    st.sampled_from(INTERFACES),
    st.lists(st.tuples(ADDRESSES, st.sampled_from(TRAFFIC)), min_size=1, max_size=12),
)
def test_every_packet_is_decided_as_explained(
    clocked: Clocked,
    case: tuple[Limits, tuple[Network, ...]],
    interface: str,
    kinds: list[tuple[Address, str]],
) -> None:
    """For any rules and any packets, verdicts, buckets and counters are what explain() says."""
    limits = evolve(case[0], rules=tuple(evolve(each, burst_packets=BURST) for each in case[0].rules))
    try:
        clocked.start(limits, protected=case[1], interface=interface, others=INTERFACES)
    except ConfigError as error:
        set_aside(error)
    taken: Counter[tuple[str, Network]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    denied = 0
    for address, traffic in kinds * (BURST + 1):
        known = KINDS[f"ipv{address.version}"].get(traffic, traffic)
        found = explain(clocked.ruleset, address, interface, known)
        verdict = clocked.run(packet(address, traffic))
        if found.rule is None:
            assert verdict == (XDP_DROP if found.verdict == "denied" else XDP_PASS)
            denied += found.verdict == "denied"
            continue
        assert found.source
        bucket = found.rule.name, found.source
        taken[bucket] += 1
        over = "limited" if found.mode == "enforce" else "would_limit"
        counts[found.rule.name, "passed" if taken[bucket] <= BURST else over] += 1
        assert verdict == (XDP_DROP if taken[bucket] > BURST and found.mode == "enforce" else XDP_PASS)
    counted = {(name, verdict): n for name, row in clocked.packets().items() for verdict, n in row.items()}
    assert counted == counts
    limited = sum(n for (_, verdict), n in counts.items() if verdict == "limited")
    assert {reason: count.packets for reason, count in clocked.dropped().items()} == {
        reason: n for reason, n in (("limited", limited), ("denied", denied)) if n
    }


# Traffic


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("traffic", get_args(Traffic))
def test_rule_for_a_protocol_is_about_no_other(limited: Limited, family: str, traffic: str) -> None:
    """Only what the rule names is limited; a rule for TCP covers SYN, too, and one for a protocol its fragments."""
    source = "192.0.2.1" if family == "ipv4" else "2001:db8::1"
    limited.start({"mode": "enforce", "rules": rules("r", r={"protocols": [traffic]})})
    held_back = {each for each in TRAFFIC if "D" in verdicts(limited, [packet(source, each)] * (BURST + 1))}
    assert {KINDS[family].get(each, each) for each in held_back} == {
        "tcp": {"tcp", "tcp_syn", "tcp_fragment"},
        "tcp_syn": {"tcp_syn"},
        "fragment": FRAGMENTS.keys() - KINDS[family].keys(),
    }.get(traffic, {traffic, f"{traffic}_fragment"} - KINDS[family].keys())


@pytest.mark.parametrize("limits", [{"deny": ["::/0", "0.0.0.0/0"]}, {"rules": rules("r")}], ids=["deny", "rule"])
def test_what_a_node_needs_of_its_link_always_passes(limited: Limited, limits: dict[str, Any]) -> None:
    """ARP and neighbour discovery are not held back; its messages that may have been routed here are."""
    limited.start({"mode": "enforce", **limits})
    for kind in range(133, 138):
        on_link = frame(IPv6(src="fe80::1", hop_limit=255), ICMPv6(kind), bytes(20))
        assert verdicts(limited, [on_link] * 10) == "P" * 10
    assert verdicts(limited, [frame(ARP()), frame(b"no IP at all")] * 10) == "P" * 20
    assert limited.counts() == {}
    far = [frame(IPv6(src="fe80::1", hop_limit=254), ICMPv6(kind), bytes(20)) for kind in range(133, 138)]
    others = [frame(IPv6(src="fe80::1", hop_limit=255), ICMPv6(kind), bytes(20)) for kind in (128, 132, 138)]
    assert verdicts(limited, far + others)[BURST:] == "D" * (8 - BURST)


# Interfaces, lists and modes


@pytest.mark.parametrize(("interface", "expected"), [("eth0", "eth"), ("wg0", "any")])
def test_rule_for_an_interface_is_about_no_other(limited: Limited, interface: str, expected: str) -> None:
    """A rule that names the interface decides there, and the one for all of them elsewhere."""
    table = {"rules": rules("any", "eth", eth={"interfaces": ["eth*"]})}
    limited.start(table, interface=interface)
    limited.run(packet("192.0.2.1"))
    assert limited.packets() == {expected: {"passed": 1}}


def test_interface_without_a_slot_has_the_rules_for_all(limited: Limited) -> None:
    """Packets of an interface that is not known are limited by the rules that name none."""
    limited.start({"rules": rules("any", "lo", lo={"interfaces": ["lo"]})})
    limited.interfaces.release(limited.ifindex)
    limited.run(packet("192.0.2.1"))
    limited.interfaces.assign(limited.ifindex)
    assert limited.packets() == {"any": {"passed": 1}}


@pytest.mark.parametrize("inner", ["allow", "deny"])
def test_deny_beats_allow_and_protected_beats_both(limited: Limited, inner: str) -> None:
    """Whichever of the prefixes is longer."""
    lists = {"allow": ["10.0.0.0/8"], "deny": ["10.0.0.0/8"]} | {inner: ["10.1.0.0/16", "2001:db8::/48"]}
    protected = [ip_network("10.1.2.3/32"), ip_network("2001:db8::7/128")]
    limited.start({"mode": "enforce", "rules": rules("r"), **lists}, protected=protected)
    denied = packet("10.1.0.1")
    assert verdicts(limited, [denied, packet("10.1.2.3"), packet("2001:db8::7")] * 9) == "DPP" * 9
    assert limited.counts() == {}
    assert limited.dropped() == {"denied": Count(9, 9 * len(denied))}
    assert len(limited.flows()) == 2


@pytest.mark.parametrize(
    ("mode", "own", "expected"),
    [
        ("enforce", {}, ("PPDD", {"passed": 2, "limited": 2}, "D")),
        ("shadow", {}, ("PPPP", {"passed": 2, "would_limit": 2}, "D")),
        ("off", {}, ("PPPP", {}, "P")),
        ("shadow", {"mode": "enforce"}, ("PPDD", {"passed": 2, "limited": 2}, "D")),
        ("enforce", {"mode": "shadow"}, ("PPPP", {"passed": 2, "would_limit": 2}, "D")),
        ("enforce", {"mode": "off"}, ("PPPP", {}, "D")),
        ("off", {"mode": "enforce"}, ("PPDD", {"passed": 2, "limited": 2}, "P")),
    ],
)
def test_modes(limited: Limited, mode: str, own: dict[str, str], expected: tuple[str, dict[str, int], str]) -> None:
    """Shadow counts and drops nothing but denied sources, off does nothing, and a rule's own mode comes first."""
    limited.start({"mode": mode, "deny": ["10.0.0.0/8"], "rules": rules("r", r=own)})
    assert verdicts(limited, [packet("192.0.2.1")] * 4) == expected[0]
    assert limited.packets().get("r", {}) == expected[1]
    assert verdicts(limited, [packet("10.0.0.1")]) == expected[2]


# Sources


@pytest.mark.parametrize(("bits", "beyond"), [(64, "2001:db8:0:1::1"), (48, "2001:db8:1::1"), (128, "2001:db8::2")])
def test_ipv6_source_is_a_prefix(limited: Limited, bits: int, beyond: str) -> None:
    """However many addresses a source uses, it has one bucket; the next source has its own."""
    limited.start({"mode": "enforce", "ipv6_source_prefix": bits, "rules": rules("r")})
    inside = ip_network(("2001:db8::", bits))
    step = max(1, inside.num_addresses // 50)
    flood = [packet(inside[index * step % inside.num_addresses]) for index in range(50)]
    assert verdicts(limited, flood) == "P" * BURST + "D" * (50 - BURST)
    assert verdicts(limited, [packet(beyond)] * 3) == "PPD"
    assert {str(source) for source, _, _ in limited.sources()} == {
        str(inside if bits < 128 else ip_network("2001:db8::")),
        str(ip_network((beyond, bits), strict=False)),
    }


@pytest.mark.parametrize("bits", [10, 64, 128])
@pytest.mark.parametrize("prefix", ["::/0", "fe80::/9", "fe80::/64", "fe80::/112"])
def test_link_local_source_is_one_address(limited: Limited, bits: int, prefix: str) -> None:
    """However long sources and the rule's prefix are: one noisy neighbour takes no packet of another."""
    table = {"mode": "enforce", "ipv6_source_prefix": bits, "rules": rules("r", r={"prefixes": [prefix]})}
    limited.start(table)
    assert verdicts(limited, [packet("fe80::1")] * 5) == "PPDDD"
    assert verdicts(limited, [packet("fe80::2", "other")] * 3) == "PPD"
    assert verdicts(limited, [packet("fe80::")] * 3) == "PPD"
    assert sorted(str(source) for source, _, value in limited.sources() if value["over_packets"]) == [
        "fe80::/128",
        "fe80::1/128",
        "fe80::2/128",
    ]


def test_link_local_sources_share_a_bucket_only_if_asked(limited: Limited) -> None:
    """With bucket = "prefix" all of the prefix have one, as ever."""
    limited.start({"mode": "enforce", "rules": rules("r", r={"prefixes": ["fe80::/64"], "bucket": "prefix"})})
    assert verdicts(limited, [packet(f"fe80::{number}") for number in range(1, 6)]) == "PPDDD"


def test_longer_prefix_inside_an_ipv6_source_has_a_bucket_of_its_own(limited: Limited) -> None:
    """Its addresses share one, too; the rest of the /64 has the /64's, and an allowed address none."""
    limited.start(
        {
            "mode": "enforce",
            "allow": ["2001:db8::53/128"],
            "rules": rules("all", "part", part={"prefixes": ["2001:db8::100/120"]}),
        }
    )
    part = [packet(f"2001:db8::1{octet:02x}") for octet in range(10)]
    rest = [packet(f"2001:db8::{octet:x}") for octet in range(10)]
    assert verdicts(limited, part) == verdicts(limited, rest) == "PPDDDDDDDD"
    assert verdicts(limited, [packet("2001:db8::53")] * 10) == "P" * 10
    assert limited.packets() == {name: {"passed": 2, "limited": 8} for name in ("all", "part")}


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_bucket_of_a_prefix_holds_its_sources_together(limited: Limited, family: str) -> None:
    """A flood of spoofed sources takes from one bucket, and not one slot in the table of sources."""
    prefix, pattern = ("10.0.0.0/8", "10.{}.2.3") if family == "ipv4" else ("2001:db8::/32", "2001:db8:{}::1")
    bank = limited.start({"mode": "enforce", "rules": rules("r", r={"prefixes": [prefix], "bucket": "prefix"})})
    flood = [packet(pattern.format(number)) for number in range(200)]
    assert verdicts(limited, flood) == "P" * BURST + "D" * (200 - BURST)
    assert limited.sources() == []
    (place,) = bank.shared_places
    shared = limited.maps.shared(place)
    assert (int(shared["packets"]), int(shared["over_packets"])) == (BURST, 200 - BURST)
    assert len(limited.flows()) == BURST


def test_rules_that_share_a_prefix_have_a_bucket_each(limited: Limited) -> None:
    """What one rule holds back takes nothing from another's bucket, and one rule has one bucket for all it covers."""
    limited.start({"mode": "enforce", "rules": rules("rest", "udp", udp={"protocols": ["udp"]})})
    assert verdicts(limited, [packet("192.0.2.1", "udp")] * 5) == "PPDDD"
    assert verdicts(limited, [packet("192.0.2.1", each) for each in ("icmp", "tcp", "other", "tcp_syn")]) == "PPDD"


# What is counted


def test_sources_and_interfaces_count_what_was_held_back(limited: Limited) -> None:
    """A source's packets and bytes, within and over, and when; and the interface's, by reason."""
    sent = packet("192.0.2.1")
    limited.start({"mode": "enforce", "rules": rules("r")})
    before, _ = limited.loaded.read_clock()
    verdicts(limited, [sent] * 7)
    after, _ = limited.loaded.read_clock()
    ((source, _group, value),) = limited.sources()
    assert str(source) == "192.0.2.1/32"
    assert [int(value[name]) for name in ("packets", "bytes", "over_packets", "over_bytes")] == [
        2, 2 * len(sent), 5, 5 * len(sent),
    ]  # fmt: skip
    assert before <= value["last_over"] <= value["last_seen"] <= after
    assert limited.counts() == {"r": {"passed": Count(2, 2 * len(sent)), "limited": Count(5, 5 * len(sent))}}
    assert limited.dropped() == {"limited": Count(5, 5 * len(sent))}
    assert limited.received() == {"udp": (7, 7 * len(sent))}


def test_dropped_packet_makes_no_flow(limited: Limited) -> None:
    """A flow that is there counts what is dropped of it; received is what flows have, and what was dropped."""
    limited.start({"mode": "enforce", "rules": rules("r")})
    first, second = (frame(IPv4(), UDP(src_port=port)) for port in (1, 2))
    verdicts(limited, [first, first, first, second, second, first])
    ((keys, values),) = limited.tables["ipv4"].batches()
    assert keys["src_port"].tolist() == [1]
    assert [int(values[name][0]) for name in ("packets", "bytes", "dropped_packets", "dropped_bytes")] == [
        2, 2 * len(first), 2, 2 * len(first),
    ]  # fmt: skip
    assert limited.dropped()["limited"].packets + sum(flow.packets for flow in limited.flows().values()) == 6
