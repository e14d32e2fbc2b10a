"""Changes that a client asks for: what each does, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.errors import UsageError
from cnf.limits.changes import read_change
from cnf.limits.overrides import Effective, Overrides, apply, difference
from cnf.limits.table import RULE, Limits, Rule, written
from tests.unit.changing import EMPTY, FILE, SSH, change, changes, limits, refused, set_rule, words
from tests.unit.rule_sets import MODES, PREFIXES, networks, rule_sets


def test_set_changes_only_the_given_keys() -> None:
    """The rest of a rule stays as it is in effect, even if that is a change, too."""
    overrides = changes(
        set_rule("dns", burst_packets=7, bits_per_second="1.5M", interfaces=["eth*"]),
        set_rule("dns", prefixes=["192.0.2.0/25", "::1"], mode="enforce", bucket="prefix"),
    )
    assert overrides.rules == (
        Rule(
            "dns", networks("192.0.2.0/25", "::1"), 10, 7, 1_500_000, None, "prefix", ("udp",), ("eth*",), "enforce"
        ),
    )  # fmt: skip


def test_null_takes_a_key_back() -> None:
    """A key that is null is as if it had not been said."""
    overrides = changes(
        set_rule("dns", burst_packets=7, bits_per_second=800, mode="off"),
        set_rule("dns", packets_per_second=None, burst_packets=None, protocols=None, mode=None, bucket=None),
    )
    assert overrides.rules == (Rule("dns", networks("192.0.2.0/24"), bits_per_second=800),)


@given(rule_sets())
def test_setting_what_the_file_says_leaves_nothing_behind(drawn: tuple[Limits, Any]) -> None:
    """A rule that is set as the file has it is the file's, whether it was so before, or changed, or removed."""
    file, _ = drawn
    unset = dict.fromkeys((field.name for field in attrs.fields(Rule)), None)
    for each in file.rules:
        body = {"op": "set", "rule": unset | written(each)}
        removed = change({"op": "remove", "name": each.name}, file=file)
        changed = change(set_rule(each.name, burst_packets=1), file=file)
        assert EMPTY not in (removed, changed)
        assert [change(body, before, file) for before in (EMPTY, removed, changed)] == [EMPTY] * 3


@pytest.mark.parametrize(
    ("there", "back"),
    [
        ({"op": "mode", "mode": "enforce"}, {"op": "mode", "mode": "shadow"}),
        ({"op": "allow_add", "prefix": "fd00::/8"}, {"op": "allow_remove", "prefix": "fd00::/8"}),
        ({"op": "allow_remove", "prefix": "10.0.0.0/8"}, {"op": "allow_add", "prefix": "10.0.0.0/8"}),
        ({"op": "deny_add", "prefix": "192.0.2.1"}, {"op": "deny_remove", "prefix": "192.0.2.1/32"}),
        ({"op": "deny_remove", "prefix": "192.0.2.0/24"}, {"op": "deny_add", "prefix": "192.0.2.0/24"}),
        (set_rule("dns", mode="off"), set_rule("dns", mode=None)),
        (set_rule("new", prefixes=["::/0"], bits_per_second=8), {"op": "remove", "name": "new"}),
        ({"op": "remove", "name": "dns"}, {"op": "reset"}),
    ],
)
def test_changing_back_leaves_nothing_behind(there: dict[str, object], back: dict[str, object]) -> None:
    """What is as the file says is not kept."""
    assert limits(changes(there)) != FILE
    assert changes(there, back) == EMPTY


def test_reset_returns_to_the_file_and_protects_on() -> None:
    """Whoever a change might have locked out stays protected, for the file might lock him out, too."""
    overrides = changes(
        {"op": "mode", "mode": "enforce", "ssh_connection": SSH},
        set_rule("default", packets_per_second=1),
        {"op": "remove", "name": "dns"},
        {"op": "reset", "ssh_connection": SSH.replace("7", "8", 1)},
    )
    assert overrides == Overrides(protected=networks("198.51.100.7", "198.51.100.8"))


@pytest.mark.parametrize(
    ("connection", "address"),
    [
        (SSH, "198.51.100.7"),
        ("2001:db8::7 1 2001:db8::1 22", "2001:db8::7"),
        ("fe80::7%eth0 1 fe80::1%eth0 22", "fe80::7"),
        ("::ffff:198.51.100.7 1 ::ffff:192.0.2.1 22", "198.51.100.7"),
    ],
)
def test_client_over_ssh_is_protected_until_it_confirms(connection: str, address: str) -> None:
    """Each change protects the address that it comes from, once."""
    body: dict[str, object] = {"op": "mode", "mode": "enforce", "ssh_connection": connection}
    overrides = changes(body, body)
    assert overrides == Overrides(mode="enforce", protected=networks(address))
    assert change({"op": "confirm", "ssh_connection": connection}, overrides) == Overrides(mode="enforce")


@pytest.mark.parametrize("connection", [None, "UNKNOWN 65535 UNKNOWN 65535"])
def test_client_without_an_address_is_not_protected(connection: str | None) -> None:
    """At the console, and behind a proxy command, there is no address to protect."""
    body = {"op": "mode", "mode": "enforce", "confirm": None, "ssh_connection": connection}
    assert change(body) == Overrides(mode="enforce")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (set_rule("default", packets_per_second=100), "set default packets_per_second=100"),
        (
            set_rule("dns", bits_per_second="1G", prefixes=["::/0", "1.2.3.4"], protocols=None, burst_packets=None),
            "set dns bits_per_second=1000000000 prefixes=::/0,1.2.3.4/32 protocols=unset burst_packets=unset",
        ),
        (set_rule("dns", interfaces=["\udcff\x1b"]), "set dns interfaces=\\udcff\\x1b"),
        ({"op": "remove", "name": "dns"}, "remove dns"),
        ({"op": "deny_add", "prefix": "192.0.2.7"}, "deny add 192.0.2.7/32"),
        ({"op": "allow_remove", "prefix": "10.0.0.0/8"}, "allow remove 10.0.0.0/8"),
        ({"op": "mode", "mode": "off", "confirm": 60}, "mode off"),
        ({"op": "reset"}, "reset"),
        ({"op": "confirm", "confirm": None}, "confirm"),
    ],
)  # fmt: skip
def test_change_is_told_in_words(body: dict[str, object], expected: str) -> None:
    """The log and the list of what waits say what a client has asked for, in printable ASCII."""
    assert words(body) == expected


# What is refused


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], "op: expected one of set, remove, allow_add, "),
        ({}, "op: expected one of set, remove, allow_add, allow_remove, deny_add, deny_remove, mode, confirm, reset, "),
        ({"op": "alow_add"}, 'reset, got "alow_add" (did you mean allow_add?)'),
        ({"op": ["set"]}, "reset, got an array"),
        ("reset", "expected a table, got"),
        ({"op": "reset", "prefix": "::/0"}, "prefix: unknown key, expected op, confirm, ssh_connection"),
        ({"op": "mode", "mode": "shaddow"}, 'mode: expected off, shadow or enforce, got "shaddow"'),
        ({"op": "mode"}, "mode: missing: off, shadow or enforce"),
        ({"op": "deny_add"}, "prefix: missing: what to add"),
        ({"op": "deny_remove"}, "prefix: missing: what to remove, unless there is a reason"),
        ({"op": "deny_add", "prefix": "::1", "keep_longer": 1}, "keep_longer: expected true or false, got 1"),
        (
            {"op": "deny_add", "prefix": "10.0.0.1/8"},
            'prefix: expected a prefix without host bits, got "10.0.0.1/8" (write "10.0.0.0/8")',
        ),
        ({"op": "remove", "name": "d s"}, "name: expected a name of 1 to 64 letters, digits, dots, dashes and "),
        ({"op": "set"}, "rule: missing: the rule's name, and the keys to set"),
        ({"op": "set", "rule": "default"}, "rule: expected an object with the rule's name and the keys to set"),
        ({"op": "set", "rule": {"mode": "off"}}, "rule.name: expected a name of 1 to 64 letters, digits, "),
        (set_rule("default"), "rule: nothing to set: expected a key such as packets_per_second beside the name"),
    ],
)  # fmt: skip
def test_request_that_makes_no_sense_is_refused(body: object, expected: str) -> None:
    """Each mistake is named with its key and what was expected there."""
    assert expected in refused(body)


@pytest.mark.parametrize("seconds", [0, 0.09, -1, 86401, 10**400, float("nan"), float("inf"), True, "60s", [60]])
def test_time_to_confirm_is_seconds_within_a_day(seconds: object) -> None:
    """What is no time that a person could mean is refused."""
    assert refused({"op": "reset", "confirm": seconds}).startswith("confirm: expected seconds from 0.1 to 86400, or ")


def test_confirmation_itself_waits_for_none() -> None:
    """A confirmation with a time makes no sense."""
    assert refused({"op": "confirm", "confirm": 60}) == "confirm: expected null, got 60"


@pytest.mark.parametrize(
    "connection", ["", "198.51.100.7", "198.51.100 1 192.0.2.1 22", "eth0 1 2 3", f"{SSH} 1", 7, [SSH]]
)
def test_ssh_connection_is_understood_or_refused(connection: object) -> None:
    """An address that cannot be protected must not look as if it were."""
    expected = "ssh_connection: expected what sshd has set as SSH_CONNECTION, or null, got "
    assert refused({"op": "reset", "ssh_connection": connection}).startswith(expected)


def test_every_problem_of_a_request_is_named() -> None:
    """Several mistakes come in one line."""
    body = {"op": "mode", "mode": 1, "confirm": 0, "ssh_connection": 0, "mod": 0}
    line = refused(body)
    assert [part.partition(":")[0] for part in line.split("; ")] == ["mode", "confirm", "ssh_connection", "mod"]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"packet_per_second": 1},
            "limits.rules.dns.packet_per_second: unknown key, did you mean packets_per_second?",
        ),
        (
            {"packet_per_second": None},
            "limits.rules.dns.packet_per_second: unknown key, did you mean packets_per_second?",
        ),
        ({"prefixes": None}, "limits.rules.dns.prefixes: missing: the sources; of all rules, "),
        ({"packets_per_second": None}, "limits.rules.dns: expected packets_per_second, bits_per_second or both"),
        ({"burst_bytes": "4M"}, "limits.rules.dns.burst_bytes: expected only beside bits_per_second"),
        ({"mode": "on", "burst_packets": 0}, "limits.rules.dns.burst_packets: expected an integer from 1 to "),
        (
            {"burst_packets": 8_640_001},
            "limits.rules.dns.burst_packets: expected at most 8640000 at the rule's rates, got 8640001",
        ),
    ],
)  # fmt: skip
def test_rule_that_would_not_be_valid_is_refused(keys: dict[str, object], expected: str) -> None:
    """The rule as it would be is held to what the configuration is held to, and named by its name."""
    assert expected in refused(set_rule("dns", **keys))


def test_new_rule_must_be_complete() -> None:
    """A slip in a rule's name does not make a rule, and the name that was perhaps meant is named."""
    missing = "limits.rules.defualt.prefixes: missing: the sources; of all rules, the longest prefix decides"
    line = refused(set_rule("defualt", packets_per_second=1))
    assert line == f"there is no rule defualt (did you mean default?); to make it: {missing}"


def test_nothing_is_added_twice_or_removed_that_is_not_there() -> None:
    """A change that would change nothing is a mistake of its author."""
    removed = changes({"op": "remove", "name": "dns"})
    assert refused({"op": "remove", "name": "dsn"}) == "there is no rule dsn (did you mean dns?)"
    assert refused({"op": "remove", "name": "dns"}, removed) == "there is no rule dns"
    assert refused({"op": "allow_add", "prefix": "10.0.0.0/8"}) == "limits.allow already has 10.0.0.0/8"
    assert refused({"op": "deny_remove", "prefix": "10.0.0.0/8"}) == "limits.deny does not have 10.0.0.0/8"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | PREFIXES.map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
RULE_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "prefixes": st.lists(PREFIXES.map(str), max_size=3),
    "packets_per_second": st.integers(0, 9),
    "burst_packets": st.integers(0, 9),
    "bits_per_second": st.sampled_from([8, "64k", "1.1G", "1T", 10**9 + 1]),
    "burst_bytes": st.sampled_from([1513, 1514, "4M", "1T"]),
    "bucket": st.sampled_from(["source", "prefix"]),
    "protocols": st.lists(st.sampled_from(["tcp", "udp"])),
    "interfaces": st.lists(st.sampled_from(["eth*", "wg0"])),
    "mode": MODES,
}
RULES = st.fixed_dictionaries(
    {"name": st.sampled_from(["default", "dns", "new"])},
    optional={key: st.none() | options for key, options in RULE_OPTIONS.items()} | {"burst": JSON},
)
OPERATIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "set": {"rule": RULES},
    "remove": {"name": st.sampled_from(["default", "dns", "new"])},
    **{
        op: {"prefix": st.sampled_from(["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"])}
        for op in ("allow_add", "allow_remove", "deny_add", "deny_remove")
    },
    "mode": {"mode": MODES},
    "confirm": {},
    "reset": {},
}
RIGHT = st.sampled_from(list(OPERATIONS)).flatmap(
    lambda op: st.fixed_dictionaries({"op": st.just(op), **OPERATIONS[op]}, optional={"ssh_connection": st.just(SSH)})
)
WRONG = st.builds(lambda body, key, item: body | {key: item}, RIGHT, st.sampled_from(["op", "rule", "prefix"]), JSON)


@given(st.lists(RIGHT | WRONG | JSON, max_size=8))
def test_whatever_is_asked_for_the_limits_stay_valid(bodies: list[object]) -> None:
    """A request is refused with a UsageError, or leaves limits that a file could have, and a restart finds again."""
    found = Effective(FILE)
    for body in bodies:
        with suppress(UsageError):
            found, _ = read_change(body).after(found, FILE)
    assert apply(FILE, difference(FILE, found)) == found
    for each in found.limits.rules:
        assert RULE(written(each), "") == each
    assert found.protected in {(), networks("198.51.100.7")}


def test_a_name_that_is_no_text_is_refused_like_any_other() -> None:
    """JSON can hold halves of characters, which no interface's name can."""
    assert "interfaces[0]" in refused(set_rule("default", interfaces=["\ud800"]))
