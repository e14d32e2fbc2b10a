"""Columns keep the kernel's records as they are, and what is computed from them is what a person would compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FAMILIES, TCP, UDP, Family
from cnf.arrays import Mask
from cnf.flows.columns import FlowColumns, Index, Places, identities, largest, over, set_rates
from tests.unit.samples import CLOCK, JIFFIES, Flow, columns, records

TICKS_A_SECOND = 250
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

each_family = pytest.mark.parametrize("family", FAMILIES)

ADDRESSES = {"ipv4": ["192.0.2.1", "192.0.2.2", "10.0.0.0"], "ipv6": ["2001:db8::1", "::", "1::2:0:0:0"]}


def flows_of(family: Family) -> st.SearchStrategy[list[Flow]]:
    """Draw flows with keys distinct from each other, of few values a field, so that keys are near to each other."""
    flow = st.builds(
        Flow,
        src=st.sampled_from(ADDRESSES[family]),
        dst=st.sampled_from(ADDRESSES[family]),
        src_port=st.sampled_from([0, 1, 256, 65535]),
        dst_port=st.sampled_from([0, 1, 256, 65535]),
        protocol=st.sampled_from([TCP, UDP]),
        ifindex=st.sampled_from([1, 2, 2**31]),
        vlan=st.sampled_from([None, 0, 1, 4095]),
        fragment=st.booleans(),
        packets=st.integers(1, 2**40),
        bytes=st.integers(1, 2**50),
    )
    return st.lists(flow, max_size=20, unique_by=key)


def key(flow: Flow) -> Flow:
    """Return what tells one flow from another."""
    return replace(flow, packets=0, bytes=0, first_seen=0, last_seen=0, tcp_flags=0)


def indexed(flows: Sequence[Flow], family: Family) -> tuple[FlowColumns, Index]:
    """Return columns and their index."""
    table = columns(flows, family)
    return table, Index(identities(table.keys(np.arange(len(table)))))


# --- Columns ---


@each_family
def test_records_come_back_as_they_were(family: Family) -> None:
    """What fill() took from the kernel's keys, keys() gives back, byte by byte, and values stand in their columns."""
    src = ADDRESSES[family][0]
    flow = Flow(src, 1, ADDRESSES[family][1], 65535, UDP, 7, 0, fragment=True, packets=3, bytes=2**40, tcp_flags=0x5A)
    keys, values = records([Flow(src, dst=src), flow], family)
    table = FlowColumns.empty(family, 5)
    table.fill(3, keys, values)

    assert table.keys(np.array([3, 4])).tobytes() == keys.tobytes()
    assert (int(table.src_port[4]), int(table.dst_port[4]), int(table.bytes[4])) == (1, 65535, 2**40)
    assert (int(table.packets[4]), int(table.tcp_flags[4]), float(table.byte_rate[4])) == (3, 0x5A, 0.0)


@each_family
def test_head_shows_the_first_rows_without_copying(family: Family) -> None:
    """head() is shorter, of the same memory."""
    table = columns([Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][0], packets=n) for n in range(5)], family)
    head = table.head(2)

    assert (len(head), head.packets.tolist()) == (2, [0, 1])
    assert all(
        np.shares_memory(new, old) for new, old in zip(head.arrays().values(), table.arrays().values(), strict=True)
    )


@each_family
def test_compress_keeps_rows_and_their_order(family: Family) -> None:
    """The rows that are kept stand together, whole and in their order."""
    flows = [Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][1], src_port=n, packets=n) for n in range(6)]
    keep = np.array([False, True, True, False, False, True])
    kept = columns(flows, family).compress(keep)

    assert _rows(kept) == _rows(columns([flows[1], flows[2], flows[5]], family))


def test_compress_that_keeps_all_changes_nothing() -> None:
    """Nothing is moved when every row stays."""
    table = columns([Flow(), Flow(src_port=1)], "ipv4")

    assert table.compress(np.ones(2, bool)) is table


@each_family
def test_extended_columns_start_with_a_copy(family: Family) -> None:
    """A larger table begins with the rows that were there, in memory of its own."""
    table = columns([Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][1], packets=n) for n in range(3)], family)
    larger = table.extended(8)

    assert len(larger) == 8
    assert _rows(larger.head(3)) == _rows(table)
    assert not np.shares_memory(larger.packets, table.packets)


# --- Identities and the index ---


@each_family
def test_keys_that_differ_anywhere_have_different_identities(family: Family) -> None:
    """Each bit of a key's fields makes another identity."""
    keys, _values = records([Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][1])], family)
    bits = 8 * keys.itemsize
    changed = np.repeat(keys, bits + 1)
    octets = changed.view(np.uint8).reshape(bits + 1, -1)
    for bit in range(bits):
        octets[bit, bit // 8] ^= 1 << bit % 8

    assert len(np.unique(identities(changed))) == bits + 1


@given(st.data())
def test_distinct_keys_have_distinct_identities_and_equal_keys_the_same(data: st.DataObject) -> None:
    """An identity stands for a key."""
    family = data.draw(st.sampled_from(FAMILIES))
    flows = data.draw(flows_of(family))
    again = data.draw(st.permutations(flows))
    identity = dict(zip(map(key, flows), identities(records(flows, family)[0]).tolist(), strict=True))

    assert len(set(identity.values())) == len(flows)
    assert identities(records(again, family)[0]).tolist() == [identity[key(flow)] for flow in again]


@given(st.data())
def test_all_but_one_of_each_key_are_duplicates(data: st.DataObject) -> None:
    """Without its duplicates a table has every key once."""
    family = data.draw(st.sampled_from(FAMILIES))
    flows = data.draw(flows_of(family))
    met = data.draw(st.permutations(flows + (data.draw(st.lists(st.sampled_from(flows), max_size=9)) if flows else [])))
    table, index = indexed(met, family)
    keep = np.ones(len(met), bool)
    keep[index.duplicates(table)] = False

    assert sorted(map(hash, _kept(met, keep))) == sorted(hash(key(flow)) for flow in flows)


@each_family
def test_flows_whose_identities_meet_are_no_duplicates(family: Family) -> None:
    """Two keys of one identity are two flows; of each that stands there twice, one row is a duplicate."""
    one, two = (Flow(src=ADDRESSES[family][0], dst=ADDRESSES[family][1], src_port=port) for port in (1, 2))
    for met, duplicates in (([one, two], 0), ([one, one], 1)):
        table = columns(met, family)
        assert len(Index(np.zeros(len(met), np.uint64)).duplicates(table)) == duplicates


@given(st.data())
def test_an_index_follows_its_table(data: st.DataObject) -> None:
    """After compress() of both, the index is what one made from the remaining rows would be."""
    flows = data.draw(flows_of("ipv4"))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(flows), max_size=len(flows))), bool)
    table, index = indexed(flows, "ipv4")
    table = table.compress(keep)
    index.compress(keep)
    _, anew = indexed([flow for flow, kept in zip(flows, keep, strict=True) if kept], "ipv4")

    assert index.identities.tolist() == anew.identities.tolist()
    assert index.order.tolist() == anew.order.tolist()


# --- Rates ---


@given(st.data())
def test_rates_are_what_each_flow_counted_since_the_last_drain(data: st.DataObject) -> None:
    """A flow that stayed has the difference, a new one all it counted, and so has one that was made anew."""
    family = data.draw(st.sampled_from(FAMILIES))
    seconds = data.draw(st.sampled_from([0.5, 5.0, 60.0]))
    before = data.draw(flows_of(family))
    gone = data.draw(st.sets(st.sampled_from(before))) if before else set()
    now, increase = [], []
    for flow in data.draw(st.permutations(before)):
        if flow in gone:
            continue
        packets, octets = data.draw(st.integers(0, 2**40)), data.draw(st.integers(0, 2**50))
        if data.draw(st.booleans()):
            now.append(replace(flow, packets=flow.packets + packets, bytes=flow.bytes + octets))
        else:
            now.append(replace(flow, packets=packets, bytes=octets, first_seen=flow.first_seen + 1))
        increase.append((packets, octets))
    known = set(map(key, before))
    new = [flow for flow in data.draw(flows_of(family)) if key(flow) not in known]
    increase += [(flow.packets, flow.bytes) for flow in new]
    flows, index = indexed(now + new, family)
    table_before, index_before = indexed(before, family)
    set_rates(flows, table_before, index.matches(index_before), seconds)

    assert flows.packet_rate.tolist() == pytest.approx([packets / seconds for packets, _ in increase], rel=1e-6)
    assert flows.byte_rate.tolist() == pytest.approx([octets / seconds for _, octets in increase], rel=1e-6)


@given(st.data(), st.sampled_from([0.5, 1.0, 3.0]))
def test_a_rate_is_of_the_flow_that_stood_in_the_same_place(data: st.DataObject, seconds: float) -> None:
    """In a table that moves no flow, a place and the time of the first packet tell whose the earlier counts are."""
    size = 200_000  # more than one block, and places far from each other
    places = st.lists(st.integers(0, size - 1), max_size=20, unique=True).map(sorted)
    before, now = data.draw(places), data.draw(places)
    flows, table_before = columns([Flow()] * len(now), "ipv4"), columns([Flow()] * len(before), "ipv4")
    table_before.packets[:] = [data.draw(st.integers(1, 1000)) for _ in before]
    flows.packets[:] = [data.draw(st.integers(1000, 2000)) for _ in now]
    flows.first_seen[:] = [JIFFIES + data.draw(st.booleans()) for _ in now]
    table_before.first_seen[:] = JIFFIES
    known = dict(zip(before, table_before.packets.tolist(), strict=True))
    expected = [
        packets - (known.get(place, 0) if first == JIFFIES else 0)
        for place, packets, first in zip(now, flows.packets.tolist(), flows.first_seen.tolist(), strict=True)
    ]
    matches = Places(np.array(now, np.uint32)).matches(Places(np.array(before, np.uint32)))
    set_rates(flows, table_before, matches, seconds)

    assert (flows.packet_rate * seconds).tolist() == pytest.approx(expected, rel=1e-6)


# --- Expiry ---


@pytest.mark.parametrize(
    ("idle_for", "tcp_flags", "is_over"),
    [
        (0, ACK, False),
        (60, ACK, False),
        (60.004, ACK, True),
        (3600, SYN, True),
        (5, FIN, False),
        (5.004, FIN | ACK, True),
        (5.004, RST, True),
        (5.004, SYN | ACK, False),
        (-5, ACK, False),
    ],
)
def test_a_flow_is_over_when_idle_for_longer_than_its_timeout(
    idle_for: float, tcp_flags: int, *, is_over: bool
) -> None:
    """60 s without a packet end a flow, and 5 s one that has shown FIN or RST."""
    flow = Flow(last_seen=JIFFIES - round(idle_for * TICKS_A_SECOND), tcp_flags=tcp_flags)

    table = columns([flow], "ipv4")

    assert over(table.last_seen, table.tcp_flags, CLOCK, idle=60, ended=5).tolist() == [is_over]


def test_a_longer_timeout_for_ended_flows_does_not_keep_them() -> None:
    """FIN makes a flow end earlier, never later."""
    flow = Flow(last_seen=JIFFIES - 61 * TICKS_A_SECOND, tcp_flags=FIN)

    table = columns([flow], "ipv4")

    assert over(table.last_seen, table.tcp_flags, CLOCK, idle=60, ended=600).tolist() == [True]


# --- The largest ---


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
    count=st.one_of(st.none(), st.integers(0, 15)),
    masked=st.booleans(),
)
def test_the_largest_come_first(rows: list[tuple[int, bool]], count: int | None, *, masked: bool) -> None:
    """The count largest values among the chosen rows, largest first; ties in any order, but each row once."""
    column = np.array([value for value, _ in rows], np.uint64)
    among: Mask | None = np.array([chosen for _, chosen in rows], bool) if masked else None
    found = largest(column, count, among).tolist()
    candidates = [row for row, (_, chosen) in enumerate(rows) if chosen or not masked]

    assert [int(column[row]) for row in found] == sorted((int(column[row]) for row in candidates), reverse=True)[:count]
    assert len(set(found)) == len(found)
    assert set(found) <= set(candidates)


def _rows(table: FlowColumns) -> list[tuple[object, ...]]:
    return list(zip(*(column.tolist() for column in table.arrays().values()), strict=True))


def _kept(flows: Sequence[Flow], keep: Mask) -> list[Flow]:
    return [key(flow) for flow, kept in zip(flows, keep, strict=True) if kept]
