"""Promises of cnf.limits.state_file: what was changed at run time outlives a restart, as a whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.errors import CnfError, ConfigError, PrivilegeError, UnavailableError
from cnf.limits.overrides import Overrides
from cnf.limits.state_file import load, read, save, to_json
from cnf.limits.table import BucketKind, LimitMode, Rule, Traffic
from tests.unit.rule_sets import PREFIXES, networks

REMEDY = " (move the file away to start without what was changed at run time)"
SOME = Overrides(
    mode="enforce",
    allow_removed=networks("10.0.0.0/8"),
    deny_added=networks("192.0.2.0/24", "2001:db8::/32"),
    rules=(Rule("dns", networks("::/0"), bits_per_second=1_500_000, protocols=("udp",)),),
    removed=("default",),
    protected=networks("198.51.100.7"),
    sessions=networks("198.51.100.7"),
)

NETWORKS = st.lists(PREFIXES, max_size=3).map(tuple)
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
RULES = st.builds(
    lambda rule, burst_packets, burst_bytes: Rule(
        **rule,
        burst_packets=burst_packets if rule["packets_per_second"] else None,
        burst_bytes=burst_bytes if rule["bits_per_second"] else None,
    ),
    st.fixed_dictionaries(
        {
            "name": NAMES,
            "prefixes": st.lists(PREFIXES, min_size=1, max_size=3).map(tuple),
            "packets_per_second": st.none() | st.integers(1, 1000),
            "bits_per_second": st.none() | st.integers(8, 1000).map(lambda rate: 1000 * rate),
            "bucket": st.sampled_from(get_args(BucketKind)),
            "protocols": st.lists(st.sampled_from(get_args(Traffic)), max_size=3).map(tuple),
            "interfaces": st.lists(st.sampled_from(["eth*", 'q"x\\y', "\udcff\udcfe", "ä"]), max_size=2).map(tuple),
            "mode": st.none() | st.sampled_from(get_args(LimitMode)),
        }
    ).filter(lambda rule: rule["packets_per_second"] or rule["bits_per_second"]),
    st.none() | st.integers(1, 1000),
    st.none() | st.integers(1514, 9000),
)
OVERRIDES = st.builds(
    Overrides,
    mode=st.none() | st.sampled_from(get_args(LimitMode)),
    allow_added=NETWORKS,
    allow_removed=NETWORKS,
    deny_added=NETWORKS,
    deny_removed=NETWORKS,
    rules=st.lists(RULES, max_size=3, unique_by=lambda rule: rule.name).map(tuple),
    removed=st.lists(NAMES, max_size=3).map(tuple),
    protected=st.sampled_from([(), networks("198.51.100.7", "2001:db8::7")]),
    sessions=st.sampled_from([(), networks("198.51.100.7")]),
)


def refusal(path: Path) -> list[str]:
    """Return what load() finds wrong with ``path``."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"configuration {path}: ")
    assert str(caught.value).endswith(REMEDY)
    return [str(problem).removesuffix(REMEDY) for problem in caught.value.problems]


def failure(path: Path) -> CnfError:
    """Return the error that save() ends with."""
    with pytest.raises(CnfError) as caught:
        save(path, SOME)
    assert str(caught.value).startswith("limits.state_file: ")
    return caught.value


@given(OVERRIDES)
def test_what_is_written_is_what_is_read(overrides: Overrides) -> None:
    """Nothing is lost or changed on the way through the file."""
    text = to_json(overrides)
    assert text.isascii()
    assert read(text, Path("limits.json")) == overrides


def test_file_is_for_people_too() -> None:
    """A rule looks like the table that it would be in TOML, and what has not been changed is not there."""
    assert to_json(Overrides()) == "{}\n"
    assert json.loads(to_json(SOME)) == {
        "mode": "enforce",
        "allow_removed": ["10.0.0.0/8"],
        "deny_added": ["192.0.2.0/24", "2001:db8::/32"],
        "rules": [{"name": "dns", "prefixes": ["::/0"], "bits_per_second": 1_500_000, "protocols": ["udp"]}],
        "removed": ["default"],
        "protected": ["198.51.100.7/32"],
        "sessions": ["198.51.100.7/32"],
    }
    assert '\n  "mode": "enforce",\n' in to_json(SOME)


def test_rules_may_be_written_as_in_toml() -> None:
    """Amounts have their units here, too."""
    text = '{"rules": [{"name": "r", "prefixes": ["::/0"], "bits_per_second": "1G", "burst_bytes": "4M"}]}'
    (rule,) = read(text, Path("limits.json")).rules
    assert (rule.bits_per_second, rule.burst_bytes) == (10**9, 4 * 10**6)


def test_missing_file_holds_nothing(tmp_path: Path) -> None:
    """Before the first change there is no file, and perhaps no directory."""
    assert load(tmp_path / "none" / "limits.json") == Overrides()


def test_every_problem_is_named_with_its_key_path(tmp_path: Path) -> None:
    """What somebody has written into the file by mistake is found in one go."""
    path = tmp_path / "limits.json"
    rule = {"name": "r", "prefixes": ["10.0.0.1/8"], "packets_per_second": 0}
    path.write_text(
        json.dumps({"mode": "on", "deny": [], "rules": [rule, rule], "removed": [""], "protected": ["10.0.0.0/8"]})
    )
    assert [problem.partition(":")[0] for problem in refusal(path)] == [
        "mode",
        "deny",
        "rules[0].prefixes[0]",
        "rules[0].packets_per_second",
        "rules[1].prefixes[0]",
        "rules[1].packets_per_second",
        "rules[1].name",
        "removed[0]",
        "protected[0]",
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"mode": "off"', "not JSON: Expecting ',' delimiter: line 1 column 15 (char 14)"),
        (b"{\n\xff", "not UTF-8 (at line 2)"),
        (b"[" * 100_000, "arrays or objects are nested too deeply"),
        (b"[]", "expected a table, got an empty array"),
        (b'{"mode": ' + b"1" * 5000 + b"}", "not JSON: a number is too long"),
    ],
)
def test_what_is_no_state_file_is_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    """A damaged file is named, and left alone."""
    path = tmp_path / "limits.json"
    path.write_bytes(data)
    assert refusal(path) == [expected]
    assert path.read_bytes() == data


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    """What is there and cannot be read is not taken for nothing."""
    assert refusal(tmp_path) == ["Is a directory"]


def test_saved_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """The file is read back as it was saved, nobody else can read it, and nothing is left beside it."""
    path = tmp_path / "state" / "cnf" / "limits.json"
    for overrides in (SOME, Overrides(), SOME):
        save(path, overrides)
        assert load(path) == overrides
    assert path.stat().st_mode & 0o777 == 0o600
    assert [*path.parent.iterdir()] == [path]


def test_what_a_killed_daemon_left_behind_does_no_harm(tmp_path: Path) -> None:
    """A half-written file is never read, nor written through if it is a link."""
    path, victim = tmp_path / "limits.json", tmp_path / "victim"
    victim.write_text("precious")
    path.with_name("limits.json.new").symlink_to(victim)
    assert load(path) == Overrides()
    save(path, SOME)
    assert load(path) == SOME
    assert victim.read_text() == "precious"
    assert sorted(tmp_path.iterdir()) == [path, victim]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_without_the_right_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A folder that this user, or the service in its own file system, may not write to is a matter of privilege."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "touch", refuse)
    error = failure(tmp_path / "limits.json")
    assert isinstance(error, PrivilegeError)
    assert str(error).endswith(
        "(run as root, or choose a folder of this user's; for a service, name it in ReadWritePaths=)"
    )


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failure_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """On a full or broken disk the previous file stays whole."""
    path = tmp_path / "limits.json"
    save(path, Overrides())

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        error = failure(path)
    assert isinstance(error, UnavailableError)
    assert str(error) == (
        f"limits.state_file: {path}: No space left on device (make room there, or choose another path)"
    )
    assert load(path) == Overrides()
    assert [*tmp_path.iterdir()] == [path]


def test_file_and_directory_are_on_the_disk_before_it_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of power leaves the old file or the new one, whole: what it holds is synced before its name is."""
    path = tmp_path / "limits.json"
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        assert json.loads(Path(source).read_text()) == json.loads(to_json(SOME))
        steps.append(f"name {target.name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    save(path, SOME)
    assert steps == ["sync limits.json.new", "name limits.json", f"sync {tmp_path.name}"]


def test_what_the_file_system_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that cannot be written to says so in the kernel's words."""
    (tmp_path / "file").touch()
    error = failure(tmp_path / "file" / "limits.json")
    assert isinstance(error, UnavailableError)
    assert f"{tmp_path / 'file'}: File exists (" in str(error)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    error = failure(tmp_path / "limits.json")
    assert isinstance(error, PrivilegeError)
    assert str(error) == (
        f"limits.state_file: {tmp_path}/limits.json.new: Permission denied "
        "(run as root, or choose a folder of this user's; for a service, name it in ReadWritePaths=)"
    )
