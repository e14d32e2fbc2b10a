"""Flows by what decides on them: the same as explain() says of each, and the sums of all are exact."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import ICMP, ICMPV6, TCP, UDP
from cnf.errors import ConfigError
from cnf.flows.groups import group
from cnf.limiter.by_rule import by_rule
from cnf.limits.groups import OVERFLOW
from cnf.limits.prefix_file import read
from cnf.limits.ruleset import Address, RuleSet, explain, work_out
from cnf.limits.table import Limits, PrefixSet
from tests.unit.rule_sets import ADDRESSES, INTERFACES, networks, rule, rule_sets, set_aside
from tests.unit.samples import NAMES, Flow, snapshot

SYN, ACK = 0x02, 0x10
OTHERS = {4: "192.0.2.1", 6: "2001:db8::1"}
TRAFFICS = {
    (TCP, SYN, False): "tcp_syn",
    (TCP, SYN | ACK, False): "tcp",
    (TCP, 0, False): "tcp",
    (TCP, 0, True): "tcp_fragment",
    (UDP, 0, False): "udp",
    (UDP, 0, True): "udp_fragment",
    (47, 0, False): "other",
    (47, 0, True): "other_fragment",
}


def shown(ruleset: RuleSet, *flows: Flow) -> list[dict[str, Any]]:
    """Return the groups of these flows."""
    return list(group(snapshot(*flows), "", "rule", "flows", None, more={"rule": by_rule(ruleset, NAMES)}).objects())


@given(rule_sets(), st.lists(ADDRESSES, min_size=1, max_size=8, unique=True))
def test_each_flow_has_what_explain_says(drawn: tuple[Limits, Any], sources: list[Address]) -> None:
    """For any rules, interface and traffic, and for sources within prefixes and at their edges."""
    limits, protected = drawn
    interfaces = (*INTERFACES[:1], OVERFLOW)
    try:
        ruleset = work_out(limits, interfaces, protected)
    except ConfigError as error:
        set_aside(error)
    flows, expected = [], Counter[tuple[str, str | None]]()
    for source in sources:
        icmp = {(ICMP, 0, False): "icmp"} if source.version == 4 else {(ICMPV6, 0, True): "icmpv6_fragment"}
        for ifindex, interface in ((1, "eth0"), (2, OVERFLOW), (9, OVERFLOW)):
            for (protocol, tcp_flags, fragment), traffic in (TRAFFICS | icmp).items():
                kind = {"protocol": protocol, "tcp_flags": tcp_flags, "fragment": fragment, "ifindex": ifindex}
                flows.append(Flow(src=str(source), dst=OTHERS[source.version], **kind))  # type: ignore[arg-type]
                explained = explain(ruleset, source, interface, traffic)
                expected[explained.verdict, explained.rule.name if explained.rule else None] += 1
    assert {(each["verdict"], each["rule"]): each["flows"] for each in shown(ruleset, *flows)} == expected


def test_sums_are_exact_and_what_is_sent_is_not_limited() -> None:
    """The groups of a listing hold each packet once; a flow that is sent falls under no rule."""
    limits = Limits(deny=networks("192.0.2.0/24"), rules=(rule("all", "0.0.0.0/0"),))
    found = shown(
        work_out(limits, ("eth0", OVERFLOW)),
        Flow(packets=3, bytes=300),
        Flow(src="192.0.2.255", packets=5, bytes=500),
        Flow(src="192.0.3.0", packets=7, bytes=700, dropped_packets=2),
        Flow(packets=11, bytes=1100, sent=True),
        Flow(src="2001:db8::1", dst="2001:db8::2", packets=13, bytes=1300),
    )
    assert {(each["verdict"], each["rule"]): (each["packets"], each["dropped_packets"]) for each in found} == {
        ("denied", None): (8, 0),
        ("limited", "all"): (7, 2),
        ("unlimited", None): (24, 0),
    }


def test_sets_of_prefixes_go_before_rules_and_after_lists() -> None:
    """What no list decides, the first set that holds the source does, in both families."""
    ruleset = work_out(Limits(allow=networks("198.18.1.0/24"), rules=(rule("all", "0.0.0.0/0"),)), ("eth0", OVERFLOW))
    feeds = [
        (PrefixSet("partners", "/x", "allow"), read(BytesIO(b"198.18.2.0/24\n2001:db8:2::/48\n"))),
        (PrefixSet("drop", "/y", "deny"), read(BytesIO(b"198.18.0.0/16\n198.18.3.0/24\n2001:db8::/32\n"))),
    ]
    sources = ["198.17.255.255", "198.18.0.0", "198.18.1.1", "198.18.2.1", "198.18.3.9", "198.18.255.255", "198.19.0.0"]
    sources6 = ["2001:db8:2::1", "2001:db8:ffff::", "2001:db9::"]
    flows = [Flow(src=source) for source in sources] + [Flow(src=source, dst="2001:db8::2") for source in sources6]
    dimensions = by_rule(ruleset, NAMES, feeds)
    found = group(snapshot(*flows), "", "rule,src", "flows", None, more={"rule": dimensions}).objects()
    expected = dict.fromkeys(sources, ("denied", "drop")) | dict.fromkeys(sources6, ("denied", "drop"))
    expected |= {"198.17.255.255": ("limited", "all"), "198.19.0.0": ("limited", "all")}
    expected |= {"198.18.1.1": ("allowed", None), "198.18.2.1": ("allowed", "partners")}  # type: ignore[dict-item]
    expected |= {"2001:db8:2::1": ("allowed", "partners"), "2001:db9::": ("unlimited", None)}  # type: ignore[dict-item]
    assert {each["src_addr"]: (each["verdict"], each["rule"]) for each in found} == expected
