"""What is added to a list at run time has an author, and can have an end and a reason."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path

import pytest
from attrs import evolve

from cnf.errors import ConfigError, UsageError
from cnf.limits.changes import read_change
from cnf.limits.entries import Author, Entry, moment
from cnf.limits.overrides import Effective, apply, difference
from cnf.limits.state_file import read, to_json
from tests.unit.changing import FILE
from tests.unit.rule_sets import networks

NOW = 1_772_366_400.0
AUTHOR = Author("uid 0, pid 7", NOW)
NOON, LATER = "2026-03-01T12:30:00Z", "2026-03-01T13:00:00Z"
A, B = "198.51.100.1/32", "2001:db8:1::/48"


def after(effective: Effective, **body: object) -> Effective:
    """Return what is in effect after a change."""
    return read_change(body).after(effective, FILE, AUTHOR)[0]


def ends(effective: Effective) -> dict[str, str | None]:
    """Return when each entry ends, by prefix."""
    return {str(each.prefix): each.until for each in effective.entries}


def test_several_prefixes_have_one_end() -> None:
    """The change in words has all of them; a plain change later has no end."""
    change = read_change({"op": "deny_add", "prefix": [A, B], "until": NOON, "reason": "scans"})
    found, words = change.after(Effective(FILE), FILE, AUTHOR)
    assert words == f"deny add {A}, {B} until {NOON} (scans)"
    assert found.limits.deny == (*FILE.deny, *networks(A, B))
    since = moment(NOW)
    assert found.entries == tuple(
        Entry("deny", ip_network(prefix), "uid 0, pid 7", since, NOON, "scans") for prefix in (A, B)
    )
    later = after(found, op="deny_add", prefix="10.0.0.1")
    assert ends(later) == {A: NOON, B: NOON, "10.0.0.1/32": None}
    assert set(later.ends) == {("deny", ip_network(A)), ("deny", ip_network(B))}


def test_an_end_can_be_changed_and_taken_away() -> None:
    """Adding again what has an end replaces it; what has none and gets none is there already."""
    found = after(Effective(FILE), op="deny_add", prefix=A, until=NOON)
    longer = after(found, op="deny_add", prefix=A, until=LATER)
    for_ever = after(longer, op="deny_add", prefix=A)
    assert [ends(each) for each in (longer, for_ever)] == [{A: LATER}, {A: None}]
    assert for_ever.limits == found.limits
    with pytest.raises(UsageError, match="already has"):
        after(for_ever, op="deny_add", prefix=A)
    with pytest.raises(UsageError, match="already has"):
        after(found, op="deny_add", prefix=str(FILE.deny[0]), until=NOON)


def test_what_has_ended_goes() -> None:
    """Nothing else does; and what is removed or reset leaves no entry behind."""
    found = after(after(Effective(FILE), op="deny_add", prefix=A, until=NOON), op="allow_add", prefix=B, until=LATER)
    assert found.ended(NOW, FILE) is found
    over = found.ended(NOW + 1800, FILE)
    assert (over.limits.deny, ends(over)) == (FILE.deny, {B: LATER})
    assert found.ended(NOW + 3600, FILE) == Effective(FILE)
    assert after(found, op="reset") == Effective(FILE)
    assert after(found, op="deny_remove", prefix=A) == over
    assert after(found, op="confirm").entries == found.entries


def test_what_lasts_longer_is_kept() -> None:
    """Of two who deny the same, the one that does so for longer is in the list, and the file's before both."""
    body = {"op": "deny_add", "keep_longer": True}
    found = after(after(Effective(FILE), **body, prefix=A, until=NOON), **body, prefix=A, until=LATER, reason="week")
    assert ends(found) == {A: LATER}
    assert after(found, **body, prefix=[A, str(FILE.deny[0])], until=NOON) == found
    change = read_change(body | {"prefix": [A, B], "until": NOON})
    assert change.after(found, FILE, AUTHOR)[1] == f"deny add {B} until {NOON}"
    for_ever = after(found, **body, prefix=A)
    assert ends(for_ever) == {A: None}
    assert after(for_ever, **body, prefix=A, until=LATER) == for_ever


def test_what_was_added_for_a_reason_goes_with_it() -> None:
    """All of it, or what is named; nothing else, and what is there no more is no mistake."""
    found = after(Effective(FILE), op="deny_add", prefix=[A, B], reason="scans")
    found = after(found, op="deny_add", prefix="10.0.0.1", reason="spam")
    assert list(ends(after(found, op="deny_remove", prefix=B, reason="scans"))) == [A, "10.0.0.1/32"]
    assert list(ends(after(found, op="deny_remove", reason="scans"))) == ["10.0.0.1/32"]
    for prefix in ([A], ["::1"], [str(FILE.deny[0])]):
        change = read_change({"op": "deny_remove", "prefix": prefix, "reason": "spam"})
        assert change.after(found, FILE, AUTHOR) == (found, "")


def test_a_restart_finds_them_again() -> None:
    """The state file has them; what the file has meanwhile got has no end any more."""
    found = after(Effective(FILE), op="deny_add", prefix=[A, B], until=NOON, reason="scans")
    kept = read(to_json(difference(FILE, found)), Path("state"))
    assert apply(FILE, kept) == found
    assert ends(apply(evolve(FILE, deny=networks(A)), kept)) == {B: NOON}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"until": "noon"}, 'until: expected a time in UTC such as "2026-03-01T12:00:00Z", got "noon"'),
        ({"until": "2026-02-30T12:00:00Z"}, "until: expected a time in UTC"),
        ({"until": moment(NOW)}, "until: 2026-03-01T12:00:00Z is over"),
        ({"reason": "a\x1b"}, "reason: expected 1 to 200 printable characters"),
        ({"prefix": []}, "prefix: expected a prefix, or an array of prefixes, at least one"),
    ],
)
def test_what_cannot_be_meant_is_refused(body: dict[str, object], expected: str) -> None:
    """Each with what was expected there."""
    with pytest.raises(UsageError) as caught:
        after(Effective(FILE), **{"op": "deny_add", "prefix": A} | body)
    assert str(caught.value).startswith(expected)


def test_a_state_file_is_read_as_strictly() -> None:
    """An entry without an author or with a time that is none names its place."""
    with pytest.raises(ConfigError) as caught:
        read(json.dumps({"entries": [{"list": "deny", "prefix": A, "since": 7}]}), Path("state"))
    assert {problem.path for problem in caught.value.problems} == {"entries[0].since", "entries[0].who"}
