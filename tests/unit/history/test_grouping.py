"""Promises of cnf.history.grouping: sums are exact, of all records, whatever their number."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cnf.abi import FLOW_EGRESS, Family
from cnf.arrays import Records
from cnf.flows.records import FLOW_RECORD, KEY_FIELDS
from cnf.history import grouping
from cnf.history.grouping import DESTINATION, FLOW, SOURCE, By, grouped, largest_groups


def random_records(family: Family, count: int, seed: int) -> Records:
    """Return records of few addresses and ports, so that many are of one flow."""
    rng = np.random.default_rng(seed)
    result = np.zeros(count, FLOW_RECORD[family])
    for name in ("src_addr", "dst_addr"):
        result[name] = rng.integers(0, 12, result[name].shape)
    for name in ("src_port", "ifindex", "vlan", "protocol"):
        result[name] = rng.integers(0, 3, count)
    result["flags"] = FLOW_EGRESS * rng.integers(0, 2, count)
    for name in ("packets", "bytes", "dropped_packets", "dropped_bytes", "start", "end"):
        result[name] = rng.integers(0, 1 << 40, count)
    result["tcp_flags"] = rng.integers(0, 256, count)
    return result


def plain(records: Records, by: By) -> dict[bytes, Counter[str]]:
    """Add up in plain Python."""
    groups: dict[bytes, Counter[str]] = {}
    for record in records:
        key = b"|".join(
            (record[name] & FLOW_EGRESS if name == "flags" else record[name]).tobytes() for name in by.names or ()
        )
        group = groups.setdefault(key, Counter())
        for name in ("packets", "bytes", "dropped_packets", "dropped_bytes"):
            group[name] += int(record[name])
    return groups


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("what", [FLOW, SOURCE, DESTINATION])
def test_sums_are_those_of_plain_python(
    family: Family, what: dict[Family, By], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The groups, in parts and from several runs, are those that plain Python finds, the largest first."""
    monkeypatch.setattr(grouping, "PART", 500)
    records = random_records(family, 4000, seed=1)
    groups = largest_groups([records[:10], records[10:3000], records[3000:]], what[family], 30)

    expected = plain(records, what[family])
    assert groups.number == len(expected) > 20
    found = plain(groups.records, what[family])
    assert all(expected[key] == sums for key, sums in found.items())
    sizes = sorted((sums["bytes"] for sums in expected.values()), reverse=True)[:30]
    assert groups.records["bytes"].tolist() == sizes


def test_a_group_begins_with_the_first_and_ends_with_the_last() -> None:
    """Times and TCP flags of a flow are those of all its records."""
    records = np.zeros(3, FLOW_RECORD["ipv4"])
    records["start"], records["end"], records["tcp_flags"] = [30, 10, 20], [31, 11, 40], [2, 16, 1]
    (flow,) = grouped(records, FLOW["ipv4"])
    assert (flow["start"], flow["end"], flow["tcp_flags"]) == (10, 40, 19)


def test_every_field_of_a_key_tells_flows_apart() -> None:
    """Two records that differ in one field of the key are two flows."""
    for family in FLOW_RECORD:
        for name in KEY_FIELDS:
            records = np.zeros(2, FLOW_RECORD[family])
            records[name][1] = 1
            assert len(grouped(records, FLOW[family])) == 2, name


def test_no_records_are_no_groups() -> None:
    """Where nothing came, there is nothing."""
    groups = largest_groups([np.empty(0, FLOW_RECORD["ipv6"])], FLOW["ipv6"], 5)
    assert (len(groups.records), groups.number) == (0, 0)
