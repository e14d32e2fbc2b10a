"""Exporters follow a reload, and their numbers a restart."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np
import pytest

from cnf import config
from cnf.config import Settings
from cnf.export import ipfix_exporters
from cnf.export.ipfix_exporters import IpfixExporters
from cnf.recording import Export, Ipfix
from tests.unit.export.test_ipfix_exporter import Listener, clock, drained, listener, wait_for

__all__ = ["listener"]


def settings(*tables: Ipfix) -> Settings:
    """Return settings with these collectors, and a short interval."""
    known = config.for_interfaces(["eth0"])
    flows = attrs.evolve(known.flows, drain_interval=0.2)
    return attrs.evolve(known, flows=flows, export=Export(ipfix=tables))


@pytest.fixture
def other() -> Iterator[Listener]:
    """Give a second collector."""
    made = Listener()
    yield made
    made.socket.close()


def to(listener: Listener, **options: float) -> Ipfix:
    """Return a table for a collector."""
    return Ipfix(listener.address, 7, **options)  # type: ignore[arg-type] # each of its type


def test_all_collectors_get_all_records(listener: Listener, other: Listener) -> None:
    """The shortest active timeout is what flows are asked for."""
    exporters = IpfixExporters(settings(to(listener, active_timeout=60.0), to(other, active_timeout=20.0)))
    exporters.put(drained(range(100)))
    exporters.close()

    assert listener.packets(100) == other.packets(100) == list(range(100))
    assert exporters.active(clock()) == 20
    assert [each.records for each in exporters.counters()] == [100, 100]


def test_without_a_collector_nothing_is_asked_for() -> None:
    """Nobody needs records of flows that go on."""
    exporters = IpfixExporters(settings())
    exporters.put(drained(range(100)))

    assert exporters.active(clock()) == float("inf")
    assert list(exporters.counters()) == []


def test_a_reload_loses_and_repeats_nothing(listener: Listener, other: Listener) -> None:
    """The collector that stays has one row of numbers; one that is removed gets what was queued for it."""
    exporters = IpfixExporters(settings(to(listener), to(other)))
    exporters.put(drained(range(100)))
    exporters.apply(settings(to(listener)))
    exporters.put(drained(range(100, 200), 5))
    assert listener.packets(200) == list(range(200))
    assert other.packets(100) == list(range(100))
    exporters.apply(settings(to(listener, mtu=600), to(other)))
    exporters.put(drained(range(200, 300), 10))

    assert listener.packets(300) == list(range(300))
    assert other.packets(200) == [*range(100), *range(200, 300)]  # nor has it seen a gap in the numbers
    exporters.close()


def test_the_next_daemon_goes_on_with_the_numbers(listener: Listener) -> None:
    """Whatever had been sent: so the collector sees a gap if and only if records are missing."""
    exporters = IpfixExporters(settings(to(listener)))
    exporters.put(drained(range(100)))
    exporters.close()
    handed_over = exporters.hand_over()
    following = IpfixExporters(settings(to(listener)))
    following.take_over(handed_over)
    following.put(drained(range(100, 200), 5))
    following.close()

    assert listener.packets(200) == list(range(200))
    assert following.hand_over() == {f"{listener.address} 7": 200}


def test_a_daemon_without_a_handover_begins_at_0(listener: Listener) -> None:
    """So does one that cannot read it."""
    exporters = IpfixExporters(settings(to(listener)))
    exporters.take_over(None)

    assert exporters.hand_over() == {f"{listener.address} 7": 0}
    exporters.close()


def test_one_that_hangs_does_not_hold_up_the_end(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each exporter has the same few seconds, at the same time."""
    monkeypatch.setattr(ipfix_exporters, "PATIENCE", 0.1)
    exporters = IpfixExporters(settings(to(listener)))
    listener.socket.close()
    exporters.put(drained(range(100)))
    exporters.close()

    (counters,) = exporters.counters()
    wait_for(lambda: counters.records + counters.lost == 100)


def test_packets_of_former_collectors_are_left_out_too(listener: Listener, other: Listener) -> None:
    """A flow to a collector that a reload has removed is still there, and has a record when it expires."""
    exporters = IpfixExporters(settings(to(listener), to(other)))
    exporters.apply(settings(to(listener)))
    batch = drained(range(2))
    records = batch.records["ipv4"]
    loopback = np.frombuffer(bytes([127, 0, 0, 1]), np.uint32)[0]
    records["src_addr"][0] = records["dst_addr"][0] = loopback
    records["dst_port"][0] = other.socket.getsockname()[1]
    exporters.put(batch)
    exporters.close()

    assert listener.packets(1) == [1]
