"""``cnfctl capture``: what is dropped is seen, all of it is accounted for, and it ends with its client."""

from __future__ import annotations

import grp
import json
import os
import subprocess
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

from tests.bpf.packets import UDP, IPv4, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, CNFD, Daemon
from tests.net.rations import QUICK, enforce, packet, ration
from tests.net.users import NOBODY, Stage, as_user, without
from tests.net.wait import PATIENCE, wait_for

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
    _output, said = client.communicate()
    assert client.returncode == 69
    assert b"no answer of cnfd" in said
    daemon.start()
    wire.send([frame(IPv4(), UDP())] * 20)

    daemon.settle(20)
    wait_for(lambda: daemon.scrape() is not None, "a scrape")
    client = begin(daemon, "-c", "2")
    wire.send([frame(IPv4(), UDP())] * 2)
    output, _said = client.communicate()
    assert len(output.splitlines()) == 2


def test_a_daemon_that_ends_sends_what_there_is(node: Node) -> None:
    """With what is missing, so that the client knows that it has all of it."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    client = begin(daemon, "-o", "jsonl")
    wire.send([frame(IPv4(), UDP())] * 20)
    daemon.signal(SIGTERM)
    output, said = client.communicate()
    assert (client.returncode, len(output.splitlines())) == (0, 20), said
    assert b"20 packets captured; lost: 0 over the budget" in said


def test_it_goes_on_when_the_program_is_swapped(node: Node) -> None:
    """Begun while nothing is limited, it has what is denied from then on, and goes on without the rule, too."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    client = begin(daemon, "--dropped", "-o", "jsonl")
    wire.send([packet("198.51.100.1")] * 2)
    daemon.limits("deny", "add", "198.51.100.0/24")
    wire.send([packet("198.51.100.1")] * 3)
    daemon.limits("deny", "remove", "198.51.100.0/24")
    wire.send([packet("198.51.100.1")] * 4)
    daemon.limits("deny", "add", "198.51.100.1")
    wire.send([packet("198.51.100.1")] * 5)
    assert daemon.ctl("capture", "--end").returncode == 0
    output, said = client.communicate()

    frames = [json.loads(line) for line in output.splitlines()]
    assert client.returncode == 0, said
    assert [each["verdict"] for each in frames] == ["denied"] * 8


def test_a_pipe_has_each_packet_at_once(node: Node) -> None:
    """As pcapng: a reader of the pipe sees a packet while the capture goes on."""
    wire = node.wire("n0")
    client = begin(node.daemon("n0", flows=QUICK).start(), "-w", "-", "--snaplen", "2048")
    assert client.stdout
    sent = packet("198.51.100.1")
    wire.send([sent])
    read = b""
    while sent not in read:
        more = os.read(client.stdout.fileno(), 1 << 16)
        assert more, read
        read += more
    assert read.startswith(b"\x0a\x0d\x0d\x0a")
    assert client.poll() is None
    client.send_signal(SIGINT)
    client.communicate()
    assert client.returncode == 0


def test_without_an_interface_it_ends_and_says_what_is_missing(node: Node, tmp_path: Path) -> None:
    """It stands in the file, too, from which cnfctl has it."""
    daemon = node.daemon("n0", flows=QUICK).start()
    client = begin(daemon, "-w", str(tmp_path / "nothing.pcapng"))
    assert daemon.ctl("capture", "--end").returncode == 0
    _output, said = client.communicate(timeout=PATIENCE)
    assert said == b"cnfctl: 0 packets captured; lost: 0 over the budget (--budget), 0 with the ring full\n"


def test_an_expression_with_an_error_is_refused(node: Node) -> None:
    """It says where, and nothing is captured or written."""
    node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    refused = daemon.ctl("capture", "udp and and")
    assert refused.returncode == 64, refused
    assert "and" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not daemon.events("capture began")


def test_readers_capture_nothing(node: Node, stage: Stage) -> None:
    """Members of ``control.read_group`` do not see what others have sent."""
    node.wire("n0")
    daemon = node.daemon()
    group = grp.getgrgid(NOBODY)
    daemon.configure([{"name": "n0"}], flows=QUICK, control={"read_group": group.gr_name})
    daemon.start()
    refused = daemon.ctl("capture", command=stage.command("cnf.cli", *as_user(groups=(group.gr_gid,))))
    assert refused.returncode == 77, refused
    assert "may only look" in refused.stderr
    assert not daemon.events("capture began")


def test_without_cap_perfmon(node: Node) -> None:
    """Frames are captured from the other kind of table, too."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK)
    daemon.command = ("setpriv", *without("perfmon", "sys_admin"), *CNFD)
    daemon.start()
    daemon.attached("n0")
    client = begin(daemon, "-c", "2")
    wire.send([packet("198.51.100.1")] * 2)
    output, said = client.communicate(timeout=60)
    assert len(output.splitlines()) == 2, said
