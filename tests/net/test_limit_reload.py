"""SIGHUP and the limits: those of the new file in force as a whole, or the old ones as they were."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from signal import SIGHUP
from threading import Event
from typing import Final

from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.flood import Sender, flood
from tests.net.rations import EVERYBODY, QUICK, SIZE, enforce, packet, ration, verdicts

N0: Final = ({"name": "n0"},)
RELOADS: Final = 20


def test_a_reload_puts_the_files_limits_in_force(node: Node) -> None:
    """Rules that are new in the file limit, those that are gone do not, and those that stay keep bucket and counts."""
    wire = node.wire("n0")
    stays = ration("stays", 10, ["192.0.2.0/24"])
    daemon = node.daemon("n0", limits=enforce(stays, ration("goes", 10, ["10.0.0.0/8"])), flows=QUICK).start()
    sources = ("192.0.2.1", "10.0.0.1", "203.0.113.1")
    wire.send([packet(source) for source in sources] * 15)
    assert daemon.settle(45)["ledger"]["packets"]["dropped"] == 10

    daemon.reload(N0, limits=enforce(stays, ration("comes", 10, ["203.0.113.0/24"])), flows=QUICK)

    wire.send([packet(source) for source in sources] * 15)
    assert daemon.settle(90)["ledger"]["packets"]["dropped"] == 10 + 15 + 5
    limits = daemon.limits()
    assert [(rule["name"], rule["origin"]) for rule in limits["rules"]] == [("stays", "file"), ("comes", "file")]
    assert verdicts(limits, "stays") == (10, 20, 0)
    assert verdicts(limits, "comes") == (10, 5, 0)

    daemon.reload(N0, flows=QUICK)
    wire.send([packet(source) for source in sources] * 15)
    assert daemon.settle(135)["ledger"]["packets"]["dropped"] == 30
    assert (daemon.limits()["mode"], daemon.limits()["rules"]) == ("enforce", [])


def test_a_reload_keeps_what_was_changed_at_run_time(node: Node) -> None:
    """What cnfctl has changed stays over the new file, and what the file says by now is the file's."""
    node.wire("n0")
    daemon = node.daemon("n0", limits=enforce(ration("default", 10)), flows=QUICK).start()
    daemon.limits("deny", "add", "203.0.113.0/24")
    daemon.limits("allow", "add", "198.51.100.0/24")

    new = enforce(ration("default", 20), deny=["203.0.113.0/24"], max_rules=2048)
    daemon.reload(N0, limits=new, flows=QUICK)

    limits = daemon.limits()
    assert [(each["prefix"], each["origin"]) for each in limits["deny"]] == [("203.0.113.0/24", "file")]
    assert [(each["prefix"], each["origin"]) for each in limits["allow"]] == [("198.51.100.0/24", "runtime")]
    assert limits["rules"][0]["burst_bytes"] == 20 * SIZE
    (warning,) = daemon.events("changes at a restart only")
    assert (warning["key"], warning["in_use"]) == ("limits.max_rules", 1024)


def test_a_file_with_bad_limits_changes_nothing(node: Node) -> None:
    """Every problem of the new file is in the log with its key path, and the limits stay in force as they were."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=enforce(ration("default", 10)), flows=QUICK).start()
    before = daemon.limits()

    bad = ration("a b", 10, ["192.0.2.1/24"], colour="red")
    daemon.configure(N0, limits={"mode": "fast", "deny": [7], "rules": [ration("fine", 10), bad]})
    daemon.signal(SIGHUP)

    refused = daemon.wait_for_event("reload refused, the settings stay as they were")
    keys = ("mode", "deny[0]", "rules[1].name", "rules[1].prefixes[0]", "rules[1].colour")
    assert [key for key in keys if f"limits.{key}: " not in refused["error"]] == []
    assert daemon.scrape().total("cnf_config_last_reload_successful") == 0
    assert daemon.limits() == before
    wire.send([packet("192.0.2.1")] * 15)
    assert daemon.settle(15)["ledger"]["packets"]["dropped"] == 5


def test_no_packet_falls_between_two_rule_sets(node: Node) -> None:
    """While rule sets take turns under a flood, whom all admit loses no packet, and whom all deny gets none through."""
    wire = node.wire("n0")
    ample = {"name": "ample", "prefixes": [*EVERYBODY], "packets_per_second": 1_000_000}
    rule_sets = (
        enforce(ration("default", 10), allow=["10.0.0.1"], deny=["10.0.0.2"]),
        {"mode": "shadow", "deny": ["10.0.0.2/31"], "rules": [ample | {"mode": "enforce"}]},
    )
    daemon = node.daemon("n0", limits=rule_sets[0], flows=QUICK).start()
    admitted, denied = Sender([packet("10.0.0.1")], 2000), Sender([packet("10.0.0.2")], 2000)
    stop = Event()

    with arrivals(node.inside, "n0") as through, ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(flood, wire, 60.0, admitted, denied, stop=stop)
        try:
            for turn in range(1, RELOADS + 1):
                daemon.reload(N0, limits=rule_sets[turn % 2], flows=QUICK)
        finally:
            stop.set()
        flooding.result()
        status = daemon.settle(admitted.packets + denied.packets)
        assert through.by_source(admitted.packets) == {"10.0.0.1": admitted.packets}

    assert len(daemon.events("limits changed by the file")) == RELOADS
    assert daemon.scrape().by("reason", "cnf_dropped_packets_total") == {"denied": denied.packets}
    assert status["ledger"]["packets"]["difference"] == 0
    (flow,) = daemon.flows()
    assert (flow["packets"], flow["dropped_packets"]) == (admitted.packets, 0)
