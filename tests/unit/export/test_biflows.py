"""Records of both directions are joined, each at most once, and sums stay what they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FAMILIES, FLOW_EGRESS, ICMP, TCP, UDP, Family
from cnf.arrays import Records
from cnf.export.biflows import Biflows, join
from cnf.flows.records import FLOW_RECORD
from tests.unit.export.test_ipfix import record

ENDS = {"ipv4": ("192.0.2.1", "192.0.2.2"), "ipv6": ("2001:db8::1", "2001:db8::2")}


def flow(family: Family, src_port: int, dst_port: int, *, sent: bool = False, protocol: int = TCP) -> Records:
    """Return one record: those that are sent come from the second address."""
    src, dst = ENDS[family][::-1] if sent else ENDS[family]
    return record(
        family, src, dst, src_port=src_port, dst_port=dst_port, protocol=protocol, flags=FLOW_EGRESS * sent, ifindex=3
    )


def joined(*records: Records) -> tuple[Records, Biflows]:
    """Join records of one family."""
    family: Family = "ipv4" if records[0].dtype == FLOW_RECORD["ipv4"] else "ipv6"
    alone, biflows = join({family: np.concatenate(records)})
    return alone[family], biflows[family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize("asks", ["received", "sent"])
def test_the_higher_port_is_the_initiator(family: Family, protocol: int, asks: str) -> None:
    """Whichever comes first: all parts of a connection are the same way round."""
    here, there = (40_000, 443) if asks == "received" else (443, 40_000)
    both = flow(family, here, there, protocol=protocol), flow(family, there, here, protocol=protocol, sent=True)
    for records in (both, both[::-1]):
        alone, biflows = joined(*records)
        assert len(alone) == 0
        assert (biflows.forward["src_port"].tolist(), biflows.reverse["src_port"].tolist()) == ([40_000], [443])
        assert biflows.initiated.tolist() == [True]


def test_of_equal_ports_the_received_one_is_first() -> None:
    """And it is not said to be the initiator's."""
    _, biflows = joined(flow("ipv4", 123, 123, protocol=UDP, sent=True), flow("ipv4", 123, 123, protocol=UDP))
    assert biflows.forward["flags"].tolist() == [0]
    assert biflows.initiated.tolist() == [False]


def test_a_request_of_icmp_comes_before_its_answer() -> None:
    """Whoever has sent it; errors are no pair."""
    alone, biflows = joined(
        flow("ipv4", 0, 0, protocol=ICMP), flow("ipv4", 8, 0, protocol=ICMP, sent=True),
        flow("ipv4", 3, 1, protocol=ICMP), flow("ipv4", 3, 1, protocol=ICMP, sent=True),
    )  # fmt: skip
    assert (biflows.forward["src_port"].tolist(), biflows.reverse["src_port"].tolist()) == ([8], [0])
    assert alone["src_port"].tolist() == [3, 3]


def test_a_flow_that_came_twice_in_a_drain_is_in_one_pair() -> None:
    """It was evicted and came again: what is left over goes alone."""
    twice = [flow("ipv4", 1000, 80)] * 2
    for number, each in enumerate(twice := [each.copy() for each in twice]):
        each["packets"] = number + 1
    alone, biflows = joined(twice[0], flow("ipv4", 80, 1000, sent=True), twice[1])
    assert (len(alone), len(biflows.forward)) == (1, 1)
    assert alone["packets"][0] + biflows.forward["packets"][0] == 3


@given(
    st.lists(
        st.tuples(*3 * [st.integers(0, 2)], st.booleans(), st.sampled_from([TCP, UDP, ICMP]), st.integers(1, 9)),
        min_size=1,
        max_size=40,
    )
)
def test_sums_are_what_they_were(rows: list[tuple[int, int, int, bool, int, int]]) -> None:
    """Each record is in one place, whatever there is."""
    records = []
    for src_port, dst_port, ifindex, sent, protocol, packets in rows:
        made = flow("ipv4", src_port, dst_port, sent=sent, protocol=protocol)
        made["packets"], made["ifindex"] = packets, ifindex
        records.append(made)
    alone, biflows = joined(*records)
    assert sorted(np.concatenate([alone, biflows.forward, biflows.reverse]).tolist()) == sorted(
        np.concatenate(records).tolist()
    )
    for forward, reverse in zip(biflows.forward, biflows.reverse, strict=True):
        assert forward["ifindex"] == reverse["ifindex"]
        assert forward["flags"] != reverse["flags"]
        assert forward["src_addr"] == reverse["dst_addr"]
