"""Promises of cnf.history.block: what is read is what was written, and what is damaged is told so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnf.abi import FAMILIES, Family
from cnf.counts import Count
from cnf.history import block as module
from cnf.history.block import HEADER, Block, DamagedError, check, header_of, pack, unpack
from tests.unit.history.samples import START, block, packets_of, sums
from tests.unit.history.test_stored import PARTS, of_random, rows


def read(data: bytes) -> Block:
    """Read a block."""
    header = header_of(data)
    check(header, data[HEADER:])
    return unpack(header, data[HEADER:])


def test_what_is_read_is_what_was_written() -> None:
    """Every part of a block comes back, of both families."""
    rng = np.random.default_rng(2)
    arrays: dict[Family, dict[str, Any]] = {
        family: {name: of_random(rng, dtype[family], count) for name, dtype in PARTS.items()}
        for count, family in enumerate(FAMILIES, start=3)
    }
    by_name: dict[str, Any] = {name: {family: arrays[family][name] for family in FAMILIES} for name in PARTS}
    written = block(
        **by_name,
        before=sums(17, {"dns": 4}, eth1=5),
        began=("interface eth0",),
        lost={"ingress": Count(1, 2), "egress": Count(3, 4)},
        held=[{"source": "192.0.2.1", "rule": None}],
        complete=False,
    )
    found = read(pack(9, written))
    for name in PARTS:
        for family in FAMILIES:
            assert rows(getattr(found, name)[family]) == rows(arrays[family][name])
    for name in (
        "begin",
        "end",
        "boottime",
        "maps",
        "began",
        "rules",
        "lost",
        "names",
        "flow_count",
        "held",
        "complete",
    ):
        assert getattr(found, name) == getattr(written, name), name
    assert packets_of(found.interfaces) == {"eth0": 5}
    assert found.before is not None
    assert packets_of(found.before.interfaces) == {"eth0": 17, "eth1": 5}
    assert found.before.rules == {"dns": [Count(4, 4), Count(), Count()]}


def test_the_header_has_number_and_times() -> None:
    """A block is found without a look at its content."""
    data = pack(12, block(START, START + 5))
    header = header_of(data)
    assert (header.number, header.begin, header.end, HEADER + header.length) == (12, START, START + 5, len(data))


def test_a_block_that_is_cut_off_anywhere_is_told_so() -> None:
    """No part of a block is taken for one."""
    data = pack(1, block())
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            read(data[:length])


def test_a_block_with_any_other_byte_is_told_so() -> None:
    """A byte that has changed, in the header or in the content, is noticed."""
    data = pack(1, block())
    for place in range(len(data)):
        with pytest.raises(DamagedError):
            read(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_a_block_of_another_version_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another cnfd has written otherwise is not misread."""
    monkeypatch.setattr(module, "VERSION", 1)
    data = pack(1, block())
    monkeypatch.undo()
    with pytest.raises(DamagedError, match="of version 1, and this cnfd reads 2"):
        read(data)
