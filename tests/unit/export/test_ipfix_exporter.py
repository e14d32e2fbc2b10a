"""An exporter sends each record once, in time, and counts those that it cannot send."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any, Final

import numpy as np
import pytest
from structlog.testing import capture_logs

from cnf.abi import FLOW_EGRESS, UDP, Family
from cnf.arrays import Records
from cnf.clock import Reading, WallClock
from cnf.export import ipfix_exporter
from cnf.export.collector import Collector, SendError
from cnf.export.ipfix import Message
from cnf.export.ipfix_exporter import IpfixExporter
from cnf.export.pace import SHARE
from cnf.export.templates import BIFLOWS, EXPORTED_OPTIONS, FLOWS, NAME_OPTIONS, SAMPLING_OPTIONS
from cnf.flows.records import FLOW_RECORD
from cnf.flows.stream import RecordBatch
from cnf.recording import Ipfix
from tests.unit.export import test_ipfix
from tests.unit.export.test_ipfix import record

INTERVAL: Final = 0.5
PATIENCE: Final = 10.0


class Listener:
    """A collector: a socket, which holds some ninety messages, and what it has read."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.read = test_ipfix.Collector()
        self.times: list[float] = []

    def packets(self, records: int) -> list[int]:
        """Wait for so many flow records; return the packets of all that have come, which tell them apart."""
        flows = {each.id for each in FLOWS.values()}
        while sum(number in flows for number, _ in self.read.records) < records:
            octets = self.socket.recv(2000)
            self.times.append(time.monotonic())
            self.read.take([Message(octets, -1)])
        return [int.from_bytes(fields[2]) for number, fields in self.read.records if number in flows]


@pytest.fixture
def listener() -> Iterator[Listener]:
    """Give a collector."""
    made = Listener()
    yield made
    made.socket.close()


@pytest.fixture
def exporter(listener: Listener) -> Iterator[IpfixExporter]:
    """Give an exporter to the collector."""
    made = IpfixExporter(Ipfix(listener.address, domain=test_ipfix.DOMAIN), INTERVAL)
    yield made
    made.end(0)
    made.join()


def clock(after: float = 0.0) -> WallClock:
    """Return a drain's clock, so many seconds after the start."""
    return WallClock(Reading(1000, int(after * 1e9), 0, test_ipfix.SECONDS * 1_000_000_000), 4_000_000)


def drained(numbers: range, after: float = 0.0, **names: str) -> RecordBatch:
    """Return a drain's records with so many packets each, and the interfaces named ``_INDEX``."""
    records = np.repeat(record("ipv4", "10.0.0.1", "10.0.0.2", protocol=UDP), len(numbers))
    records["packets"] = numbers
    there = {int(index[1:]): name for index, name in names.items()}
    return RecordBatch(1, clock(after), {"ipv4": records, "ipv6": np.zeros(0, FLOW_RECORD["ipv6"])}, there, {}, {})


def wait_for(condition: Any) -> None:  # noqa: ANN401 - what is true or false
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def options_of(listener: Listener, number: int) -> list[dict[int, bytes]]:
    """Return the option records of a template."""
    return [fields for each, fields in listener.read.records if each == number]


def test_every_record_arrives_once_and_in_order(exporter: IpfixExporter, listener: Listener) -> None:
    """Over drains; templates and options come first, and the numbers have no gap."""
    for drain in range(3):
        exporter.put(drained(range(300 * drain, 300 * drain + 300), drain))

    assert listener.packets(900) == list(range(900))
    wait_for(lambda: exporter.counters.records == 900)
    assert exporter.sequence == listener.read.expected == 900
    assert exporter.counters.lost == sum(exporter.counters.errors.values()) == 0
    assert len(options_of(listener, SAMPLING_OPTIONS.id)) == 1
    assert len(options_of(listener, EXPORTED_OPTIONS.id)) == 1


def test_a_drain_is_spread_over_the_interval(exporter: IpfixExporter, listener: Listener) -> None:
    """The last messages come near its end, however fast the machine is."""
    began = time.monotonic()
    exporter.put(drained(range(1000)))
    listener.packets(1000)

    assert listener.times[-1] - began > 0.9 * SHARE * INTERVAL


def test_names_come_when_they_change_and_all_in_an_interval(exporter: IpfixExporter, listener: Listener) -> None:
    """A name is told of before the records; templates and all names again after ``template_interval``."""
    exporter.put(drained(range(1), 0, _1="ens1"))
    exporter.put(drained(range(1), 10, _1="ens1", _2="ens2"))
    exporter.put(drained(range(1), 20, _1="ens1", _2="ens2"))
    listener.packets(3)
    named = [fields[82].rstrip(b"\0") for fields in options_of(listener, NAME_OPTIONS.id)]
    assert named == [b"ens1", b"ens2"]
    exporter.put(drained(range(1), 60, _1="ens1", _2="ens2"))
    listener.packets(4)

    named = [fields[82].rstrip(b"\0") for fields in options_of(listener, NAME_OPTIONS.id)]
    assert named == [b"ens1", b"ens2", b"ens1", b"ens2"]
    (_, second) = options_of(listener, EXPORTED_OPTIONS.id)
    assert int.from_bytes(second[42]) == 3


def test_records_for_a_closed_port_are_lost_and_counted(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with the remedy says so, one that it works again; what comes then has the numbers that follow."""
    monkeypatch.setattr(ipfix_exporter, "RETRY", 0.1)
    port = listener.socket.getsockname()
    listener.socket.close()
    with capture_logs() as lines:
        exporter = IpfixExporter(Ipfix(listener.address, domain=test_ipfix.DOMAIN), INTERVAL)
        exporter.put(drained(range(100)))
        wait_for(lambda: exporter.counters.lost == 100)
        again = Listener()
        again.socket.close()
        again.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        again.socket.bind(port)
        again.socket.settimeout(PATIENCE)
        again.read.expected = 100
        exporter.put(drained(range(100, 200), 5))

        assert again.packets(100) == list(range(100, 200))
        wait_for(lambda: exporter.counters.records == 100)
        exporter.end(1)
        exporter.join()
    again.socket.close()
    assert exporter.counters.errors["refused"] > 0
    assert exporter.counters.lost == 100
    first, second = lines
    assert (first["event"], first["reason"], first["log_level"]) == ("records not sent", "refused", "warning")
    assert (second["event"], second["lost"], second["log_level"]) == ("records sent again", 100, "info")


def test_a_refusal_in_the_midst_of_a_drain_moves_no_number(
    exporter: IpfixExporter, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message is lost, and templates come again: the gap that a collector sees is what was in that message."""
    exporter.interval = 1.0
    exporter.put(drained(range(1)))
    listener.packets(1)
    send, sent = Collector.send, count()

    def refuses_the_third(collector: Collector, message: bytes) -> None:
        if next(sent) == 2:
            raise SendError("refused", "Connection refused")
        send(collector, message)

    monkeypatch.setattr(Collector, "send", refuses_the_third)
    exporter.put(drained(range(1, 301), 1))
    listener.read.lossy = True
    wait_for(lambda: exporter.counters.records + exporter.counters.lost == 301)
    came = listener.packets(exporter.counters.records)

    assert 0 < exporter.counters.lost < 100
    assert len(came) == len(set(came)) == 301 - exporter.counters.lost
    assert listener.read.missed == exporter.counters.lost
    assert listener.read.expected == exporter.sequence == 301


def test_the_oldest_drain_is_lost_when_too_much_waits(exporter: IpfixExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector sees the gap in the numbers, which is as large as what is counted."""
    monkeypatch.setattr(ipfix_exporter, "QUEUE_BYTES", 2 * 100 * FLOW_RECORD["ipv4"].itemsize)
    exporter.interval = 100.0
    with capture_logs() as lines:
        for drain in range(5):
            exporter.put(drained(range(100 * drain, 100 * drain + 100), drain))
    assert exporter.counters.lost in (200, 300)  # the first one may be on its way
    assert [line["event"] for line in lines] == ["records lost: the exporter is behind"] * (
        exporter.counters.lost // 100
    )
    assert exporter.sequence == 500
    exporter.end(0)


def test_what_is_queued_goes_out_at_the_end(exporter: IpfixExporter, listener: Listener) -> None:
    """However long the interval is."""
    exporter.interval = 1000.0
    exporter.put(drained(range(300)))
    listener.packets(1)
    exporter.end(PATIENCE)
    exporter.join()

    assert listener.packets(300) == list(range(300))
    assert exporter.counters.lost == 0


def test_what_there_is_no_time_for_at_the_end_is_lost(exporter: IpfixExporter) -> None:
    """Counted as such, exactly."""
    exporter.interval = 1000.0
    for drain in range(2):
        exporter.put(drained(range(1000), drain))
    with capture_logs() as lines:
        exporter.end(0)
        exporter.join()

    (line,) = lines
    assert (line["event"], line["lost"]) == ("records lost at the end", exporter.counters.lost)
    assert exporter.counters.records + exporter.counters.lost == 2000
    assert exporter.counters.lost >= 1000


def test_other_options_are_for_what_is_queued_from_then_on(exporter: IpfixExporter, listener: Listener) -> None:
    """Numbers and socket stay."""
    exporter.put(drained(range(10)))
    exporter.apply(Ipfix(listener.address, domain=test_ipfix.DOMAIN, filter="tcp"))
    exporter.put(drained(range(10, 20), 5))
    exporter.apply(Ipfix(listener.address, domain=test_ipfix.DOMAIN))
    exporter.put(drained(range(20, 30), 10))

    assert listener.packets(20) == [*range(10), *range(20, 30)]


def test_another_domain_has_numbers_of_its_own(exporter: IpfixExporter, listener: Listener) -> None:
    """As RFC 7011 has them."""
    exporter.put(drained(range(10)))
    listener.packets(10)
    exporter.apply(Ipfix(listener.address, domain=test_ipfix.DOMAIN + 1))

    assert exporter.sequence == 0


def test_both_directions_are_one_record(exporter: IpfixExporter, listener: Listener) -> None:
    """With ``biflow = true``, which a reload switches: it has one number, and counts once."""
    exporter.apply(Ipfix(listener.address, domain=test_ipfix.DOMAIN, biflow=True))
    batch = drained(range(10))
    batch.records["ipv4"]["dst_port"] = np.arange(10)
    answers = batch.records["ipv4"][:6].copy()
    for name in ("addr", "port"):
        answers[f"src_{name}"], answers[f"dst_{name}"] = (
            batch.records["ipv4"][f"{way}_{name}"][:6] for way in ("dst", "src")
        )
    answers["flags"] = FLOW_EGRESS
    both: dict[Family, Records] = {
        "ipv4": np.concatenate([batch.records["ipv4"], answers]),
        "ipv6": batch.records["ipv6"],
    }
    exporter.put(replace(batch, records=both))
    assert exporter.sequence == 10
    exporter.end(PATIENCE)
    exporter.join()
    assert exporter.counters.records == 10

    biflows = {each.id for each in BIFLOWS.values()}
    while len(listener.packets(4)) < 4 or sum(number in biflows for number, _ in listener.read.records) < 6:
        listener.read.take([Message(listener.socket.recv(2000), -1)])
    told = [fields for number, fields in listener.read.records if number in biflows]
    assert sorted(int.from_bytes(fields[2]) for fields in told) == [*range(6)]
    assert [fields[2] for fields in told] == [fields[test_ipfix.REVERSED + 2] for fields in told]


def test_the_sequence_wraps(exporter: IpfixExporter) -> None:
    """After 2^32 - 1 comes 0."""
    exporter.sequence = ipfix_exporter.MODULUS - 1
    exporter.put(drained(range(10)))

    assert exporter.sequence == 10 - 1


def test_an_empty_drain_is_no_message(exporter: IpfixExporter, listener: Listener) -> None:
    """But for templates, when they are due."""
    exporter.put(drained(range(1)))
    listener.packets(1)
    messages = len(listener.times)
    for after in count(5, 5):
        if after == 60:
            break
        exporter.put(drained(range(0), after))
    exporter.put(drained(range(1, 2), 59))

    assert listener.packets(2) == [0, 1]
    assert len(listener.times) == messages + 1
