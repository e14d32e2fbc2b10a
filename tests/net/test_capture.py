"""``cnfctl capture``: what is dropped is seen, all of it is accounted for, and it ends with its client."""

from __future__ import annotations

import json
import subprocess
from signal import SIGKILL

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, Daemon
from tests.net.rations import QUICK, enforce, packet, ration
from tests.net.wait import wait_for

DENIED = enforce(ration("default", 1000), deny=["198.51.100.0/24"])
FLOOD = 5000


def begin(daemon: Daemon, *arguments: str) -> subprocess.Popen[bytes]:
    """Begin to capture, and return when the daemon does."""
    already = len(daemon.events("capture began"))
    client = subprocess.Popen(
        (*CNFCTL, "--socket", str(daemon.socket), "capture", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    daemon.wait_for_event("capture began", already + 1)
    return client


def test_captured_and_lost_are_what_was_dropped(node: Node) -> None:
    """Under a flood, with a budget: not one packet is missing, and none that passed is among them."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=DENIED, flows=QUICK).start()
    client = begin(daemon, "--dropped", "-o", "jsonl", "--budget", "100")
    wire.send([packet("198.51.100.1")] * FLOOD + [packet("192.0.2.1")] * 10)
    daemon.drain()
    assert json.loads(daemon.control("/v1/capture/end", method="POST", body=b"{}").body) == {"ended": True}
    output, said = client.communicate()

    frames = [json.loads(line) for line in output.splitlines()]
    ended = daemon.wait_for_event("capture ended")
    assert len(frames) + ended["over_budget"] + ended["ring_full"] == FLOOD
    assert 100 <= len(frames) == ended["frames"] < FLOOD
    assert {(each["verdict"], each["reason"]) for each in frames} == {("denied", "limits.deny 198.51.100.0/24")}
    assert f"{ended['over_budget']} over the budget" in said.decode()


def test_it_ends_after_so_many(node: Node) -> None:
    """Of those that match; lines say what and why."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", limits=DENIED, flows=QUICK).start()
    client = begin(daemon, "udp and src net 198.51.100.0/24", "-c", "3")
    wire.send([packet("192.0.2.1")] * 5 + [packet("198.51.100.1")] * 5)
    output, _said = client.communicate()

    lines = output.decode().splitlines()
    assert client.returncode == 0
    assert len(lines) == 3
    assert all(" 198.51.100.1:" in line and "dropped, denied: limits.deny 198.51.100.0/24" in line for line in lines)


def test_it_ends_with_its_client(node: Node) -> None:
    """Also with one that is killed; until then nobody else captures."""
    node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    client = begin(daemon)
    refused = daemon.ctl("capture")
    assert refused.returncode == 69
    assert f"pid {client.pid} captures already" in refused.stderr
    client.send_signal(SIGKILL)
    client.communicate()

    daemon.wait_for_event("capture ended")
    client = begin(daemon, "-c", "1")
    client.send_signal(SIGKILL)
    client.communicate()
    daemon.wait_for_event("capture ended", 2)


def test_a_daemon_that_is_killed_leaves_nothing_captured(node: Node) -> None:
    """The kernel ends it by itself, and the next daemon goes on, exactly."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    client = begin(daemon)
    daemon.signal(SIGKILL)
    daemon.ended()
    client.communicate()
    daemon.start()
    wire.send([frame(IPv4(), UDP())] * 20)

    daemon.settle(20)
    wait_for(lambda: daemon.scrape() is not None, "a scrape")
    client = begin(daemon, "-c", "2")
    wire.send([frame(IPv4(), UDP())] * 2)
    output, _said = client.communicate()
    assert len(output.splitlines()) == 2
