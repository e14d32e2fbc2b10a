"""What nfcapd writes down is what was sent: flows, packets and bytes, and no sequence failure."""

from __future__ import annotations

import re
import time
from pathlib import Path
from signal import SIGKILL, SIGUSR2
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import FLOW_EGRESS, TCP
from cnf.clock import Reading, WallClock
from cnf.export.ipfix_exporter import IpfixExporter
from cnf.flows.records import FLOW_RECORD
from cnf.flows.stream import RecordBatch
from cnf.recording import Ipfix
from tests.collectors.conftest import COLLECTOR, Exporting, layer3, traffic
from tests.collectors.programs import PORT, RECEIVE_BUFFER, Nfcapd
from tests.net.namespaces import Namespace
from tests.net.wait import wait_for

FLOWS: Final = 120
MILLION: Final = 1_000_000


def received(nfcapd: Nfcapd) -> tuple[int, int]:
    """Return packets and bytes of the received records that nfcapd has, at its end."""
    records = nfcapd.records("flowdir 0")
    return sum(each["in_packets"] for each in records), sum(each["in_bytes"] for each in records)


def test_records_of_parts_and_of_the_stop_add_up(exporting: Exporting, tmp_path: Path) -> None:
    """Of flows that go on over several records there is nothing twice and nothing missing; none is the export's own."""
    frames = traffic(FLOWS)
    with Nfcapd(exporting.node.outside, tmp_path / "flows", COLLECTOR) as nfcapd:
        exporting.configure()
        exporting.daemon.start()
        for part in range(3):
            exporting.sent(part * FLOWS)
            exporting.wire.send(frames)
            exporting.daemon.settle((part + 1) * len(frames))
        exporting.daemon.stop()
    totals = nfcapd.totals()
    records = nfcapd.records()

    assert received(nfcapd) == (3 * len(frames), 3 * layer3(frames))
    assert totals.sequence_failures == 0
    assert totals.flows == len(records) >= 2 * FLOWS
    assert not [each for each in records if each.get("dst_port") == PORT]


@pytest.mark.parametrize("number", [SIGUSR2, SIGKILL])
def test_a_restart_is_no_gap(exporting: Exporting, tmp_path: Path, number: Any) -> None:  # noqa: ANN401 - a signal
    """The next daemon goes on with the numbers, and with the flows; what a killed one had queued had been sent."""
    frames = traffic(FLOWS)
    with Nfcapd(exporting.node.outside, tmp_path / "flows", COLLECTOR) as nfcapd:
        exporting.configure()
        exporting.daemon.start()
        exporting.wire.send(frames)
        exporting.daemon.settle(len(frames))
        exporting.sent(FLOWS)
        exporting.daemon.signal(number)
        exporting.daemon.ended()
        exporting.wire.send(frames)
        exporting.daemon.start()
        exporting.wire.send(frames)
        exporting.daemon.settle(3 * len(frames))
        exporting.daemon.stop()

    assert received(nfcapd) == (3 * len(frames), 3 * layer3(frames))
    assert nfcapd.totals().sequence_failures == 0


def test_flows_that_were_evicted_are_there(exporting: Exporting, tmp_path: Path) -> None:
    """Where more flows come than the table holds, each packet is in a record, or among those that are in none."""
    frames = traffic(FLOWS * 4)
    with Nfcapd(exporting.node.outside, tmp_path / "flows", COLLECTOR) as nfcapd:
        exporting.configure(max_entries=32)
        exporting.daemon.start()
        exporting.wire.send(frames)
        exporting.daemon.settle(len(frames))
        status = exporting.daemon.status()
        warned = exporting.daemon.ctl("export", "--since", "0").stderr
        exporting.daemon.stop()
    in_none = sum(map(int, re.findall(r"(\d+) packets? \(.* received since", warned)))

    assert status["ledger"]["packets"]["evicted"] > 0
    assert received(nfcapd)[0] + in_none == len(frames)
    assert nfcapd.totals().sequence_failures == 0


def drained(first: int, flows: int) -> RecordBatch:
    """Return the records of a drain, each of another flow."""
    now = time.monotonic_ns()
    clock = WallClock(Reading(now // 4_000_000, now, now, time.time_ns()), 4_000_000)
    records = np.zeros(flows, FLOW_RECORD["ipv4"])
    numbers = np.arange(flows)
    records["src_addr"] = 0x0A000000 + numbers
    records["src_port"], records["dst_port"] = numbers % 60_000 + 1, 443
    records["protocol"], records["ifindex"], records["link_bytes"] = TCP, 3, 14
    records["packets"], records["bytes"] = numbers % 7 + 1, (numbers % 7 + 1) * 100
    records["flags"] = np.where(numbers % 2, FLOW_EGRESS, 0)
    records["start"], records["end"] = clock.now.jiffies - 1000, clock.now.jiffies
    none = np.zeros(0, FLOW_RECORD["ipv6"])
    return RecordBatch(first, clock, {"ipv4": records, "ipv6": none}, {3: "ens1"}, {}, {})


def test_a_million_flows_a_drain_arrive_in_a_default_buffer(tmp_path: Path) -> None:
    """Paced over the drain interval of five seconds, none is lost: not one of two million in two drains."""
    with Namespace() as namespace, Nfcapd(namespace, tmp_path / "flows", "127.0.0.1") as nfcapd:
        with namespace.entered():
            assert int(Path("/proc/sys/net/core/rmem_default").read_text(encoding="ascii")) == RECEIVE_BUFFER
            exporter = IpfixExporter(Ipfix(f"127.0.0.1:{PORT}"), 5.0)
        for drain in range(2):
            batch = drained(1 + drain * MILLION, MILLION)
            exporter.put(batch)
            wait_for(lambda: not exporter.counters.waiting, "all records to be sent")
        exporter.end(0)
        exporter.join()
    packets, octets = 2 * int(batch.records["ipv4"]["packets"].sum()), 2 * int(batch.records["ipv4"]["bytes"].sum())

    assert exporter.counters.records == 2 * MILLION
    assert nfcapd.totals() == (2 * MILLION, packets, octets - 14 * packets, 0)
