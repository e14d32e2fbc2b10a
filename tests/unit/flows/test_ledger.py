"""Every packet stands in exactly one state of the ledger, and what went astray is not explained away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FLOW_EGRESS, FLOW_FRAGMENT
from cnf.counts import Count, total
from cnf.flows.ledger import InTables, Ledger, by_direction, draw_up, plus
from tests.unit.samples import interface_counters

NOTHING = Count()


def test_every_packet_stands_in_one_state() -> None:
    """Flows, non-IP and malformed packets and insert errors, over all interfaces, make up what was received."""
    eth0 = interface_counters({"tcp": 10, "udp": 5, "non_ip": 2}, {"tcp": 1000, "udp": 500, "non_ip": 84})
    eth1 = interface_counters({"other": 1, "non_ip": 1, "malformed": 4}, {"other": 60, "non_ip": 42, "malformed": 80})
    ledger = draw_up(
        "ingress",
        [eth0, eth1],
        InTables(live=Count(11, 1100), expired=Count(3, 300), insert_error=Count(2, 160), evicted=Count()),
    )

    assert ledger.seen == Count(23, 1766)
    assert ledger.states == {
        "live": Count(11, 1100),
        "expired": Count(3, 300),
        "evicted": NOTHING,
        "non_ip": Count(3, 126),
        "malformed": Count(4, 80),
        "dropped": NOTHING,
        "insert_error": Count(2, 160),
    }
    assert ledger.difference == NOTHING


def test_the_states_are_those_of_the_contract() -> None:
    """Every state is there even with nothing in it, in the order in which they are shown."""
    states = draw_up("ingress", [], InTables(NOTHING, NOTHING, NOTHING, evicted=None)).states
    assert tuple(states) == ("live", "expired", "evicted", "non_ip", "malformed", "dropped", "insert_error")


def test_what_interfaces_had_received_that_nobody_knows_of() -> None:
    """Where their sums were lost, all that stands somewhere was received; more than that is as it is."""
    states = {"live": Count(60, 5000), "expired": Count(10, 1000)}
    assert Ledger(Count(50, 7000), states).completed() == Ledger(Count(70, 7000), states)
    assert Ledger(Count(71, 7000), states).completed().difference == Count(1, 1000)


def test_what_was_evicted_is_the_rest_once_flows_have_been_evicted() -> None:
    """Packets of evicted flows are those that reached the tables and stand nowhere else."""
    received = interface_counters({"tcp": 100}, {"tcp": 9000})
    ledger = draw_up(
        "ingress",
        [received],
        InTables(live=Count(60, 5000), expired=Count(10, 1000), insert_error=NOTHING, evicted=None),
    )

    assert ledger.states["evicted"] == Count(30, 3000)
    assert ledger.difference == NOTHING


def test_what_a_cache_says_was_evicted_is_not_worked_out() -> None:
    """Where the program has counted what was evicted, a packet that went astray shows beside it."""
    received = interface_counters({"tcp": 100}, {"tcp": 9000})
    ledger = draw_up(
        "ingress",
        [received],
        InTables(live=Count(60, 5000), expired=NOTHING, insert_error=NOTHING, evicted=Count(39, 3900)),
    )

    assert ledger.states["evicted"] == Count(39, 3900)
    assert ledger.difference == Count(1, 100)


def test_a_packet_that_went_astray_shows_while_no_flow_was_evicted() -> None:
    """Without evictions, a packet that stands nowhere is a difference."""
    received = interface_counters({"tcp": 100}, {"tcp": 9000})
    ledger = draw_up(
        "ingress", [received], InTables(live=Count(99, 8900), expired=NOTHING, insert_error=NOTHING, evicted=Count())
    )

    assert ledger.states["evicted"] == NOTHING
    assert ledger.difference == Count(1, 100)


@pytest.mark.parametrize("evicted", [NOTHING, None])
def test_what_came_during_the_drain_makes_the_difference_negative(evicted: Count | None) -> None:
    """Flows are read after the counters: what they have more is a difference below 0, not a negative eviction."""
    received = interface_counters({"tcp": 10}, {"tcp": 900})
    ledger = draw_up(
        "ingress", [received], InTables(live=Count(12, 1000), expired=NOTHING, insert_error=NOTHING, evicted=evicted)
    )

    assert ledger.states["evicted"] == NOTHING
    assert ledger.difference == Count(-2, -100)


def test_sums_beyond_32_bits_and_53_bits_are_exact() -> None:
    """Counters are added as 64-bit integers, never as floating point."""
    received = [interface_counters({"tcp": 2**53, "udp": 1}, {"tcp": 2**62, "udp": 1}) for _ in range(2)]

    assert draw_up("ingress", received, InTables(NOTHING, NOTHING, NOTHING, evicted=Count())).seen == Count(
        2**54 + 2, 2**63 + 2
    )


def test_each_direction_has_its_own_ledger() -> None:
    """What was sent is told from what was received, in the counters and in the flows; only what comes in is dropped."""
    counters = interface_counters({"tcp": 10, "non_ip": 2}, {"tcp": 1000, "non_ip": 84})
    counters["dropped_packets"][0] = 3
    counters["sent_packets"][[0, -2, -1]], counters["sent_bytes"][[0, -2, -1]] = (7, 4, 1), (700, 240, 20)
    flows = InTables(live=Count(7, 700), expired=NOTHING, insert_error=NOTHING, evicted=NOTHING)

    sent = draw_up("egress", [counters, counters], flows)

    assert sent.seen == Count(24, 1920)
    assert {state: count for state, count in sent.states.items() if count != NOTHING} == {
        "live": Count(7, 700),
        "non_ip": Count(8, 480),
        "malformed": Count(2, 40),
    }
    assert draw_up("ingress", [counters], flows).seen == Count(12, 1084)


def test_flows_are_told_apart_by_their_direction() -> None:
    """Their sums are by the flag in the key, whatever else is in it, and add up direction by direction."""
    flags = np.array([0, FLOW_EGRESS, FLOW_FRAGMENT, FLOW_EGRESS | FLOW_FRAGMENT], np.uint8)
    counts = by_direction(flags, np.array([1, 2, 4, 8], np.uint64), np.array([10, 20, 40, 2**63], np.uint64))

    assert counts == {"ingress": Count(5, 50), "egress": Count(10, 2**63 + 20)}
    assert plus(counts, counts) == {"ingress": Count(10, 100), "egress": Count(20, 2**64 + 40)}


@given(st.lists(st.builds(Count, st.integers(0, 2**64), st.integers(0, 2**64))))
def test_counts_add_up_field_by_field(counts: list[Count]) -> None:
    """A total has the sum of packets and the sum of bytes."""
    assert total(counts) == (sum(count.packets for count in counts), sum(count.bytes for count in counts))
    assert total(counts).minus(total(counts)) == NOTHING
