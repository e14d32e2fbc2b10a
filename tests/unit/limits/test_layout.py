"""Promises of cnf.limits.layout: what is written decides as the rules do, and rules keep their numbers."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import (
    ENFORCE,
    LIMIT4_PREFIX,
    LIMIT6_PREFIX,
    LIMIT_GROUPS,
    LIMIT_MATCH,
    LIMIT_POLICY,
    LIMIT_RULE,
    NO_END,
    RULE_ENDS,
    TRAFFIC,
)
from cnf.errors import ConfigError
from cnf.limits.layout import Bank, Numbering, Numbers, lay_out, no_rules, parameters
from cnf.limits.ruleset import Address, Explanation, explain, work_out
from cnf.limits.table import Limits, Network, Room, room
from cnf.limits.token_bucket import words
from tests.unit.rule_sets import ADDRESSES, INTERFACES, networks, rule, rule_sets, set_aside

TICK_NS = 4_000_000
ALLOWED, DENIED = 1, 2


def bank(limits: Limits, before: Numbering | None = None, protected: tuple[Network, ...] = ()) -> Bank:
    """Lay ``limits`` out."""
    return lay_out(work_out(limits, INTERFACES, protected), before or no_rules(64), 1000, TICK_NS)


@pytest.mark.parametrize(
    ("limits", "passes"),
    [
        (Limits(), True),
        (Limits(allow=networks("10.0.0.0/8")), True),
        (Limits(deny=networks("10.0.0.0/8")), False),
        (Limits(deny=networks("2001:db8::/32")), False),
        (Limits(mode="off", deny=networks("10.0.0.0/8")), True),
        (Limits(rules=(rule("r", "10.0.0.0/8"),)), False),
        (Limits(mode="off", rules=(rule("r", "10.0.0.0/8"),)), True),
    ],
    ids=["nothing", "allow", "deny", "deny IPv6", "deny off", "a rule", "a rule off"],
)
def test_a_set_that_passes_all_is_one_that_denies_and_limits_nobody(
    limits: Limits,
    passes: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """A set of nothing but denies is no such set: for it, every packet must be looked up."""
    assert bank(limits).passes_all is passes


# Numbers


def test_numbers_stay() -> None:
    """A key that is in the next set, too, keeps its number and its place."""
    first = Numbers[str](4).renewed("abc")
    second = first.renewed("cad")
    assert first.numbers == {"a": 1, "b": 2, "c": 3}
    assert second.numbers == {"c": 3, "a": 1, "d": 4}
    assert (second.fresh(first), second.place("d")) == (["d"], 0)


def test_place_is_taken_by_the_next_set_but_one() -> None:
    """While two sets are in use, no place means one thing in the one and another in the other."""
    first = Numbers[str](4).renewed("abc")
    second = first.renewed("bcd")
    assert second.place("d") not in {first.place(key) for key in "abc"}
    assert second.renewed("bcde").place("e") == first.place("a")


def test_number_is_never_given_twice() -> None:
    """A key that comes back is a new one: its sources' words may be of another time."""
    numbers = Numbers[str](4)
    given_out = []
    for keys in ("ab", "b", "ab", "b", "", "ab"):
        following = numbers.renewed(keys)
        given_out += [following.numbers[key] for key in following.fresh(numbers)]
        numbers = following
    assert given_out == sorted(set(given_out))


@given(st.lists(st.sets(st.integers(0, 9), max_size=8), max_size=20))
def test_two_sets_in_turn_never_share_a_place(sets: list[set[int]]) -> None:
    """Every key of a set has a place of its own, which no other key of the set before has."""
    numbers = Numbers[int](16)
    for keys in sets:
        following = numbers.renewed(sorted(keys))
        places = {key: following.place(key) for key in keys}
        assert len(set(places.values())) == len(keys)
        before = {numbers.place(key): key for key in numbers.numbers}
        assert all(before.get(place, key) == key for key, place in places.items())
        assert all(0 < number < ENFORCE for number in following.numbers.values())
        numbers = following


def test_full_table_names_the_option_to_raise() -> None:
    """Rules that find no place are refused, and the option that makes room is named."""
    first = Numbers[str](4).renewed("abc")
    with pytest.raises(ConfigError) as caught:
        first.renewed("de")
    (only,) = caught.value.problems
    assert str(only) == (
        "limits.max_rules: too low: the limiter was started with room for 4, got 3 places in use and 2 wanted"
    )
    assert caught.value.remedy == "raise it and restart the daemon"


def test_numbers_end_before_the_flag_beside_them() -> None:
    """The number that would be taken for CNF_ENFORCE is not given."""
    last = Numbers[str](4, last=ENFORCE - 3)
    assert last.renewed("ab").numbers == {"a": ENFORCE - 2, "b": ENFORCE - 1}
    with pytest.raises(ConfigError, match="cnfctl detach"):
        last.renewed("abc")


# Rules


def test_rule_keeps_its_number_unless_its_bucket_changes() -> None:
    """Mode, prefixes, protocols and order change nothing of a bucket; rate, burst, kind and name do."""
    one, other = rule("a", "::/0"), rule("b", "10.0.0.0/8")
    before = bank(Limits(rules=(one, other))).numbering
    kept = evolve(one, mode="enforce", prefixes=networks("::/1"), protocols=("udp",), interfaces=("eth0",))
    after = bank(Limits(rules=(other, kept)), before)
    assert not len(after.rule_places)
    assert after.numbering.rules.numbers == before.rules.numbers
    changes: list[dict[str, Any]] = [
        {"name": "c"}, {"packets_per_second": 11}, {"burst_packets": 9}, {"bits_per_second": 8}, {"bucket": "prefix"},
    ]  # fmt: skip
    for change in changes:
        changed = bank(Limits(rules=(evolve(one, **change), other)), before)
        assert list(changed.rule_places) == [3]


def test_rules_are_written_with_their_words() -> None:
    """A fresh rule's struct holds what its bucket works out to."""
    limits = Limits(rules=(rule("a", "::/0"), rule("b", "::/0", bits_per_second=10**9)))
    written = bank(limits)
    assert written.rules.dtype == LIMIT_RULE
    assert list(written.rule_places) == [1, 2]
    assert [tuple(map(int, record)) for record in written.rules] == [
        tuple(words(each.packets, each.octets, TICK_NS)) for each in limits.rules
    ]


def test_shared_bucket_is_one_for_a_rule_and_prefix() -> None:
    """A prefix's bucket stays with rule and prefix, and a longer prefix that inherits the rule takes from it."""
    shared = rule("s", "10.0.0.0/8", "11.0.0.0/8", bucket="prefix")
    first = bank(Limits(rules=(shared, rule("icmp", "10.1.0.0/16", protocols=("icmp",)))))
    assert len(first.shared_places) == 2
    assert len(set(first.shared_places)) == 2
    udp = [decode(first, ip_address(address), "eth0", "udp") for address in ("10.0.0.1", "10.1.0.1", "11.0.0.1")]
    assert udp[0] == udp[1] != udp[2]
    second = bank(Limits(rules=(evolve(shared, prefixes=networks("11.0.0.0/8", "12.0.0.0/8")),)), first.numbering)
    assert decode(second, ip_address("11.0.0.1"), "eth0", "udp") == udp[2]
    assert len(second.shared_places) == 1


# Banks


def test_policies_are_written_once() -> None:
    """A thousand prefixes of one rule have one policy."""
    written = bank(Limits(rules=(rule("a", *(f"10.0.{index}.0/24" for index in range(250))),)))
    assert len(written.policies) == 1
    assert not written.prefixes["ipv4"][1]["policy"].any()
    assert len(bank(Limits()).policies) == 0


def test_keys_stand_as_the_kernel_has_them() -> None:
    """Addresses are in network byte order, and the bank's 32 bits stand before them."""
    limits = Limits(allow=networks("10.1.2.0/24", "2001:db8::/32"))
    written = bank(limits)
    (keys4, values4), (keys6, _) = written.prefixes["ipv4"], written.prefixes["ipv6"]
    assert (keys4.dtype, keys6.dtype, values4.dtype) == (LIMIT4_PREFIX, LIMIT6_PREFIX, LIMIT_MATCH)
    assert keys4.tobytes() == (32 + 24).to_bytes(4, "little") + bytes(4) + bytes([10, 1, 2, 0])
    assert keys6.tobytes() == (32 + 32).to_bytes(4, "little") + bytes(4) + ip_address("2001:db8::").packed
    assert written.source6_mask.tobytes() == b"\xff" * 8 + bytes(8)
    assert {name: len(groups.tobytes()) for name, groups in written.groups.items()} == dict.fromkeys(INTERFACES, 4 * 11)


def test_too_many_prefixes_are_refused() -> None:
    """A set that would not fit the kernel's tables is refused before anything is written."""
    with pytest.raises(ConfigError, match=r"limits.max_rules: too low: .* room for 1, got 2 prefixes"):
        lay_out(work_out(Limits(deny=networks("::/0", "::/1")), INTERFACES), no_rules(64), 1, TICK_NS)
    shared = rule("s", "::/0", "::/1", "::/2", bucket="prefix")
    with pytest.raises(ConfigError, match=r"limits.max_rules"):
        lay_out(work_out(Limits(rules=(shared,)), INTERFACES), no_rules(2), 10, TICK_NS)


def test_room_is_for_two_sets() -> None:
    """There is room for max_rules rules beside as many others, and for what the configuration has."""
    assert room(Limits()) == Room(2048, 65_536)
    assert room(Limits(max_rules=1025)).rules == 4096
    shared = tuple(f"10.{index >> 8}.{index & 255}.0/24" for index in range(3000))
    limits = Limits(max_rules=16, rules=(rule("s", *shared, bucket="prefix"),))
    assert room(limits) == Room(8192, 12_000)


def decode(
    written: Bank, address: Address, interface: str, traffic: str, ends_passed: int = 0
) -> tuple[int, int, int, int, int]:
    """Do what limit() of limiter.h does: return (match, rule with its flag, shared, home, part)."""
    bits = address.max_prefixlen
    keys, values = written.prefixes["ipv4" if bits == 32 else "ipv6"]
    longest = max(
        (
            row
            for row, key in enumerate(keys)
            if address in ip_network((key["addr"].tobytes(), int(key["length"]) - 32))
        ),
        key=lambda row: int(keys[row]["length"]),
        default=None,
    )
    if longest is None:
        return 0, 0, 0, 0, 0
    value = values[longest]
    if value["deny_until"] or value["allow_until"]:
        return (DENIED if value["deny_until"] else ALLOWED), 0, 0, 0, int(value["part"])
    policy = written.policies[value["policy"] + (ends_passed if value["changes"] else 0)]
    group = written.groups[interface][TRAFFIC.index(traffic)]
    rule, shared, home = (int(policy[field][group]) for field in ("rule", "shared", "home"))
    return 0, rule, shared, home, int(value["part"])


def explained(written: Bank, found: Explanation) -> tuple[int, int]:
    """Return the rule that explain() has found as policies have it, and the number of the bucket that it shares."""
    if not found.rule:
        return 0, 0
    number = written.numbering.rules.numbers[parameters(found.rule)]
    shared = 0
    if found.rule.bucket == "prefix":
        assert found.prefix
        shared = 1 + written.numbering.shared.place((number, found.prefix))
    return number | (ENFORCE if found.mode == "enforce" else 0), shared


@given(rule_sets(), st.lists(ADDRESSES, min_size=1, max_size=4))
def test_what_is_written_decides_as_explained(
    case: tuple[Limits, tuple[Network, ...]], addresses: list[Address]
) -> None:
    """For any rules and any packet, the kernel's longest match and policy say what explain() says."""
    limits, protected = case
    try:
        ruleset = work_out(limits, INTERFACES, protected)
    except ConfigError as error:
        set_aside(error)
    written = lay_out(ruleset, no_rules(64), 1000, TICK_NS)
    assert written.policies.dtype == LIMIT_POLICY
    source_bits = limits.ipv6_source_prefix
    for address in addresses:
        for interface, traffic in ruleset.groups:
            found = explain(ruleset, address, interface, traffic)
            match, number, shared, home, part = decode(written, address, interface, traffic)
            listed = {"denied": DENIED, "allowed": ALLOWED, "protected": ALLOWED}
            assert match == listed.get(found.verdict, 0)
            assert (number, shared) == explained(written, found)
            if number and not shared:
                assert home == found.home
                bits = 32 if address.version == 4 else 128 if address.is_link_local else part or source_bits
                assert found.source == ip_network((address, bits), strict=False)


def test_rule_set_of_ten_thousand_prefixes_is_laid_out_whole() -> None:
    """Every one of 10,000 rules has its place, its struct and its policy."""
    prefixes = [f"10.{index >> 8}.{index & 255}.0/24" for index in range(10_000)]
    limits = Limits(rules=tuple(rule(f"r{index}", prefix) for index, prefix in enumerate(prefixes)), max_rules=10_000)
    there = room(limits)
    written = lay_out(work_out(limits, INTERFACES), no_rules(there.rules), there.prefixes, TICK_NS)
    assert len(set(written.rule_places)) == len(written.rules) == len(written.policies) == 10_000
    assert len(np.unique(written.prefixes["ipv4"][0])) == 10_000
    assert (written.policies["rule"][:, 0] == np.arange(1, 10_001)).all()
    assert not written.policies["rule"][:, 1:LIMIT_GROUPS].any()


@given(rule_sets(), rule_sets(), rule_sets(), st.lists(ADDRESSES, min_size=1, max_size=4))
def test_after_an_end_the_rules_of_then_decide(
    case: tuple[Limits, Any], second: tuple[Limits, Any], third: tuple[Limits, Any], addresses: list[Address]
) -> None:
    """For any rules before and after, and any packet, it is as if they had been written alone."""
    limits, _ = case
    limits = evolve(limits, allow=(), deny=())
    phases = [limits.rules, second[0].rules, third[0].rules]
    try:
        ruleset = work_out(limits, INTERFACES, later={10.0: phases[1], 20.0: phases[2]})
        alone = [work_out(evolve(limits, rules=rules), INTERFACES) for rules in phases]
    except ConfigError as error:
        set_aside(error)
    written = lay_out(ruleset, no_rules(4096), 1000, TICK_NS)
    assert written.ends == [10, 20, *[NO_END] * (RULE_ENDS - 2)]
    for passed, then in enumerate(alone):
        for address in addresses:
            for interface, traffic in ruleset.groups:
                found = explain(then, address, interface, traffic)
                _, number, shared, home, _ = decode(written, address, interface, traffic, passed)
                assert (number, shared) == explained(written, found)
                if number and not shared:
                    assert number == decode_group(written, address, home, passed)


def decode_group(written: Bank, address: Address, group: int, ends_passed: int) -> int:
    """Return the rule of a group: the home of a bucket has the same one."""
    (interface, traffic) = next(
        (interface, TRAFFIC[at])
        for interface, groups in written.groups.items()
        for at, number in enumerate(groups.tolist())
        if number == group
    )
    return decode(written, address, interface, traffic, ends_passed)[1]
