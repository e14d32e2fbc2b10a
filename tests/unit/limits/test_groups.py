"""Promises of cnf.limits.groups: what no rule tells apart is one group, and groups keep their numbers."""

from __future__ import annotations

from typing import get_args

import pytest

from cnf.abi import LIMIT_GROUPS, TRAFFIC
from cnf.errors import ConfigError
from cnf.limits.ruleset import work_out
from cnf.limits.table import Limits, Traffic
from tests.unit.rule_sets import INTERFACES, rule


def test_rules_alike_need_one_group() -> None:
    """However many rules there are: what none of them tells apart is one group, so that a source has one bucket."""
    rules = tuple(rule(f"r{index}", f"10.0.{index}.0/24", protocols=("tcp",)) for index in range(100))
    groups = work_out(Limits(rules=rules), INTERFACES).groups
    assert {groups[interface, traffic] for interface in INTERFACES for traffic in ("tcp", "tcp_syn")} == {0}
    assert set(groups.values()) == {0, 1}
    assert set(groups) == {(interface, traffic) for interface in INTERFACES for traffic in TRAFFIC}
    assert set(work_out(Limits(), INTERFACES).groups.values()) == {0}


def test_as_many_groups_as_the_kernel_has_are_told_apart() -> None:
    """Thirty-two combinations, to the last of them, each have a number that the tables have room for."""
    names = [f"n{index}" for index in range(LIMIT_GROUPS - 1)]
    each = tuple(rule(f"on-{name}", "::/0", interfaces=(name,)) for name in names)
    ruleset = work_out(Limits(rules=each), ("", *names))
    assert sorted(set(ruleset.groups.values())) == list(range(LIMIT_GROUPS))
    assert len({ruleset.groups[name, "tcp"] for name in ("", *names)}) == LIMIT_GROUPS


def test_more_groups_than_the_kernel_has_are_refused() -> None:
    """Rules that need a thirty-third combination are refused with how many they need."""
    protocols = [rule(traffic, "::/0", protocols=(traffic,)) for traffic in get_args(Traffic)]
    interfaces = [rule(name, "::/0", interfaces=(name,)) for name in INTERFACES]
    assert len(set(work_out(Limits(rules=(*protocols, *interfaces[:1])), INTERFACES).groups.values())) == 22
    with pytest.raises(ConfigError) as caught:
        work_out(Limits(rules=(*protocols, *interfaces)), INTERFACES)
    (only,) = caught.value.problems
    assert str(only) == (
        "limits.rules: expected at most 32 combinations of interface and protocol that rules tell apart, got 33"
    )


def test_groups_keep_their_numbers() -> None:
    """A rule that is added leaves the groups of the others, and so their sources' buckets, where they are."""
    udp = rule("udp", "::/0", protocols=("udp",))
    before = work_out(Limits(rules=(udp,)), ["eth0"])
    syn = rule("syn", "::/0", protocols=("tcp_syn",))
    after = work_out(Limits(rules=(syn, udp)), ["wg0", "eth0"], before=before.groups)
    assert before.groups["eth0", "udp"] == after.groups["eth0", "udp"] == after.groups["wg0", "udp"] == 1
    assert after.groups["eth0", "tcp"] == 0
    assert after.groups["eth0", "tcp_syn"] == 2
