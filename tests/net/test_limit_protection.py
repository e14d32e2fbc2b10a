"""Whoever is logged in over SSH is not locked out by a change of the limits, until it is confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.namespaces import Wire
from tests.net.rations import QUICK, enforce, packet
from tests.net.wait import wait_for

OVER_SSH: Final = {"SSH_CONNECTION": "10.0.0.2 50000 10.0.0.1 22"}
ALLOWED: Final = "192.0.2.1"
LIMITS: Final = enforce(allow=[ALLOWED])
PACKETS: Final = 10
WITH_SESSIONS: Final = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mkdir -p /run/systemd; mount -t tmpfs cnf /run/systemd; ln -s "$0" /run/systemd/sessions; exec "$@"',
)
"""A command, with a folder and another command, that has the folder in the place of systemd-logind's."""


def test_who_changes_the_limits_over_ssh_is_protected(node: Node) -> None:
    """The address that cnfctl is run from over SSH passes, whatever is denied or limited, until ``limits confirm``."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=LIMITS, flows=QUICK).start()

    reply = daemon.limits("deny", "add", "10.0.0.0/24", environment=OVER_SSH)

    assert (reply["protected"], reply["pending"]) == (["10.0.0.2/32"], [])
    assert _pass(node, wire) == {"10.0.0.2"}
    (case,) = daemon.limits("explain", "10.0.0.2")["cases"]
    assert (case["verdict"], case["prefix"]) == ("protected", "10.0.0.2/32")
    daemon.limits("set", "nobody", "--prefix", "0.0.0.0/0", "--packets-per-second", "1", "--burst-packets", "1")
    assert _pass(node, wire) == {"10.0.0.2"}

    daemon.stop()
    daemon.start()
    assert daemon.limits()["protected"] == ["10.0.0.2/32"]
    assert _pass(node, wire) == {"10.0.0.2"}

    confirmed = daemon.limits("confirm", environment=OVER_SSH)
    assert (confirmed["changes"], confirmed["protected"]) == (["protect 10.0.0.2 no more"], [])
    assert _pass(node, wire) == set()
    assert _dropped(daemon) == {"denied": 3 * PACKETS}  # since the restart


def test_who_is_locked_out_by_a_file_over_ssh_is_protected(node: Node) -> None:
    """A daemon started over SSH protects that address when a new file denies it, until ``limits confirm``."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=LIMITS, flows=QUICK)
    daemon.environment = OVER_SSH
    daemon.start()
    assert "10.0.0.2/32" not in daemon.limits()["protected"]

    daemon.reload([{"name": "n0"}], limits=LIMITS | {"deny": ["10.0.0.0/24"]}, flows=QUICK)

    (event,) = daemon.events("limits changed by the file")
    assert "10.0.0.2/32" in event["protected"]
    assert _pass(node, wire) == {"10.0.0.2"}
    daemon.limits("confirm")
    assert _pass(node, wire) == set()
    assert _dropped(daemon)["denied"] == 3 * PACKETS


def test_who_is_logged_in_at_the_start_is_protected_as_long_as_that(node: Node, tmp_path: Path) -> None:
    """A session that systemd-logind knows of passes even ``deny``, over restarts, until it ends; all views show it."""
    wire = node.wire("n0")
    sessions = tmp_path / "sessions"
    sessions.mkdir()
    denied = LIMITS | {"deny": ["10.0.0.0/24"]}
    daemon = node.daemon("n0", limits=denied, flows=QUICK)
    daemon.command = (*WITH_SESSIONS, str(sessions), *daemon.command)

    _log_in(sessions, "7", "10.0.0.2")
    for _ in range(2):
        daemon.start()
        assert _protected(daemon) == ["10.0.0.2/32"]
        assert _pass(node, wire) == {"10.0.0.2"}
        assert "10.0.0.2/32" in daemon.ctl("status").stdout
        daemon.stop()
    daemon.start()
    _log_in(sessions, "7", "10.0.0.2", state="closing")
    node.wire("n1")  # what comes is looked at at once, and who is logged in with it
    ended = daemon.wait_for_event("protection ended with the session")
    assert ended["addresses"] == ["10.0.0.2/32"]
    assert _protected(daemon) == []
    assert _pass(node, wire) == set()

    _log_in(sessions, "8", "10.0.0.2")
    daemon.reload([{"name": "n0"}], limits=denied | {"allow": []}, flows=QUICK)
    assert _protected(daemon) == ["10.0.0.2/32"]
    daemon.stop()
    for session in sessions.iterdir():
        session.unlink()
    daemon.start()
    assert _protected(daemon) == []
    assert _pass(node, wire) == set()


def test_who_is_logged_in_when_a_feed_goes_bad_is_protected(node: Node, tmp_path: Path) -> None:
    """A set that denies a session's address does not lock it out as long as the session lasts, confirmed or not."""
    wire = node.wire("n0")
    sessions, feed = tmp_path / "sessions", tmp_path / "feed"
    sessions.mkdir()
    feed.write_text("203.0.113.0/24\n")
    feeds = [{"name": "feed", "file": str(feed), "action": "deny"}]
    daemon = node.daemon("n0", limits=LIMITS | {"sets": feeds}, flows=QUICK)
    daemon.command = (*WITH_SESSIONS, str(sessions), *daemon.command)
    daemon.start()
    _log_in(sessions, "7", "10.0.0.2")
    daemon.wait_for_event("set read")
    assert _protected(daemon) == []

    fresh = tmp_path / "fresh"
    fresh.write_text("10.0.0.0/24\n")
    fresh.replace(feed)
    daemon.wait_for_event("set read", 2)
    node.wire("n1")  # what comes is looked at at once, and who is logged in with it

    assert daemon.wait_for_event("a set denies who is logged in: protected")["addresses"] == ["10.0.0.2/32"]
    assert _protected(daemon) == ["10.0.0.2/32"]
    assert _pass(node, wire) == {"10.0.0.2"}

    assert daemon.limits("confirm")["changes"] == ["protect 10.0.0.2 still, a set denies it"]
    assert _protected(daemon) == ["10.0.0.2/32"]
    assert _pass(node, wire) == {"10.0.0.2"}
    (sessions / "7").unlink()
    node.wire("n2")
    daemon.wait_for_event("protection ended with the session")
    assert _pass(node, wire) == set()


def _log_in(sessions: Path, name: str, host: str, state: str = "active") -> None:
    """Have a session as systemd-logind writes it down."""
    (sessions / name).write_text(f"UID=0\nSTATE={state}\nREMOTE=1\nREMOTE_HOST={host}\n", encoding="utf-8")


def _protected(daemon: Daemon) -> list[str]:
    """Return who is protected, as all views have it."""
    protected: list[str] = daemon.limits()["protected"]
    assert daemon.status()["limiter"]["protected"] == protected
    assert daemon.scrape().total("cnf_limiter_protected") == len(protected)
    return protected


def _pass(node: Node, wire: Wire) -> set[str]:
    """Send from two neighbours, and return whose packets have all come through; the others' must not at all."""
    with arrivals(node.inside, "n0") as through:
        wire.send([packet(source) for source in ("10.0.0.3", "10.0.0.2", ALLOWED)] * PACKETS)
        wait_for(lambda: through.by_source().get(ALLOWED) == PACKETS, "what is sent last and always passes")
        passed = through.by_source()
    assert set(passed.values()) == {PACKETS}
    return passed.keys() - {ALLOWED}


def _dropped(daemon: Daemon) -> dict[str, int]:
    return daemon.scrape().by("reason", "cnf_dropped_packets_total")
