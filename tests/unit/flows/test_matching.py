"""Flows are found again by their keys or places, and their rates are what a person would compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FAMILIES, TCP, UDP, Family
from cnf.arrays import Mask
from cnf.flows.columns import FlowColumns
from cnf.flows.matching import ByIdentity, BySlot, identities, set_rates
from tests.unit.samples import JIFFIES, Flow, columns, records

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


def indexed(flows: Sequence[Flow], family: Family) -> tuple[FlowColumns, ByIdentity]:
    """Return columns and their index."""
    table = columns(flows, family)
    return table, ByIdentity(identities(table.keys(np.arange(len(table)))))


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
        assert len(ByIdentity(np.zeros(len(met), np.uint64)).duplicates(table)) == duplicates


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
    set_rates(flows, table_before, index.candidates(index_before), seconds)

    assert flows.packet_rate.tolist() == pytest.approx([packets / seconds for packets, _ in increase], rel=1e-6)
    assert flows.byte_rate.tolist() == pytest.approx([octets / seconds for _, octets in increase], rel=1e-6)


@given(st.data(), st.sampled_from([0.5, 1.0, 3.0]))
def test_a_rate_is_of_the_flow_that_stood_in_the_same_place(data: st.DataObject, seconds: float) -> None:
    """In a table that moves no flow, a place and the time of the first packet tell whose the earlier counts are."""
    size = 200_000  # more than one block, and places far from each other
    places = st.lists(st.integers(0, size - 1), max_size=20, unique=True).map(sorted)
    before = data.draw(places)
    now = data.draw(st.one_of(st.just(before), places))
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
    order, order_before = BySlot(size), BySlot(size)
    split = data.draw(st.integers(0, len(now)))
    for slots in (now[:split], now[split:]):
        order.add(np.array(slots, np.intp))
    order_before.add(np.array(before, np.intp))
    set_rates(flows, table_before, order.candidates(order_before), seconds)

    assert (flows.packet_rate * seconds).tolist() == pytest.approx(expected, rel=1e-6)


def test_a_flow_made_anew_within_a_tick_counts_in_whole() -> None:
    """It has counted less than the flow that it is taken for."""
    before, flows = columns([Flow(packets=9, bytes=900)], "ipv4"), columns([Flow(packets=2, bytes=120)], "ipv4")
    order = BySlot(8)
    order.add(np.array([3]))
    set_rates(flows, before, order.candidates(order), 2.0)

    assert (flows.packet_rate.tolist(), flows.byte_rate.tolist()) == ([1.0], [60.0])


def _kept(flows: Sequence[Flow], keep: Mask) -> list[Flow]:
    return [key(flow) for flow, kept in zip(flows, keep, strict=True) if kept]
