"""Sets of prefixes in the daemon: read from files, put in force while packets come, shown, and kept over a restart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from signal import SIGKILL
from typing import Any

from cnf.limiter.set_files import QUIET
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.rations import QUICK, SIZE, enforce, packet, ration
from tests.net.wait import wait_for

DENIED, OTHER, IPV6 = "198.51.100.1", "203.0.113.1", "2001:db8::1"


def put(path: Path, *lines: str) -> None:
    """Move a file of these lines into place."""
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(lines), encoding="utf-8")
    fresh.replace(path)


def put_for_a_start(path: Path, *lines: str) -> None:
    """Have a file that a daemon reads before it is ready."""
    put(path, *lines)
    wait_for(lambda: time.time() - path.stat().st_ctime > QUIET, "the file to be quiet")


def sets(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """Return what ``cnfctl limits sets`` has, by name."""
    return {each["name"]: each for each in json.loads(daemon.ctl("limits", "sets", "-o", "json").stdout)}


def counts(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """Return the packets of each set, and of those what came in shadow; their bytes are to match."""
    found = sets(daemon)
    assert all(each["bytes"] == SIZE * each["packets"] for each in found.values())
    return {name: (each["packets"], each["in_shadow"]["packets"]) for name, each in found.items()}


def table(path: Path, *, mode: str = "enforce", action: str = "deny", name: str = "feed") -> dict[str, str]:
    """Return ``[[limits.sets]]``."""
    return {"name": name, "file": str(path), "action": action, "mode": mode}


def test_a_set_is_read_again_when_its_file_has_changed(node: Node, tmp_path: Path) -> None:
    """A file that is missing, or has a line that is no prefix, changes nothing; it is told with the line."""
    path, wire = tmp_path / "feed", node.wire("n0")
    daemon = node.daemon("n0", limits={"sets": [table(path)]}, flows=QUICK).start()
    daemon.wait_for_event("set not read, what was read before stays")
    wire.send([packet(DENIED)] * 2)
    put(path, "198.51.100.0/24 ; SBL1", "2001:db8::/32")
    daemon.wait_for_event("set read")
    wait_for(lambda: daemon.limits()["generation"] > 1, "the set in force")
    wire.send([packet(DENIED)] * 3 + [packet(IPV6)] * 4 + [packet(OTHER)] * 5)
    wait_for(lambda: counts(daemon) == {"feed": (7, 0)}, "the set's counts")
    explained = json.loads(daemon.ctl("limits", "explain", DENIED, "-o", "json").stdout)
    assert [(case["verdict"], case["set"], case["prefix"]) for case in explained["cases"]] == [
        ("denied", "feed", "198.51.100.0/24")
    ]
    assert "by the set feed" in daemon.ctl("limits", "explain", IPV6).stdout

    put(path, "203.0.113.0/24", "198.51.100.1/24")
    daemon.wait_for_event("set not read, what was read before stays", 2)

    wire.send([packet(OTHER)] * 6 + [packet(DENIED)])
    wait_for(lambda: counts(daemon) == {"feed": (8, 0)}, "the set's counts")
    assert (sets(daemon)["feed"]["refused_lines"], sets(daemon)["feed"]["prefixes"]) == (1, 2)
    for page in (("limits", "sets"), ("limits",), ("status",)):
        assert f'feed: {path}: line 2: a prefix has no host bits: "198.51.100.1/24"' in daemon.ctl(*page).stdout
    metrics = daemon.scrape()
    assert metrics.total("cnf_limit_set_failing") == 1
    assert metrics.total("cnf_limit_set_errors_total") == 2
    assert metrics.by("mode", "cnf_limit_set_packets_total", set="feed") == {"enforce": 8}
    assert metrics.total("cnf_limit_set_prefixes") == 2


def test_a_source_that_a_set_denies_stays_in_sight(node: Node, tmp_path: Path) -> None:
    """The first drop of a set names it, and so does a source with a bucket; the set is a row with rates."""
    path, watched, wire = tmp_path / "feed", tmp_path / "watched", node.wire("n0")
    put(path, "192.0.2.0/32")
    put_for_a_start(watched, "203.0.113.0/24")
    limits = enforce(ration("default", 8), sets=[table(path), table(watched, mode="shadow", name="w")])
    daemon = node.daemon("n0", limits=limits, flows=QUICK).start()

    def rows() -> dict[str, dict[str, Any]]:
        return {row["source"]: row for row in daemon.limited_sources()}

    wire.send([packet(DENIED)] * 10 + [packet(OTHER)] * 11)
    wait_for(lambda: {DENIED, OTHER, "set w"} == rows().keys(), "the sources")
    put(path, "198.51.100.0/24")
    daemon.wait_for_event("set read", 3)
    daemon.drain()

    wire.send([packet(DENIED)] * 5)
    daemon.wait_for_event("first drop", 3)
    daemon.drain()

    fields = ("source", "address", "rule", "denied", "set")
    first_drop = ("198.51.100.0/24", DENIED, None, True, "feed")
    assert tuple(daemon.events("first drop")[-1][field] for field in fields) == first_drop
    found = rows()
    shown = ("verdict", "rule", "set", "mode", "dropped_packets", "would_drop_packets")
    assert {name: tuple(row[field] for field in shown) for name, row in found.items()} == {
        DENIED: ("denied", "default", "feed", "enforce", 2, 0),
        OTHER: (found[OTHER]["verdict"], "default", None, "enforce", 3, 0),
        "set feed": ("denied", None, "feed", "enforce", 5, 0),
        "set w": ("would_limit", None, "w", "shadow", 0, 11),
    }
    assert found["set feed"]["last_drop"]

    def rate() -> float:
        wire.send([packet(DENIED)])
        return float(rows()["set feed"]["packets_per_second"])

    wait_for(rate, "a rate")


def test_sets_outlive_the_daemon(node: Node, tmp_path: Path) -> None:
    """With their counts; also where the file is broken by then. A reload adds and removes them."""
    path, other, wire = tmp_path / "feed", tmp_path / "other", node.wire("n0")
    put_for_a_start(path, "198.51.100.0/24")
    put(other, "203.0.113.0/24", "198.51.100.0/24")
    daemon = node.daemon("n0", limits={"sets": [table(path)]}, flows=QUICK).start()
    wire.send([packet(DENIED)] * 3)
    wait_for(lambda: counts(daemon) == {"feed": (3, 0)}, "the set's counts")
    daemon.signal(SIGKILL)
    daemon.ended()
    put(path, "nonsense")
    wire.send([packet(DENIED)] * 4)

    daemon.start()

    wire.send([packet(DENIED)] * 5)
    wait_for(lambda: counts(daemon) == {"feed": (12, 0)}, "the set's counts")
    shadow = table(other, mode="shadow", name="watched")
    daemon.configure([{"name": "n0"}], limits={"sets": [table(path), shadow]}, flows=QUICK)
    daemon.ctl("reload")
    daemon.wait_for_event("set read")
    wait_for(lambda: "watched" in counts(daemon) and daemon.limits()["generation"] > 0, "the set in force")
    wait_for(lambda: _sent_in_shadow(daemon, wire) > 0, "the set to count")
    daemon.configure([{"name": "n0"}], limits={"sets": []}, flows=QUICK)
    daemon.ctl("reload")
    before = daemon.scrape().total("cnf_dropped_packets_total")
    wire.send([packet(DENIED)] * 5)
    assert daemon.scrape().total("cnf_dropped_packets_total") == before
    assert daemon.ctl("limits", "sets").stdout.startswith("there are no sets")


def _sent_in_shadow(daemon: Daemon, wire: Any) -> int:  # noqa: ANN401 - a Wire
    """Send a packet, and return how many have been counted."""
    wire.send([packet(OTHER)])
    return counts(daemon)["watched"][1]


def test_protected_and_allowed_sources_pass_a_bad_feed(node: Node, tmp_path: Path) -> None:
    """A feed that denies everybody locks out nobody who is on the list allow, nor who is in a set that allows."""
    path, good, wire = tmp_path / "feed", tmp_path / "good", node.wire("n0")
    put(path, "0.0.0.0/1", "128.0.0.0/1")
    put_for_a_start(good, "203.0.113.0/24")
    limits = {"allow": ["192.0.2.0/24"], "sets": [table(path), table(good, action="allow", name="good")]}
    daemon = node.daemon("n0", limits=limits, flows=QUICK).start()
    wire.send([packet("192.0.2.1"), packet(OTHER), packet(OTHER), packet(DENIED)])
    wait_for(lambda: counts(daemon) == {"feed": (1, 0), "good": (2, 0)}, "the sets' counts")
    daemon.drain()
    assert {flow["src_addr"] for flow in daemon.flows()} == {"192.0.2.1", OTHER}
