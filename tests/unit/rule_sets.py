"""Rule sets for tests: short ones by hand, and any by hypothesis, from prefixes that often lie within one another."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NoReturn, get_args

from hypothesis import reject
from hypothesis import strategies as st

from cnf.abi import LIMIT_GROUPS
from cnf.errors import ConfigError
from cnf.limits.ruleset import Address
from cnf.limits.table import LimitMode, Limits, Network, Rule, Traffic

INTERFACES = ("eth0", "eth1", "wg0")
MODES: st.SearchStrategy[LimitMode] = st.sampled_from(["off", "shadow", "enforce"])


def rule(name: str, *prefixes: str, **options: Any) -> Rule:  # noqa: ANN401 - whatever a rule has
    """Return a rule of 10 packets a second."""
    return Rule(name, tuple(map(ip_network, prefixes)), packets_per_second=10, **options)


def networks(*prefixes: str) -> tuple[Network, ...]:
    """Return what a list of prefixes is read as."""
    return tuple(map(ip_network, prefixes))


ADDRESSES: st.SearchStrategy[Address] = st.builds(
    lambda base, bits: type(base)(int(base) ^ bits),
    st.sampled_from(
        [
            IPv4Address("10.1.2.3"),
            IPv6Address("2001:db8::1:2:3"),
            IPv6Address("2001:db8:0:1::"),
            IPv6Address("fe80::1"),
            ip_address("::"),
        ]
    ),
    st.sampled_from([0, 1, 2, 1 << 8, 1 << 16, 1 << 24, 1 << 31]),
)
LENGTHS = {4: [0, 8, 15, 16, 24, 31, 32], 6: [0, 9, 10, 32, 48, 63, 64, 65, 96, 127, 128]}
PREFIXES: st.SearchStrategy[Network] = ADDRESSES.flatmap(
    lambda address: st.sampled_from(LENGTHS[address.version]).map(
        lambda length: ip_network((address.packed, length), strict=False)
    )
)


@st.composite
def rule_sets(draw: st.DrawFn) -> tuple[Limits, tuple[Network, ...]]:
    """Draw limits, few enough in kind for the groups that there are, and protected prefixes."""
    scopes = st.tuples(
        st.lists(st.sampled_from(get_args(Traffic)), max_size=3, unique=True).map(tuple),
        st.lists(st.sampled_from(["eth*", "eth0", "wg0"]), max_size=1).map(tuple),
    )
    kinds = st.sampled_from(draw(st.lists(scopes, min_size=1, max_size=3)))
    rules = [
        rule(
            f"r{index}",
            *map(str, draw(st.lists(PREFIXES, min_size=1, max_size=3))),
            protocols=protocols,
            interfaces=interfaces,
            bucket=draw(st.sampled_from(["source", "prefix"])),
            mode=draw(st.none() | MODES),
        )
        for index, (protocols, interfaces) in enumerate(draw(st.lists(kinds, max_size=8)))
    ]
    lists = st.lists(PREFIXES, max_size=3).map(tuple)
    limits = Limits(
        mode=draw(MODES),
        allow=draw(lists),
        deny=draw(lists),
        rules=tuple(rules),
        ipv6_source_prefix=draw(st.sampled_from([48, 64, 128])),
    )
    return limits, draw(lists)


def set_aside(error: ConfigError) -> NoReturn:
    """Set an example aside whose rules tell more apart than there are groups; any other refusal fails the test."""
    (problem,) = error.problems
    assert problem.path == "limits.rules"
    wanted = re.fullmatch(rf"expected at most {LIMIT_GROUPS} combinations .*, got (\d+)", problem.message)
    assert wanted
    assert int(wanted[1]) > LIMIT_GROUPS
    reject()
