"""Promises of cnf.history.joined: many blocks are one, exactly, and in little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from cnf.history import grouping
from cnf.history import joined as module
from cnf.history.block import Block
from cnf.history.joined import Joined
from tests.unit.history.test_past import made
from tests.unit.samples import Flow


def minutes(count: int, flows: int, fresh: int) -> Iterator[Block]:
    """Yield blocks of so many flows, of which so many are in no other."""
    for minute in range(count):
        old = [Flow(src=f"10.1.{number >> 8}.{number & 255}", packets=2, bytes=200) for number in range(flows - fresh)]
        new = [Flow(src=f"10.2.{minute}.{number}", packets=1, bytes=100) for number in range(fresh)]
        yield made(minute, 1_000, *old, *new)


def test_sums_are_exact_however_often_they_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows, sources and destinations have what all blocks have of them, also where they are summed up in between."""
    monkeypatch.setattr(grouping, "PART", 64)
    joined = Joined(minutes(20, flows=30, fresh=3))
    flows = joined.flows["ipv4"]
    assert len(flows) == 27 + 20 * 3
    assert sorted(flows["packets"].tolist()) == [1] * 60 + [40] * 27
    assert int(flows["bytes"].sum()) == 20 * (27 * 200 + 3 * 100)
    sources, destinations = joined.ends("sources")["ipv4"], joined.ends("destinations")["ipv4"]
    assert (len(sources), int(sources["packets"].sum())) == (87, 20 * (27 * 2 + 3))
    assert (len(destinations), int(destinations["packets"].sum())) == (1, 20 * (27 * 2 + 3))


def test_of_too_many_flows_the_largest_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What random addresses make, minute by minute, takes no more than so many flows, and hides no large one."""
    monkeypatch.setattr(grouping, "PART", 64)
    monkeypatch.setattr(module, "MOST", 40)
    flows = Joined(minutes(50, flows=30, fresh=10)).flows["ipv4"]
    assert len(flows) == 40
    assert sorted(flows["packets"].tolist())[-20:] == [100] * 20


def test_a_day_takes_what_its_flows_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of a block that has been added: 600 with the same 40 flows take no more than 1 MB."""
    monkeypatch.setattr(grouping, "PART", 1 << 10)
    blocks = minutes(600, flows=40, fresh=0)
    tracemalloc.start()
    try:
        joined = Joined(blocks)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(joined.flows["ipv4"]) == 40
    assert kept < 1_000_000, kept
