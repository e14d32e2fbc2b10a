"""What a hash refuses to take in is counted by its reason; what another CPU has put there first is no refusal."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import FAMILIES, Family
from cnf.counts import Count
from cnf.datapath import blueprint
from cnf.kernel.maps import Array
from tests.bpf import kept
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import FLOWS, SIZE, XDP_DROP, Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame

PACKETS: Final[dict[Family, bytes]] = {"ipv4": frame(IPv4(), UDP()), "ipv6": frame(IPv6(), UDP())}
LIMITS: Final[dict[str, Any]] = {
    "mode": "enforce",
    "rules": [{"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 2}],
}
ANOTHER_CPU: Final = 1
REASONS: Final = [(errno.ENOMEM, "no_memory"), (errno.EBUSY, "busy"), (errno.EEXIST, "raced"), (errno.E2BIG, "other")]
pytestmark = pytest.mark.parametrize("family", FAMILIES)


class Blueprint(blueprint.Blueprint):
    """That of inserting.c, which has a map more."""

    @property
    def maps(self) -> tuple[str, ...]:
        """Return the names of the maps."""
        return (*super().maps, "test_insert")


class Inserting(Limited):
    """A program with tables that are hashes, and what happens when something is inserted there."""

    def happens(self, what: int) -> None:
        """From now on have this happen: nothing, ANOTHER_CPU, or an error, below 0."""
        Array("test_insert", self.loaded.maps["test_insert"], np.dtype("<i8")).write(0, np.array(what, "<i8"))

    def errors(self, family: Family, *, sources: bool) -> dict[str, Count]:
        """Return cause -> (packets, bytes) where not zero, of one family's table of flows or of sources."""
        read = self.table_counters.read_sources if sources else self.table_counters.read
        return {cause: count for cause, count in read(family).errors.items() if count.packets}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Inserting]:
    """Load inserting.c once."""
    source = Path(__file__).with_name("inserting.c")
    inserting = Inserting(kept.load(Blueprint(FLOWS, "lru_hash", limiter=SIZE, source=source)))
    yield inserting
    inserting.loaded.close()


@pytest.fixture
def inserting(loaded: Inserting) -> Inserting:
    """Give each test empty tables into which inserts are as ever."""
    loaded.happens(0)
    loaded.start({})
    return loaded


@pytest.mark.parametrize(("error", "reason"), REASONS)
def test_a_flow_that_the_kernel_refuses(inserting: Inserting, family: Family, error: int, reason: str) -> None:
    """Its packets pass, and stand under the reason."""
    packet = PACKETS[family]
    inserting.happens(-error)
    assert [inserting.run(packet) for _ in range(3)] == [XDP_PASS] * 3

    assert inserting.errors(family, sources=False) == {reason: Count(3, 3 * len(packet))}
    assert (inserting.flows(), inserting.inserted(family)) == ({}, 0)


@pytest.mark.parametrize(("error", "reason"), REASONS)
def test_a_source_that_the_kernel_refuses(inserting: Inserting, family: Family, error: int, reason: str) -> None:
    """Its packets pass, and each is one of the table's insert errors; but for another CPU's, which is looked for."""
    packet = PACKETS[family]
    inserting.run(packet)
    inserting.switch(LIMITS)
    inserting.happens(-error)
    assert [inserting.run(packet) for _ in range(5)] == [XDP_PASS] * 5

    expected = {} if error == errno.EEXIST else {reason: Count(5, 0)}
    assert (inserting.errors(family, sources=True), inserting.sources()) == (expected, [])


def test_a_flow_that_another_cpu_inserts_first(inserting: Inserting, family: Family) -> None:
    """The packet is added to it, and is no error."""
    packet = PACKETS[family]
    inserting.happens(ANOTHER_CPU)
    inserting.run(packet)

    (flow,) = inserting.flows().values()
    assert (flow.packets, flow.bytes) == (2, 2 * len(packet))
    assert inserting.errors(family, sources=False) == {}
    assert inserting.inserted(family) == 0  # by this CPU


def test_a_source_that_another_cpu_inserts_first(inserting: Inserting, family: Family) -> None:
    """The packet is debited there, and is no error."""
    packet = PACKETS[family]
    inserting.run(packet)
    inserting.switch(LIMITS)
    inserting.happens(ANOTHER_CPU)
    assert [inserting.run(packet) for _ in range(4)] == [XDP_PASS] * 2 + [XDP_DROP] * 2

    ((_source, _group, value),) = inserting.sources()
    assert [int(value[name]) for name in ("packets", "over_packets")] == [2, 2]
    assert inserting.errors(family, sources=True) == {}
    assert inserting.table_counters.read_sources(family).inserted == 0
