"""The history of a real daemon: no packet is missing from the sum of its minutes, and each can be asked for."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from signal import SIGKILL, SIGTERM, SIGUSR2
from typing import Any, Final

import pytest

from cnf.abi import PROTOCOL_LABELS
from cnf.history.block import Block, unpack
from cnf.history.files import content_of, paths, places
from cnf.history.increase import sum_of
from cnf.units import size
from tests.bpf.packets import TCP, UDP, IPv4, IPv6, frame
from tests.net.conftest import Node
from tests.net.daemon import Daemon
from tests.net.exposition import Exposition
from tests.net.wait import wait_for

SECOND: Final = (
    "from cnf.history import history; history.MINUTE = {minute}; from cnf.cnfd import main; sys.exit(main())"
)
QUICK: Final[Mapping[str, object]] = {"drain_interval": "100ms", "max_entries": 4096}
SIZE: Final = 100
ARP: Final = bytes(12) + b"\x08\x06" + bytes(46)

pytestmark = pytest.mark.usefixtures("folder")


def daemon_of(node: Node, minute: float = 1.0, **tables: Mapping[str, object]) -> Daemon:
    """Return a daemon whose minutes are of so many seconds."""
    daemon = node.daemon("n0", flows=QUICK, **tables)
    daemon.command = (sys.executable, "-P", "-c", "import sys; " + SECOND.format(minute=minute))
    return daemon


def written(folder: Path) -> list[Block]:
    """Return what has been written, in that order."""
    found = [place for path in paths(folder) for place in places(path)]
    found.sort(key=lambda place: place.header.number)
    return [unpack(place.header, content_of(place)) for place in found]


def packets_of(blocks: Sequence[Block]) -> int:
    """Return how many packets n0 has received in all blocks."""
    return sum(int(block.interfaces["n0"]["packets"].sum()) for block in blocks if "n0" in block.interfaces)


def received(blocks: Sequence[Block]) -> dict[str, dict[str, int]]:
    """Return what n0 has received in all blocks, in packets and in bytes, by protocol."""
    sums = sum_of(block.interfaces for block in blocks)["n0"]
    return {
        unit: {label: count for label, count in zip(PROTOCOL_LABELS, sums[unit].tolist(), strict=True) if count}
        for unit in ("packets", "bytes")
    }


def counted(metrics: Exposition) -> dict[str, dict[str, int]]:
    """Return what ``cnf_received_*`` say, in the same form."""
    return {unit: metrics.by("protocol", f"cnf_received_{unit}_total") for unit in ("packets", "bytes")}


def wait_for_packets(folder: Path, packets: int) -> list[Block]:
    """Wait until blocks have so many packets, and return them; they may not have more."""
    wait_for(lambda: packets_of(written(folder)) >= packets, f"{packets} packets in blocks")
    blocks = written(folder)
    assert packets_of(blocks) == packets
    return blocks


def flows_of(blocks: Sequence[Block]) -> dict[int, int]:
    """Return the packets of flows by source port."""
    sums: dict[int, int] = {}
    for block in blocks:
        for flows in block.flows.values():
            for port, packets in zip(flows["src_port"].tolist(), flows["packets"].tolist(), strict=True):
                sums[port] = sums.get(port, 0) + packets
    return sums


def test_minutes_add_up_to_what_was_received(node: Node) -> None:
    """The sums of all blocks are cnf_received_*, by protocol, in packets and bytes; flows are all there."""
    wire = node.wire("n0")
    daemon = daemon_of(node).start()
    sent = 0
    for turn in range(3):
        for layer in (IPv4("192.0.2.1"), IPv6("2001:db8::1")):
            wire.send([frame(layer, UDP(src_port=1000 + port), pad_to=SIZE) for port in range(10) for _ in range(3)])
            wire.send([frame(layer, TCP(src_port=2000 + turn), pad_to=SIZE)])
            sent += 31
        wait_for_packets(daemon.history, sent)
    blocks = written(daemon.history)
    metrics = daemon.scrape()
    assert received(blocks) == counted(metrics)
    assert flows_of(blocks) == {**dict.fromkeys(range(1000, 1010), 18), **dict.fromkeys(range(2000, 2003), 2)}
    assert len([block for block in blocks if block.interfaces]) >= 3
    assert all(later.begin == earlier.end for earlier, later in pairwise(blocks))
    assert metrics.total("cnf_history_bytes") == sum(path.stat().st_size for path in paths(daemon.history))
    assert metrics.total("cnf_history_oldest_timestamp_seconds") == blocks[0].begin // 10**9
    assert metrics.total("cnf_history_write_errors_total") == 0


@pytest.mark.parametrize("signal", [SIGKILL, SIGUSR2])
def test_nothing_is_missing_over_a_restart(node: Node, signal: Any) -> None:  # noqa: ANN401 - a signal
    """Killed or restarted, with a block torn: the next daemon's blocks go on where the latest whole one ended."""
    wire = node.wire("n0")
    daemon = daemon_of(node).start()
    packet, other = (frame(IPv4("192.0.2.1"), layer, pad_to=SIZE) for layer in (UDP(src_port=1000), TCP()))
    wire.send([packet] * 4 + [other])
    wait_for_packets(daemon.history, 5)
    wire.send([packet] * 7)
    daemon.drain()
    daemon.signal(signal)
    daemon.ended()
    wire.send([packet] * 11)
    (*_, last) = paths(daemon.history)
    if signal == SIGKILL:
        last.write_bytes(last.read_bytes()[:-3])
    daemon.start()
    wire.send([packet] * 13)
    wait_for(lambda: packets_of(written(daemon.history)) >= 36, "all packets in blocks")
    assert packets_of(written(daemon.history)) == 36
    assert received(written(daemon.history)) == counted(daemon.scrape())
    assert received(written(daemon.history))["packets"] == {"udp": 35, "tcp": 1}


def test_a_stop_keeps_the_last_seconds_and_new_maps_begin_anew(node: Node) -> None:
    """What came since the latest block is written at a stop; the next daemon, with new maps, adds to it."""
    wire = node.wire("n0")
    daemon = daemon_of(node, minute=1000.0).start()
    wire.send([frame(IPv4("192.0.2.1"), UDP(src_port=1000), pad_to=SIZE)] * 5)
    daemon.settle(5)
    daemon.signal(SIGTERM)
    assert daemon.ended() == 0
    assert packets_of(written(daemon.history)) == 5
    assert flows_of(written(daemon.history)) == {1000: 5}
    daemon.start()
    wire.send([frame(IPv4("192.0.2.1"), UDP(src_port=1001), pad_to=SIZE)] * 6)
    daemon.settle(6)
    daemon.signal(SIGTERM)
    assert daemon.ended() == 0
    assert packets_of(written(daemon.history)) == 11
    assert flows_of(written(daemon.history)) == {1000: 5, 1001: 6}


def at(daemon: Daemon, *arguments: str, zone: str = "UTC") -> subprocess.CompletedProcess[str]:
    """Run ``cnfctl flows`` in a time zone."""
    return daemon.ctl("flows", *arguments, environment={"TZ": zone})


def test_a_minute_can_be_asked_for_over_a_restart_and_in_any_zone(node: Node) -> None:
    """Flows of a time are those that were sent then, also after a restart, in local time with its zone."""
    wire = node.wire("n0")
    daemon = daemon_of(node).start()
    wire.send([frame(IPv4("192.0.2.1"), UDP(src_port=1000), pad_to=SIZE)] * 5)
    wire.send([frame(IPv6("2001:db8::1"), UDP(src_port=1001), pad_to=SIZE)] * 4)
    first, *_ = (block for block in wait_for_packets(daemon.history, 9) if block.interfaces)
    daemon.signal(SIGUSR2)
    daemon.ended()
    daemon.start()
    wire.send([frame(IPv4("192.0.2.1"), UDP(src_port=1000), pad_to=SIZE)] * 2)
    wait_for_packets(daemon.history, 11)

    second = datetime.fromtimestamp((first.begin + first.end) // 2 // 10**9, UTC)
    for zone, hours in (("UTC", 0), ("XYZ-3", 3)):
        local = second + timedelta(hours=hours)
        shown = at(daemon, "--at", f"{local:%Y-%m-%d %H:%M:%S}", zone=zone)
        assert shown.returncode == 0, shown.stderr
        heading, _titles, *rows = shown.stdout.splitlines()
        assert zone[:3] in heading
        assert [row.split()[0] for row in rows[:2]] == ["192.0.2.1:1000", "[2001:db8::1]:1001"]
        assert "in all: received 900 B in 9 packets" in shown.stdout
    begin = f"{datetime.fromtimestamp(first.begin // 10**9 - 1, UTC):%Y-%m-%dT%H:%M:%SZ}"
    flows = json.loads(at(daemon, "--from", begin, "-o", "json").stdout)
    assert [(flow["src_port"], flow["packets"]) for flow in flows] == [(1000, 7), (1001, 4)]
    (flow,) = json.loads(at(daemon, "--from", begin, "--filter", "ip6 and iface n0", "-o", "json").stdout)
    assert (flow["src_port"], flow["packets"], flow["interface"]) == (1001, 4, "n0")
    assert len(at(daemon, "--from", begin, "-o", "csv", "--top", "1").stdout.splitlines()) == 2
    pairs = json.loads(at(daemon, "--from", begin, "--pairs", "-o", "json").stdout)
    assert [pair["forward_packets"] for pair in pairs] == [7, 4]

    missing = at(daemon, "--at", "2001-02-03 04:05", zone="XYZ-3")
    assert missing.returncode == 69
    assert "no history of 2001-02-03 04:05:00 XYZ to 2001-02-03 04:06:00 XYZ: it goes from " in missing.stderr


def test_groups_of_the_past_have_all_that_was_counted(node: Node) -> None:
    """By whatever they are, in whatever form, the groups and the rest are what cnf_received_* has grown by."""
    wire = node.wire("n0")
    daemon = daemon_of(node).start()
    begin = f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    scan = [frame(IPv4("192.0.2.9"), UDP(src_port=port), pad_to=SIZE) for port in range(1, 601)]
    wire.send([*scan, *[frame(IPv4("192.0.2.1"), TCP(src_port=1000), pad_to=2 * SIZE)] * 5, ARP, ARP])
    wait_for_packets(daemon.history, 607)
    metrics = daemon.scrape()
    sums = {unit: int(metrics.total(f"cnf_received_{unit}_total")) for unit in ("packets", "bytes")}
    assert sums == {"packets": 607, "bytes": 61_000 + 2 * len(ARP)}
    for by in ("src", "dst", "pair", "port", "protocol", "src-net/24", "interface,direction"):
        groups = json.loads(at(daemon, "--by", by, "--from", begin, "-o", "json").stdout)
        lines = at(daemon, "--by", by, "--from", begin, "-o", "csv").stdout.splitlines()
        table = [*csv.DictReader(lines)]
        for unit, number in sums.items():
            assert sum(group[unit] for group in groups) == number
            assert sum(int(row[unit]) for row in table) == number
    groups = json.loads(at(daemon, "--by", "src", "--from", begin, "-o", "json").stdout)
    assert [(group["src_addr"], group["packets"]) for group in groups] == [
        ("192.0.2.9", 600),
        ("192.0.2.1", 5),
        (None, 2),
    ]
    shown = at(daemon, "--by", "src", "--from", begin).stdout
    assert [line.split()[0] for line in shown.splitlines()[2:5]] == ["192.0.2.9", "192.0.2.1", "(rest)"]
    filtered = at(daemon, "--by", "src", "--from", begin, "--filter", "udp")
    assert "the filter saw the largest flows only, and not " in filtered.stdout
    listed = at(daemon, "--from", begin, "-o", "json", "--filter", "tcp")
    assert [flow["packets"] for flow in json.loads(listed.stdout)] == [5]
    assert "cnfctl: the filter saw the largest flows only, and not " in listed.stderr


def test_who_was_held_back_then_and_by_which_rule(node: Node) -> None:
    """The sources that a minute's packets were dropped of are there, with the rule, and so are its counts."""
    wire = node.wire("n0")
    rule = {"name": "few", "prefixes": ["192.0.2.0/24"], "packets_per_second": 1, "burst_packets": 3, "mode": "enforce"}
    daemon = daemon_of(node, limits={"mode": "enforce", "rules": [rule], "deny": ["198.51.100.0/24"]}).start()
    begin = f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"
    wire.send([frame(IPv4("192.0.2.1"), UDP(src_port=1000), pad_to=SIZE)] * 50)
    wire.send([frame(IPv4("198.51.100.9"), UDP(src_port=1000), pad_to=SIZE)] * 6)
    wait_for_packets(daemon.history, 56)
    dropped = daemon.scrape().by("reason", "cnf_dropped_packets_total")

    (source,) = json.loads(daemon.ctl("limits", "sources", "--from", begin, "-o", "json").stdout)
    assert (source["source"], source["rule"], source["verdict"]) == ("192.0.2.1", "few", "limited")
    assert source["dropped_packets"] == dropped["limited"] > 40
    table = daemon.ctl("limits", "sources", "--from", begin).stdout
    assert "192.0.2.1" in table
    assert f"dropped in all, with what is denied: {size(100 * sum(dropped.values()))}" in table
    summary = json.loads(daemon.control(f"/v1/flows?from={begin}&to=2100-01-01T00:00:00Z").body)["history"]
    assert {each["reason"]: each["packets"] for each in summary["dropped_by"]} == dropped
    (few,) = summary["rules"]
    assert (few["rule"], few["passed"]["packets"], few["limited"]["packets"]) == (
        "few",
        50 - dropped["limited"],
        dropped["limited"],
    )
    assert summary["seen"]["ingress"]["packets"] == 56
    assert sum(summary[part]["ingress"]["packets"] for part in ("listed", "dropped", "rest")) == 56


def test_a_full_disk_costs_no_packet_and_no_drain(node: Node) -> None:
    """On a disk of one megabyte without room the daemon goes on, counts errors, and makes up for it later."""
    wire = node.wire("n0")
    daemon = daemon_of(node, history={"max_bytes": 1 << 20})
    disk = daemon.history.parent / "disk"
    disk.mkdir()
    filler = disk / "filler"
    # The mount is this daemon's own.
    mount = f'mount -t tmpfs -o size=1m cnf-tests {disk} && head -c 2000000 /dev/zero >{filler}; exec "$@"'
    daemon.history = disk / "history"
    daemon.configure([{"name": "n0"}], flows=QUICK, history={"folder": str(daemon.history), "max_bytes": 1 << 20})
    daemon.command = ("unshare", "--mount", "sh", "-c", mount, "sh", *daemon.command)
    daemon.start()
    wire.send([frame(IPv4("192.0.2.1"), UDP(src_port=1000), pad_to=SIZE)] * 5)
    entry = daemon.wait_for_event("history not written")
    assert "No space left on device" in entry["error"]
    assert "make room" in entry["remedy"]
    assert daemon.scrape().total("cnf_history_write_errors_total") >= 1
    inside = Path(f"/proc/{daemon.pid}/root{disk}")
    (inside / "filler").unlink()
    daemon.wait_for_event("history is written again")
    blocks = written(inside / "history")
    assert packets_of(blocks) == 5
    assert flows_of(blocks) == {1000: 5}
    assert len(daemon.events("history not written")) == 1
    assert daemon.scrape().total("cnf_drain_errors_total") == 0
