"""A rule that was set until a time is after it as it was before."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from cnf.abi import RULE_ENDS
from cnf.errors import UsageError
from cnf.limits.changes import read_change
from cnf.limits.entries import Author, moment
from cnf.limits.overrides import Effective, apply, difference
from cnf.limits.state_file import read, to_json
from cnf.limits.table import Rule
from tests.unit.changing import FILE
from tests.unit.rule_sets import rule

NOW = 1_772_366_400.0
AUTHOR = Author("uid 0, pid 7", NOW)
NOON, LATER = "2026-03-01T12:30:00Z", "2026-03-01T13:00:00Z"
NEW = {"name": "new", "prefixes": ["::/0"], "packets_per_second": 5}


def after(effective: Effective, **body: object) -> Effective:
    """Return what is in effect after a change."""
    return read_change(body).after(effective, FILE, AUTHOR)[0]


def set_rate(effective: Effective, rate: int, name: str = "dns", **options: object) -> Effective:
    """Return what is in effect after a change of a rate."""
    return after(effective, op="set", rule={"name": name, "packets_per_second": rate}, **options)


def rates(effective: Effective) -> dict[str, int | None]:
    """Return each rule's rate."""
    return {each.name: each.packets_per_second for each in effective.limits.rules}


def test_the_file_s_rule_comes_back() -> None:
    """On time, and not before; what is said in words names end and reason."""
    body = {"op": "set", "rule": {"name": "dns", "packets_per_second": 1}, "until": NOON, "reason": "reflection"}
    found, words = read_change(body).after(Effective(FILE), FILE, AUTHOR)
    assert words == f"set dns packets_per_second=1 until {NOON} (reflection)"
    assert rates(found) == {"default": 10, "dns": 1}
    assert found.later(FILE) == {NOW + 1800: FILE.rules}
    assert found.ended(NOW + 1799, FILE) is found
    assert found.ended(NOW + 1800, FILE) == Effective(FILE)


def test_what_was_set_before_comes_back() -> None:
    """Also if it is set until another time meanwhile; a rule that is new is gone."""
    found = set_rate(set_rate(set_rate(Effective(FILE), 7), 1, until=NOON), 2, until=LATER)
    found = after(found, op="set", rule=NEW, until=NOON)
    assert rates(found) == {"default": 10, "dns": 2, "new": 5}
    assert rates(found.ended(NOW + 1800, FILE)) == {"default": 10, "dns": 2}
    assert rates(found.ended(NOW + 3600, FILE)) == {"default": 10, "dns": 7}
    assert [len(rules) for rules in found.later(FILE).values()] == [2, 2]


def test_a_rule_that_was_removed_is_gone_again() -> None:
    """Though the file has it."""
    found = after(Effective(FILE), op="remove", name="dns")
    again = after(found, op="set", rule=NEW | {"name": "dns"}, until=NOON)
    assert again.ended(NOW + 1800, FILE) == found


@pytest.mark.parametrize(
    "body",
    [
        {"op": "set", "rule": {"name": "dns", "packets_per_second": 1}},
        {"op": "remove", "name": "dns"},
        {"op": "reset"},
    ],
)
def test_a_plain_change_has_no_end(body: dict[str, object]) -> None:
    """A rule that is set without an end stays as it is; one that is gone, or the file's again, does not come back."""
    found = after(set_rate(Effective(FILE), 2, until=NOON), **body)
    assert found.rule_ends == ()
    assert found.ended(NOW + 1e9, FILE) is found


def test_a_restart_finds_it_again() -> None:
    """What comes back is what the file says by then; a rule that it says meanwhile has no end."""
    found = set_rate(set_rate(Effective(FILE), 7, "default"), 1, "default", until=LATER)
    found = set_rate(found, 1, until=NOON)
    kept = read(to_json(difference(FILE, found)), Path("state"))
    assert apply(FILE, kept) == found
    other = rule("dns", "10.0.0.0/8")
    renewed = evolve(FILE, rules=(FILE.rules[0], other))
    assert apply(renewed, kept).ended(NOW + 1800, renewed).limits.rules[1] == other
    same = evolve(FILE, rules=(FILE.rules[0], Rule("dns", FILE.rules[1].prefixes, 1, protocols=("udp",))))
    assert [each.name for each in apply(same, kept).rule_ends] == ["default"]


def test_more_ends_than_the_kernel_holds_are_refused() -> None:
    """Rules that end together count once; what is over is refused, too."""
    found = Effective(FILE)
    for number in range(RULE_ENDS):
        found = after(found, op="set", rule=NEW | {"name": f"n{number}"}, until=moment(NOW + 60 + number))
    found = set_rate(found, 1, until=moment(NOW + 60))
    with pytest.raises(UsageError, match="until: rules end at 8 other times already"):
        set_rate(found, 1, "default", until=NOON)
    with pytest.raises(UsageError, match="is over"):
        set_rate(found, 1, "default", until=moment(NOW))
