"""A rule that was set until a time is as before again on time, whether a daemon lives or not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from signal import SIGKILL

from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.rations import QUICK, SIZE, enforce, limits_of, packet, ration
from tests.net.wait import wait_for

HOUR = ("--for", "1h", "--reason", "scans")


def test_a_rule_ends_on_time_whoever_lives(node: Node) -> None:
    """Without a daemon the kernel goes back to the former rate; the next daemon has that, and keeps what is left."""
    wire = node.wire("n0")
    limits = enforce(ration("default", 10), ration("lab", 9, ["10.0.0.0/8"]))
    daemon = node.daemon("n0", limits=limits, flows=QUICK).start()
    daemon.limits("set", "lab", "--burst-bytes", str(12 * SIZE), *HOUR)
    daemon.limits("set", "default", "--burst-bytes", str(20 * SIZE), "--for", "4s")
    ends = datetime.now(UTC) + timedelta(seconds=5)
    explained = daemon.ctl("limits", "explain", "10.0.0.1").stdout
    assert "(scans), then it goes back to 8 bit/s." in explained.replace("\n  ", " ")
    daemon.signal(SIGKILL)
    daemon.ended()
    with arrivals(node.inside, "n0") as through:
        wire.send([packet("192.0.2.1")] * 30 + [packet("10.0.0.1")] * 30)
        assert through.by_source(32) == {"192.0.2.1": 20, "10.0.0.1": 12}
        wait_for(lambda: datetime.now(UTC) > ends, "the end of a rule")
        wire.send([packet("192.0.2.1")] * 30 + [packet("10.0.0.1")] * 30 + [packet("198.51.100.1")] * 30)
        assert through.by_source(52) == {"192.0.2.1": 30, "10.0.0.1": 12, "198.51.100.1": 10}

    daemon.start()

    found = {name: limits_of(daemon.limits(), name) for name in ("default", "lab")}
    assert [(each["burst_bytes"] // SIZE, each["reason"]) for each in found.values()] == [(10, None), (12, "scans")]
    daemon.drain()
    counted = limits_of(daemon.limits(), "default")
    assert (counted["passed"]["packets"], counted["limited"]["packets"]) == (40, 50)
    daemon.limits("set", "lab", "--burst-bytes", str(15 * SIZE), "--for", "3s")
    daemon.wait_for_event("rule ended, as before again")
    assert limits_of(daemon.limits(), "lab")["burst_bytes"] == 9 * SIZE
    assert "scans" not in daemon.state_file.read_text(encoding="utf-8")
