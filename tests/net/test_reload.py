"""SIGHUP: a new configuration in full, or the old one as it was."""

from __future__ import annotations

from signal import SIGHUP

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node

PACKET = frame(IPv4(), UDP(), bytes(100))


def test_a_reload_takes_interfaces_in_and_lets_them_go(node: Node) -> None:
    """An interface that is new in the file is attached, one that is gone from it let go, and one that stays, stays."""
    wires = {name: node.wire(name) for name in ("n0", "n1", "n2")}
    daemon = node.daemon("n0", "n1").start()
    wires["n0"].send([PACKET] * 3)
    wires["n1"].send([PACKET] * 4)
    daemon.settle(7)
    attached = len(daemon.events("program attached"))

    daemon.configure([{"name": "n1"}, {"name": "n2"}])
    daemon.signal(SIGHUP)
    daemon.wait_for_event("reloaded")

    daemon.attached("n1", "n2")
    assert node.inside.programs().keys() == {"n1", "n2"}
    assert [event["interface"] for event in daemon.events("program attached")[attached:]] == ["n2"]
    for wire in wires.values():
        wire.send([PACKET] * 2)
    daemon.settle(11)
    assert daemon.scrape().by("interface", "cnf_received_packets_total") == {"n0": 3, "n1": 6, "n2": 2}
    assert {flow["interface"]: flow["packets"] for flow in daemon.flows()} == {"n0": 3, "n1": 6, "n2": 2}


def test_a_reload_with_a_bad_file_changes_nothing(node: Node) -> None:
    """A file with a mistake is refused with every problem in the log; interfaces, flows and counts stay."""
    wire = node.wire("n0")
    daemon = node.daemon("n0").start()
    wire.send([PACKET] * 3)
    daemon.settle(3)
    program = node.inside.programs()

    daemon.configure([{"name": "n9"}], flows={"idle_timeout": "soon"})
    daemon.signal(SIGHUP)

    refused = daemon.wait_for_event("reload refused, the settings stay as they were")
    assert "flows.idle_timeout" in refused["error"]
    assert node.inside.programs() == program
    wire.send([PACKET] * 2)
    daemon.settle(5)
    assert [flow["packets"] for flow in daemon.flows()] == [5]

    daemon.configure([{"name": "n0"}])
    daemon.signal(SIGHUP)
    daemon.wait_for_event("reloaded")
    assert [flow["packets"] for flow in daemon.flows()] == [5]


def test_whoever_asks_for_a_reload_waits_for_it(node: Node) -> None:
    """``cnfctl reload`` says what came of it: the file and the keys that wait for a restart, or the refusal with 78."""
    node.wire("n0")
    node.wire("n1")
    daemon = node.daemon("n0", limits={"mode": "shadow"}).start()
    daemon.configure([{"name": "n*"}], limits={"mode": "shadow"}, flows={"max_entries": 8192})

    done = daemon.ctl("reload")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"reloaded {daemon.config}\nchange at a restart only: flows.max_entries\n"
    assert node.inside.programs().keys() == {"n0", "n1"}

    too_many = [
        {"name": f"r{n}", "prefixes": [f"10.{n >> 8}.{n & 255}.0/24"], "packets_per_second": 1} for n in range(3000)
    ]
    for wrong, words in (
        ({"flows": {"idle_timeout": "soon"}}, "flows.idle_timeout"),
        ({"limits": {"mode": "shadow", "rules": too_many}}, "limits.max_rules"),
    ):
        daemon.configure([{"name": "n0"}], **({"limits": {"mode": "shadow"}} | wrong))
        refused = daemon.ctl("reload")
        assert (refused.returncode, refused.stdout) == (78, "")
        assert words in refused.stderr
        assert node.inside.programs().keys() == {"n0", "n1"}
    assert daemon.scrape().total("cnf_config_last_reload_successful") == 0
    daemon.limits("deny", "add", "192.0.2.1")  # on what is in force, and not on what was refused
    assert daemon.limits()["rules"] == []


def test_a_reload_without_its_file_changes_nothing(node: Node) -> None:
    """A file that is gone is a refused reload like any other."""
    node.wire("n0")
    daemon = node.daemon("n0").start()
    daemon.config.unlink()

    daemon.signal(SIGHUP)

    daemon.wait_for_event("reload refused, the settings stay as they were")
    daemon.attached("n0")


def test_what_is_fixed_at_the_start_is_named(node: Node) -> None:
    """A key that takes effect at a restart only is warned of, and the rest of the file is applied."""
    node.wire("n0")
    daemon = node.daemon("n0").start()

    daemon.configure([{"name": "n0"}], flows={"max_entries": 8192, "drain_interval": "150ms"})
    daemon.signal(SIGHUP)
    daemon.wait_for_event("reloaded")

    assert [event["key"] for event in daemon.events("changes at a restart only")] == ["flows.max_entries"]
    daemon.drain()
    status = daemon.status()
    assert status["drain"]["interval_seconds"] == 0.15
    assert status["flow_table"]["ipv4"]["made_for"] == 4096
