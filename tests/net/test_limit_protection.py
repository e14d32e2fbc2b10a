"""Whoever is logged in over SSH is not locked out by a change of the limits, until it is confirmed."""

from __future__ import annotations

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


def test_who_changes_the_limits_over_ssh_is_protected(node: Node) -> None:
    """The address that cnfctl is run from over SSH passes, whatever is denied or limited, until ``limits confirm``."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=LIMITS, flows=QUICK).start()

    reply = daemon.limits("deny", "add", "10.0.0.0/24", environment=OVER_SSH)

    assert (reply["protected"], reply["pending"]) == (["10.0.0.2/32"], None)
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
