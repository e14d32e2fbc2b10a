"""``cnfctl export`` and the file of ``[export.json]`` have every record that the sums say, whoever reads how slowly."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGUSR2
from typing import Any, Final

import pytest

from tests.bpf.packets import UDP, IPv4, IPv6, frame
from tests.net.conftest import Node
from tests.net.daemon import CNFCTL, Daemon
from tests.net.wait import PATIENCE, wait_for

SIZE: Final = 100
QUICK: Final[dict[str, Any]] = {"idle_timeout": "300ms", "drain_interval": "100ms", "table": "cache"}
HTTP: Final = " HTTP/1.1\r\nHost: x\r\n\r\n"

pytestmark = pytest.mark.usefixtures("folder")


def packets(first: int, count: int) -> list[bytes]:
    """Return packets of so many flows, told apart by their source port; every third is of IPv6."""
    layers = (IPv4("192.0.2.1"), IPv6("2001:db8::1"), IPv4("192.0.2.2"))
    return [
        frame(layers[number % 3], UDP(src_port=number), pad_to=SIZE)
        for number in range(1000 + first, 1000 + first + count)
    ]


class Follower:
    """A running ``cnfctl export --follow``, that writes to files."""

    def __init__(self, daemon: Daemon, *arguments: str) -> None:
        """Start it."""
        self._output, self._notes = daemon.config.with_name("records"), daemon.config.with_name("notes")
        with self._output.open("wb") as output, self._notes.open("wb") as notes:
            command = (*CNFCTL, "--socket", str(daemon.socket), "export", "--follow", *arguments)
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=notes)

    def records(self, count: int) -> list[dict[str, Any]]:
        """Return what it has shown, once there are ``count`` records."""
        wait_for(lambda: len(read(self._output)) >= count, f"{count} records")
        return read(self._output)

    def note(self) -> str:
        """Return what it has said, once it has said something."""
        wait_for(lambda: self._notes.read_text(encoding="utf-8").endswith("\n"), "a note")
        return self._notes.read_text(encoding="utf-8")

    def end(self) -> list[str]:
        """End it by ^C, which is a good end; return the notes."""
        self.process.send_signal(SIGINT)
        assert self.process.wait(PATIENCE) == 0
        return self._notes.read_text(encoding="utf-8").splitlines()


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of the whole lines of a file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def assert_whole(records: list[dict[str, Any]], flows: int, first: int = 1) -> None:
    """Hold against what was sent: each flow's packet once, under numbers without a gap."""
    assert [each["seq"] for each in records] == [*range(first, first + len(records))]
    assert {each["bytes"] for each in records} == {SIZE}
    assert {each["packets"] for each in records} == {1}
    assert sorted(each["src_port"] for each in records) == [*range(1000, 1000 + flows)]


def test_every_record_is_told_in_order_over_restarts(node: Node) -> None:
    """What a follower has shown is what was sent, over a restart and a kill; --since has the rest of it."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    follower = Follower(daemon, "--since", "0")
    wire.send(packets(0, 600))
    follower.records(600)
    daemon.signal(SIGUSR2)
    assert daemon.ended() == 0
    wire.send(packets(600, 300))
    daemon.start()
    follower.records(900)
    daemon.signal(SIGKILL)
    daemon.ended()
    daemon.start()
    wire.send(packets(900, 300))
    records = follower.records(1200)
    rest = daemon.ctl("export", "--since", "1100")
    notes = follower.end()

    assert_whole(records, 1200)
    assert [json.loads(line) for line in rest.stdout.splitlines()] == records[1100:]
    assert (rest.returncode, rest.stderr) == (0, "")
    assert [note for note in notes if "was restarted" in note] == 2 * [
        "cnfctl: cnfd was restarted, and goes on with the records that came meanwhile"
    ]
    assert daemon.status()["ledger"]["packets"]["received"] == 1200
    assert daemon.status()["ledger"]["packets"]["difference"] == 0


def test_the_end_is_told(node: Node) -> None:
    """At a stop that takes everything back, followers get the records of the flows that were live."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK | {"idle_timeout": "1h"}).start()
    follower = Follower(daemon)
    wire.send(packets(0, 200))
    daemon.settle(200)
    daemon.stop()
    records = follower.records(200)
    assert_whole(records, 200)
    assert {each["reason"] for each in records} == {"stopped"}
    assert follower.note().startswith("cnfctl: cnfd is not running, or still starting: ")
    follower.end()


def test_a_filter_leaves_numbers_out(node: Node) -> None:
    """What matches is told, under its own number; a filter that cannot be read is a usage error."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    follower = Follower(daemon, "--filter", "ip6")
    wire.send(packets(0, 300))
    records = follower.records(100)
    wait_for(lambda: daemon.ctl("export").stdout.count("\n") == 300, "300 records")
    everything = [json.loads(line) for line in daemon.ctl("export").stdout.splitlines()]
    follower.end()
    assert records == [each for each in everything if ":" in each["src_addr"]]
    assert_whole(everything, 300)
    wrong = daemon.ctl("export", "--filter", "src net")
    assert (wrong.returncode, wrong.stdout) == (64, "")
    assert wrong.stderr.startswith("cnfctl: filter: ")


def test_a_reader_that_is_too_slow_knows_what_it_has_missed(node: Node) -> None:
    """Records and missed ones together are all that there were, and the daemon does not grow for it."""
    wire = node.wire("n0")
    flows = 25_000
    daemon = node.daemon("n0", flows=QUICK | {"max_entries": 1 << 16, "idle_timeout": "100ms"}).start()
    with daemon.connect_control() as slow:
        slow.sendall(f"GET /v1/export?follow=1&since=0{HTTP}".encode())
        for _ in range(6):
            wire.send(frame(IPv4(), UDP(1 + number // 250, 1 + number % 250), pad_to=SIZE) for number in range(flows))
            daemon.drain()  # else the flows may not have begun yet
            wait_for(lambda: daemon.status()["ledger"]["packets"]["live"] == 0, "the end of all flows")
        lines = _lines(slow, 6 * flows)
    told = [each for each in lines if "seq" in each]
    missed = sum(each["stream"]["missed"] for each in lines if "stream" in each)
    assert missed > 0
    assert len(told) + missed == told[-1]["seq"] == 6 * flows
    assert [each["seq"] for each in told] == sorted({each["seq"] for each in told})


def _lines(client: socket.socket, last: int) -> list[dict[str, Any]]:
    """Return the lines of a chunked answer up to the record numbered ``last``."""
    lines: list[dict[str, Any]] = []
    with closing(http.client.HTTPResponse(client)) as response:
        response.begin()
        while not lines or lines[-1].get("seq") != last:
            lines.append(json.loads(response.readline()))
    return lines


def test_a_hundred_followers(node: Node) -> None:
    """As many as there are places are told everything; the others are refused with a reason, and status answers all."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    with ExitStack() as stack:
        clients = [stack.enter_context(daemon.connect_control()) for _ in range(100)]
        served = []
        for client in clients:
            client.sendall(f"GET /v1/export?follow=1{HTTP}".encode())
            answer = client.recv(1 << 16)
            if answer.startswith(b"HTTP/1.1 200 "):
                served.append(client)
            else:
                assert answer.startswith(b"HTTP/1.1 503 ")
        assert len(served) == 16
        refused = daemon.ctl("export", "--follow")
        assert (refused.returncode, refused.stdout) == (69, "")
        assert refused.stderr == "cnfctl: 16 clients follow already (end one of them, and try again)\n"
        assert daemon.ctl("export").returncode == 0
        wire.send(packets(0, 30))
        for client in served:
            text = ""
            while text.count('"seq"') < 30:
                text += client.recv(1 << 16).decode()
        daemon.drain()
        assert daemon.ctl("status").returncode == 0
    wait_for(lambda: _follows(daemon), "the places of those that have left")


def _follows(daemon: Daemon) -> bool:
    with daemon.connect_control() as client:
        client.sendall(f"GET /v1/export?follow=1{HTTP}".encode())
        return client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_that_is_killed_leaves_nothing(node: Node, number: signal.Signals) -> None:
    """Its descriptor is closed though nothing comes for it."""
    node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    descriptors = Path(f"/proc/{daemon.pid}/fd")
    daemon.drain()
    before = len([*descriptors.iterdir()])
    followers = [Follower(daemon) for _ in range(5)]
    wait_for(lambda: len([*descriptors.iterdir()]) == before + 5, "five followers")
    for follower in followers:
        follower.process.send_signal(number)
        follower.process.wait(PATIENCE)
    wait_for(lambda: len([*descriptors.iterdir()]) == before, "none of them")


def test_following_ends_with_its_reader(node: Node) -> None:
    """A pipe that nobody reads any more ends it, whether there are records or not, as a good end."""
    node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK).start()
    reading, writing = os.pipe()
    command = (*CNFCTL, "--socket", str(daemon.socket), "export", "--follow")
    with subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        os.close(reading)
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_without_records_it_says_so(node: Node) -> None:
    """A daemon that makes none says what would have some made."""
    node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK, history={"keep": "0s"}).start()
    done = daemon.ctl("export", "--follow")
    assert done.returncode == 78
    assert 'no flow records are made (history.keep = "24h", or a table of [export], and restart)' in done.stderr


def test_the_file_has_every_record(node: Node) -> None:
    """Over a reload that moves it, a kill in a line, and a restart, each packet stands in one line."""
    wire = node.wire("n0")
    folder = node.daemon("n0").config.parent
    path, moved = folder / "records.jsonl", folder / "moved"
    daemon = node.daemon("n0", flows=QUICK, **{"export.json": {"file": str(path)}}).start()
    wire.send(packets(0, 300))
    wait_for(lambda: len(read(path)) == 300, "300 records")
    path.rename(moved)
    daemon.signal(SIGHUP)
    daemon.wait_for_event("reloaded")
    wait_for(path.exists, "the file, anew")
    wire.send(packets(300, 300))
    wait_for(lambda: len(read(path)) == 300, "300 more")
    daemon.signal(SIGKILL)
    daemon.ended()
    with path.open("ab") as file:
        file.write(b'{"seq": 6')
    daemon.start()
    wire.send(packets(600, 300))
    wait_for(lambda: path.read_bytes().count(b"\n") == 601, "300 more, and what was cut off")
    daemon.signal(SIGUSR2)
    assert daemon.ended() == 0

    lines = [*moved.read_text(encoding="utf-8").splitlines(), *path.read_text(encoding="utf-8").splitlines()]
    assert lines.pop(600) == '{"seq": 6'
    assert_whole([json.loads(line) for line in lines], 900)


def test_a_full_disk_costs_what_waits_too_long_only(node: Node) -> None:
    """While the disk is full it is an error with its reason; with room again, what waited is written."""
    wire = node.wire("n0")
    with ExitStack() as stack:
        disk = node.daemon("n0").config.with_name("disk")
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        path = disk / "records.jsonl"
        daemon = node.daemon("n0", flows=QUICK, **{"export.json": {"file": str(path)}}).start()
        wire.send(packets(0, 300))
        failed = daemon.wait_for_event("flow records not written")
        assert (failed["error"], failed["remedy"]) == ("No space left on device", "make room: it is tried again")
        assert daemon.scrape().total("cnf_export_errors_total", reason="no_space") >= 1
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        daemon.wait_for_event("flow records written again")
        wait_for(lambda: daemon.scrape().total("cnf_export_records_total") == 300, "300 records")
        metrics = daemon.scrape()
        lines = path.read_text(encoding="utf-8").splitlines()
        whole = [json.loads(line) for line in lines if line.endswith("}")]
        assert_whole(whole, 300)
        assert len(lines) - len(whole) <= 1
        assert metrics.total("cnf_export_bytes_total") == sum(len(line) + 1 for line in lines if line.endswith("}"))
        assert metrics.total("cnf_export_lost_total") == 0
        daemon.stop()
