"""Promises of cnf.history.stored: what is restored is what was stored, to the millisecond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnf.abi import FAMILIES, Family
from cnf.arrays import Records
from cnf.history.stored import ADDRESS, FLOW, Table, dtypes, restore, store
from tests.unit.history.samples import MINUTE, START

PARTS = {"flows": FLOW, "sources": ADDRESS, "destinations": ADDRESS}
END = START + MINUTE
MS = 10**6


def of_random(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> Records:
    """Return records of random bytes, whose times are whole milliseconds of the block."""
    records = np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()
    if "end" in (dtype.names or ()):
        records["end"] = END - MS * rng.integers(0, 60_000, count)
        records["start"] = records["end"] - (MS * rng.integers(0, 90_000, count)).astype(np.uint64)
    return records


def rows(records: Records) -> list[bytes]:
    """Return what is in records, in any order."""
    return sorted(record.tobytes() for record in records)


def table_of(family: Family, count: int) -> Table:
    """Return a table of random rows."""
    rng = np.random.default_rng(7)
    return Table(*(of_random(rng, dtype[family], count) for dtype in PARTS.values()))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [0, 1, 500])
def test_what_is_restored_is_what_was_stored(family: Family, count: int) -> None:
    """Rows come back in some order, all of them, and with addresses that many have."""
    table = table_of(family, count)
    table.flows["dst_addr"] = table.flows["dst_addr"][:1]
    table.flows["src_addr"][: count // 2] = table.sources["addr"][: count // 2]
    stored = store(family, table, END)
    assert [records.dtype for records in stored] == [*dtypes(family)]
    for before, after in zip(table, restore(family, stored, END), strict=True):
        assert before.dtype == after.dtype
        assert rows(before) == rows(after)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_is_stored_once(family: Family) -> None:
    """Flows, sources and destinations share their addresses; those that end in zeros are told apart."""
    table = Table(np.zeros(3, FLOW[family]), np.zeros(2, ADDRESS[family]), np.zeros(1, ADDRESS[family]))
    for place, addresses in enumerate((table.flows["src_addr"], table.sources["addr"])):
        address = np.zeros(addresses[-1:].nbytes, np.uint8)
        address[place] = 7
        addresses[-1:] = address.view(addresses.dtype).reshape(addresses[-1:].shape)
    stored, *_ = store(family, table, END)
    assert [address.tobytes()[:2] for address in stored] == [b"\x00\x00", b"\x00\x07", b"\x07\x00"]
    restored = restore(family, store(family, table, END), END)
    assert rows(restored.flows["src_addr"]) == rows(table.flows["src_addr"])
    assert rows(restored.sources) == rows(table.sources)


def test_times_are_kept_to_the_millisecond() -> None:
    """A part of one is lost; a time that does not fit, after the end or 50 days before it, is the nearest that does."""
    table = Table(np.zeros(3, FLOW["ipv4"]), np.zeros(0, ADDRESS["ipv4"]), np.zeros(0, ADDRESS["ipv4"]))
    table.flows["src_port"] = (1, 2, 3)
    table.flows["end"] = (END - 5 * MS - 1, END + 2 * MS, END)
    table.flows["start"] = (END - 9 * MS, END - 2 * MS, 0)
    flows = restore("ipv4", store("ipv4", table, END), END).flows
    ages = {int(flow["src_port"]): ((END - flow["end"]) / MS, (END - flow["start"]) / MS) for flow in flows}
    assert ages == {1: (5, 8), 2: (0, 4), 3: (0, 2**32 - 1)}
