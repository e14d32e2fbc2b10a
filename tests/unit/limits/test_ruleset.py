"""Promises of cnf.limits.ruleset: which rule decides on a source, and why."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import LIMIT_GROUPS
from cnf.errors import ConfigError
from cnf.limits.ruleset import Address, Explanation, explain, work_out
from cnf.limits.table import Limits, Network, Rule
from tests.unit.rule_sets import ADDRESSES, INTERFACES, networks, rule, rule_sets, set_aside


def decides(limits: Limits, address: str, traffic: str = "udp", interface: str = "eth0") -> str | None:
    """Return the name of the rule that limits a source, or else the verdict."""
    found = explain(work_out(limits, INTERFACES), ip_address(address), interface, traffic)
    return found.rule.name if found.rule else found.verdict


# Prefixes


def test_longest_prefix_decides() -> None:
    """A source's rule is that of the longest prefix, whatever the order in the configuration."""
    limits = Limits(rules=(rule("b", "10.1.0.0/16"), rule("all", "0.0.0.0/0", "::/0"), rule("a", "10.0.0.0/8")))
    assert [decides(limits, address) for address in ("10.1.0.0", "10.1.255.255", "10.2.0.0", "9.9.9.9", "::")] == [
        "b", "b", "a", "all", "all",
    ]  # fmt: skip
    assert decides(Limits(rules=limits.rules[:1]), "10.2.0.0") == "unlimited"


def test_longer_prefix_inherits_what_it_leaves_open() -> None:
    """A rule for one protocol in a prefix takes nothing from the rules around it for the others."""
    limits = Limits(
        rules=(
            rule("all", "0.0.0.0/0"),
            rule("icmp", "10.0.0.0/8", protocols=("icmp",)),
            rule("udp", "10.1.0.0/16", protocols=("udp",)),
        )
    )
    for address in ("10.1.0.0", "10.1.2.3", "10.1.255.255"):
        assert [decides(limits, address, traffic) for traffic in ("udp", "icmp", "tcp")] == ["udp", "icmp", "all"]


@pytest.mark.parametrize(
    ("address", "expected"), [("10.0.0.2", "pair"), ("10.0.0.3", "pair"), ("10.0.0.4", "unlimited")]
)
def test_prefix_reaches_to_its_last_address(address: str, expected: str) -> None:
    """The last address of a prefix inherits from it, and the one behind it does not."""
    host = rule("host", address, protocols=("tcp",))
    assert decides(Limits(rules=(rule("pair", "10.0.0.2/31"), host)), address, "udp") == expected


def test_rule_names_an_interface_by_its_altname() -> None:
    """A rule for an altname is about its interface, and stays so while the altname does."""
    limits = Limits(rules=(rule("uplink", "0.0.0.0/0", interfaces=("enp3s0",)),))
    address = ip_address("192.0.2.1")
    for called, verdict in (({}, "unlimited"), ({"enp3s0": "eth0"}, "limited")):
        assert explain(work_out(limits, INTERFACES, called=called), address, "eth0", "udp").verdict == verdict


def test_rule_that_is_off_decides_nothing() -> None:
    """With a rule off, the next one of the prefix, or of the next shorter prefix, decides."""
    off = rule("off", "10.0.0.0/8", mode="off")
    assert decides(Limits(rules=(off, rule("on", "10.0.0.0/8"))), "10.0.0.1") == "on"
    assert decides(Limits(rules=(off, rule("around", "0.0.0.0/0"))), "10.0.0.1") == "around"
    assert decides(Limits(rules=(off,)), "10.0.0.1") == "unlimited"


def test_mode_off_switches_off_all_but_rules_with_a_mode_of_their_own() -> None:
    """In mode off nothing is denied or limited, but for a rule that says otherwise."""
    limits = Limits(
        mode="off",
        deny=networks("10.9.0.0/16"),
        rules=(rule("own", "10.1.0.0/16", mode="shadow"), rule("all", "0.0.0.0/0")),
    )
    addresses = ("10.1.0.0", "10.2.0.0", "10.9.0.0")
    assert [decides(limits, address) for address in addresses] == ["own", "unlimited", "unlimited"]


@pytest.mark.parametrize(("allowed", "denied"), [("10.0.0.0/8", "10.1.0.0/16"), ("10.1.0.0/16", "10.0.0.0/8")])
def test_deny_beats_allow_whichever_is_longer(allowed: str, denied: str) -> None:
    """An address that both lists cover is dropped."""
    limits = Limits(allow=networks(allowed), deny=networks(denied), rules=(rule("r", "10.1.2.0/24"),))
    assert decides(limits, "10.1.2.3") == "denied"
    assert explain(work_out(limits, ["eth0"]), ip_address("10.1.2.3"), "eth0", "tcp").prefix == ip_network(denied)


def test_allowed_source_is_not_limited_by_a_longer_prefix() -> None:
    """A rule within an allowed prefix decides nothing."""
    assert decides(Limits(allow=networks("10.0.0.0/8"), rules=(rule("r", "10.1.2.0/24"),)), "10.1.2.3") == "allowed"


@pytest.mark.parametrize("peer", ["10.1.2.3", "2001:db8::1"])
def test_protected_source_passes_whatever_the_rules_say(peer: str) -> None:
    """Who is protected cannot be locked out, and nobody else is let in with it."""
    host = ip_network(peer)
    limits = Limits(mode="enforce", deny=(host, *networks("::/0")), rules=(rule("all", "0.0.0.0/0", peer),))
    ruleset = work_out(limits, ["eth0"], protected=[host])
    assert explain(ruleset, host[0], "eth0", "tcp_syn") == Explanation("protected", host)
    assert explain(ruleset, host[0] + 1, "eth0", "tcp_syn").verdict in {"denied", "limited"}


# Within a prefix


def test_closer_name_decides_within_a_prefix() -> None:
    """Of a prefix's rules the one for SYN comes first, then the protocol's, then the interface's, then the rest's."""
    rules = (
        rule("any", "::/0"),
        rule("interface", "::/0", interfaces=("eth*",)),
        rule("tcp", "::/0", protocols=("tcp",)),
        rule("tcp on wg", "::/0", protocols=("tcp",), interfaces=("wg0",)),
        rule("syn", "::/0", protocols=("tcp_syn", "udp")),
    )
    limits = Limits(rules=rules)
    assert decides(limits, "::", "tcp_syn") == "syn"
    assert decides(limits, "::", "tcp_syn", "wg0") == "syn"
    assert decides(limits, "::", "tcp") == "tcp"
    assert decides(limits, "::", "tcp", "wg0") == "tcp on wg"
    assert decides(limits, "::", "icmpv6") == "interface"
    assert decides(limits, "::", "icmpv6", "wg0") == "any"
    assert decides(Limits(rules=rules[:3]), "::", "tcp_syn") == "tcp"


def test_first_rule_decides_between_equals() -> None:
    """Rules that name a packet equally closely keep the order of the configuration."""
    limits = Limits(rules=(rule("a", "::/0", protocols=("udp",)), rule("b", "::/0", protocols=("icmp", "udp"))))
    assert [decides(limits, "::", traffic) for traffic in ("udp", "icmp", "other")] == ["a", "b", "unlimited"]


def test_fragments_have_their_rule_or_their_protocols() -> None:
    """A rule for fragments comes first, then that of their protocol, then that of all."""
    rules = (
        rule("any", "::/0"),
        rule("udp", "::/0", protocols=("udp",)),
        rule("syn", "::/0", protocols=("tcp_syn",)),
        rule("fragments", "::/0", protocols=("fragment",)),
    )
    fragments = ("udp_fragment", "tcp_fragment", "other_fragment")
    assert [decides(Limits(rules=rules), "::", each) for each in fragments] == ["fragments"] * 3
    assert [decides(Limits(rules=rules[:3]), "::", each) for each in fragments] == ["udp", "any", "any"]
    assert [decides(Limits(rules=rules[1:3]), "::", each) for each in fragments] == ["udp", "unlimited", "unlimited"]


# Sources


def test_source_is_an_ipv4_address_or_an_ipv6_prefix() -> None:
    """IPv6 sources are as long as the configuration says."""
    limits = Limits(
        ipv6_source_prefix=56, rules=(rule("r", "0.0.0.0/0", "::/0"), rule("p", "9.0.0.0/8", bucket="prefix"))
    )
    ruleset = work_out(limits, ["eth0"])
    assert [
        str(explain(ruleset, ip_address(address), "eth0", "udp").source)
        for address in ("10.0.0.1", "2001:db8:0:1ff::1", "::1", "9.1.1.1")
    ] == ["10.0.0.1/32", "2001:db8:0:100::/56", "::/56", "9.0.0.0/8"]


@pytest.mark.parametrize("bits", [8, 64, 128])
def test_link_local_source_is_one_address(bits: int) -> None:
    """However long other sources are, and whatever prefix within fe80::/64 divides them."""
    rules = (rule("all", "::/0"), rule("part", "fe80::100/120"), rule("one", "fe80::7/128"))
    ruleset = work_out(Limits(ipv6_source_prefix=bits, rules=rules), ["eth0"])
    for address in ("fe80::1", "fe80::101", "fe80::7", "fe80::", "febf:ffff::1"):
        assert explain(ruleset, ip_address(address), "eth0", "udp").source == ip_network(address)
    assert explain(ruleset, ip_address("fec0::1"), "eth0", "udp").source == ip_network(("fec0::1", bits), strict=False)


def test_prefix_within_an_ipv6_source_is_a_source_of_its_own() -> None:
    """Where a prefix divides a /64, each part has one bucket, and no address of it more than that."""
    limits = Limits(rules=(rule("all", "::/0"), rule("dns", "2001:db8::100/120")), allow=networks("2001:db8::53/128"))
    ruleset = work_out(limits, ["eth0"])
    found = {
        address: explain(ruleset, ip_address(f"2001:db8:{address}"), "eth0", "udp")
        for address in (":0", ":1", ":100", ":1ff", ":53", "0:1::1")
    }
    assert {address: each.rule and each.rule.name for address, each in found.items()} == {
        ":0": "all", ":1": "all", ":100": "dns", ":1ff": "dns", ":53": None, "0:1::1": "all",
    }  # fmt: skip
    assert {address: str(each.source) for address, each in found.items()} == {
        ":0": "2001:db8::/64",
        ":1": "2001:db8::/64",
        ":100": "2001:db8::100/120",
        ":1ff": "2001:db8::100/120",
        ":53": "None",
        "0:1::1": "2001:db8:0:1::/64",
    }
    parts = {address: match.part for address in found if (match := ruleset.find(ip_address(f"2001:db8:{address}")))}
    assert parts == {":0": 64, ":1": 64, ":100": 120, ":1ff": 120, ":53": 128, "0:1::1": 0}


def test_home_is_the_first_group_with_the_rule() -> None:
    """A source has one bucket for a rule, under the first group that the rule decides on."""
    limits = Limits(rules=(rule("all", "::/0"), rule("tcp", "2001:db8::/32", protocols=("tcp",))))
    ruleset = work_out(limits, ["eth0"])
    homes = {
        traffic: explain(ruleset, ip_address("2001:db8::1"), "eth0", traffic).home for traffic in ("tcp", "udp", "icmp")
    }
    assert homes == {"tcp": 0, "udp": 1, "icmp": 1}
    assert explain(ruleset, ip_address("::1"), "eth0", "udp").home == 0


# Against the rules' own words


def reference(
    limits: Limits, protected: tuple[Network, ...], address: Address, interface: str, traffic: str
) -> tuple[str, Network | None, Rule | None]:
    """Return (verdict, prefix, rule), by asking everybody in turn."""

    def longest(among: tuple[Network, ...]) -> Network | None:
        return max((each for each in among if address in each), key=lambda each: each.prefixlen, default=None)

    denied = () if limits.mode == "off" else limits.deny
    for verdict, listed in (("protected", protected), ("denied", denied), ("allowed", limits.allow)):
        if prefix := longest(listed):
            return verdict, prefix, None
    best: tuple[tuple[int, bool, bool, bool, bool, int], Network, Rule] | None = None
    for index, each in enumerate(limits.rules):
        names = {"tcp_syn": ["tcp_syn", "tcp"]}.get(traffic, [traffic])
        if traffic.endswith("_fragment"):
            names = ["fragment", traffic.removesuffix("_fragment")]
        named = names[0] in each.protocols
        about = named, not named and names[-1] in each.protocols, not each.protocols
        on = {"eth*": interface.startswith("eth"), interface: True}
        if any(about) and (not each.interfaces or on.get(each.interfaces[0])) and limits.mode_of(each) != "off":
            for prefix in each.prefixes:
                rank = (-prefix.prefixlen, not about[0], not about[1], not about[2], not each.interfaces, index)
                if address in prefix and (best is None or rank < best[0]):
                    best = rank, prefix, each
    return ("limited", best[1], best[2]) if best else ("unlimited", None, None)


@given(rule_sets(), st.lists(ADDRESSES, min_size=1, max_size=6))
def test_explanation_is_what_the_rules_say(case: tuple[Limits, tuple[Network, ...]], addresses: list[Address]) -> None:
    """For any rules and any packet, what is worked out agrees with asking every list and rule in turn."""
    limits, protected = case
    try:
        ruleset = work_out(limits, INTERFACES, protected)
    except ConfigError as error:
        set_aside(error)
    assert max(ruleset.groups.values()) < LIMIT_GROUPS
    for address in addresses:
        for interface, traffic in ruleset.groups:
            found = explain(ruleset, address, interface, traffic)
            expected = reference(limits, protected, address, interface, traffic)
            assert (found.verdict, found.prefix, found.rule) == expected
            assert found.mode == (found.rule and limits.mode_of(found.rule))
            assert found.source is None or address in found.source
