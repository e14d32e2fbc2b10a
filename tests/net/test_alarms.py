"""What docs/alarms.md has alerts on moves, and by the right number, when that happens."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import FAMILIES
from cnf.flows.recorder import SETS
from cnf.kernel import libbpf
from cnf.limiter.source_cache import SETS as SOURCE_SETS
from tests.net.arrivals import arrivals
from tests.net.conftest import Node
from tests.net.rations import QUICK, SIZE, enforce, packet, ration

FEW: Final = 32
"""Entries that a table is made for; a cache has twice as many places."""
MANY: Final = 300
CACHES: Final[dict[str, Any]] = {
    **{f"flows{family[-1]}": dtype for family, dtype in SETS.items()},
    **{f"limit_sources{family[-1]}": dtype for family, dtype in SOURCE_SETS.items()},
}


def sources(count: int, first: int = 0) -> list[bytes]:
    """Return a packet each of so many addresses of either family."""
    numbers = range(first, first + count)
    return [
        packet(address)
        for number in numbers
        for address in (f"10.0.{number >> 8}.{number & 255}", f"2001:db8::{number:x}")
    ]


@contextmanager
def claimed(node: Node, *names: str) -> Iterator[None]:
    """Have every set of these caches be claimed by a CPU that does not let go of it, for the length of the block."""
    (folder,) = node.inside.pins.glob("maps-*")
    sequences = [_sequences(folder / name) for name in names]
    for sequence in sequences:
        np.add(sequence, 1, out=sequence)
    yield
    for sequence in sequences:
        np.add(sequence, 1, out=sequence)


def _sequences(pin: Path) -> Any:  # noqa: ANN401 - an array of numpy
    fd = libbpf.open_pin(pin)
    try:
        size = libbpf.map_info(fd).value_size
        memory = mmap.mmap(fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
        return np.frombuffer(memory, CACHES[pin.name], size // CACHES[pin.name].itemsize)["head"]["sequence"]
    finally:
        os.close(fd)


def test_an_interface_that_is_not_there(node: Node) -> None:
    """cnf_interface_attached is 0 for one that is missing, and 1 for those that are watched."""
    node.wire("n0")
    metrics = node.daemon("n0", "n9").start().scrape()
    attached = {labels["interface"]: value for labels, value in metrics.samples("cnf_interface_attached")}
    assert attached == {"n0": 1, "n9": 0}


@pytest.mark.parametrize(("table", "places"), [("cache", 2 * FEW), ("lru_hash", FEW)])
def test_a_table_that_is_full(node: Node, table: str, places: int) -> None:
    """The fill is that of the flows that are listed, by family, and the evicted are all the others."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK | {"max_entries": FEW, "table": table}).start()
    wire.send(sources(MANY))
    daemon.settle(2 * MANY)
    listed = [flow["src_addr"] for flow in daemon.flows()]
    metrics = daemon.scrape()

    assert 0 < len(listed) < 2 * MANY
    assert metrics.total("cnf_flow_table_entries") == len(listed)
    (fill,) = (family for family in metrics.families if family.name == "cnf_flow_table_fill_ratio")
    assert {sample.labels["family"]: sample.value for sample in fill.samples} == {
        family: sum((":" in address) == (family == "ipv6") for address in listed) / places for family in FAMILIES
    }
    assert metrics.total("cnf_flows_created_total") == 2 * MANY
    assert metrics.total("cnf_flows_evicted_total") == 2 * MANY - len(listed)
    assert metrics.total("cnf_flows_expired_total") == 0


@pytest.mark.parametrize("table", ["cache", "lru_hash"])
def test_more_sources_than_there_is_room_for(node: Node, table: str) -> None:
    """Each source that had to go before its bucket was full is one of cnf_limiter_evictions_total."""
    wire = node.wire("n0")
    limits = enforce(ration("few", 10), max_sources=FEW, ipv6_source_prefix=128)
    daemon = node.daemon("n0", flows=QUICK | {"table": table}, limits=limits).start()
    wire.send(sources(MANY))
    daemon.settle(2 * MANY)
    metrics = daemon.scrape()

    assert 0 < metrics.total("cnf_limiter_sources") <= 4 * FEW
    assert metrics.total("cnf_limiter_sources") == len(daemon.limited_sources("--all", "--top", "1000"))
    assert metrics.total("cnf_limiter_evictions_total") == 2 * MANY - metrics.total("cnf_limiter_sources")
    assert metrics.total("cnf_limiter_insert_errors_total") == 0


def test_packets_whose_flow_finds_no_place(node: Node) -> None:
    """Each is an error of its reason, and stands as such in the ledger; those of known flows are none."""
    wire = node.wire("n0")
    daemon = node.daemon("n0", flows=QUICK | {"table": "cache"}).start()
    wire.send(sources(10))
    daemon.settle(20)
    with claimed(node, "flows4", "flows6"):
        wire.send([*sources(10), *sources(7, first=100)])
        daemon.settle(54)
    daemon.drain()
    metrics = daemon.scrape()

    assert metrics.by("reason", "cnf_flow_insert_errors_total") == {"busy": 14}
    assert metrics.by("state", "cnf_ledger_packets")["insert_error"] == 14
    assert metrics.by("state", "cnf_ledger_bytes")["insert_error"] == 14 * SIZE
    assert metrics.total("cnf_flow_table_entries") == 20
    assert daemon.status()["ledger"]["packets"]["difference"] == 0


def test_packets_whose_source_finds_no_place(node: Node) -> None:
    """They pass, and each is one of cnf_limiter_insert_errors_total."""
    wire = node.wire("n0")
    limits = enforce(ration("few", 10), ipv6_source_prefix=128)
    daemon = node.daemon("n0", flows=QUICK | {"table": "cache"}, limits=limits).start()
    with arrivals(node.inside, "n0") as passed:
        wire.send(sources(1) * 12)
        daemon.settle(24)
        with claimed(node, "limit_sources4", "limit_sources6"):
            wire.send([*sources(1) * 3, *sources(2, first=100) * 13])
            daemon.settle(24 + 6 + 52)
        known, newcomers = (
            {"10.0.0.0": 10, "2001:db8::": 10},
            ("10.0.0.100", "10.0.0.101", "2001:db8::64", "2001:db8::65"),
        )
        assert passed.by_source(20 + 52) == known | dict.fromkeys(newcomers, 13)
    daemon.drain()
    metrics = daemon.scrape()

    assert metrics.total("cnf_limiter_insert_errors_total") == 52
    assert metrics.total("cnf_limiter_evictions_total") == 0
    assert metrics.by("verdict", "cnf_limit_packets_total") == {"passed": 20, "limited": 10}
