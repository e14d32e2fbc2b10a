"""The largest flows' series behave as Prometheus counters, and nothing is counted twice or missed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import DIRECTIONS, FAMILIES, ICMP, PROTOCOL_LABELS, protocol_label
from cnf.counts import Count
from cnf.flows.top import FlowLabels, FlowSeries
from tests.unit.samples import CLOCK, JIFFIES, NAMES, NOW, Flow, interface_counters, snapshot

DRAIN_TICKS = 1000
REST = FlowLabels("eth0", "tcp", "other", "other", "", "", "ingress")
A = Flow(src="192.0.2.1")
B = Flow(src="192.0.2.2")


def labels(flow: Flow) -> FlowLabels:
    """Return the labels of a TCP flow."""
    ports = str(flow.src_port), str(flow.dst_port)
    return FlowLabels("eth0", "tcp", flow.src, flow.dst, *ports, "egress" if flow.sent else "ingress")


@dataclass
class Node:
    """What a node has received, and the flows in its table; ``drain`` shows both to a FlowSeries."""

    series: FlowSeries = field(default_factory=FlowSeries)
    flows: dict[Flow, Flow] = field(default_factory=dict)
    packets: Counter[tuple[int, str, bool]] = field(default_factory=Counter)
    octets: Counter[tuple[int, str, bool]] = field(default_factory=Counter)
    jiffies: int = DRAIN_TICKS

    def receive(self, flow: Flow, packets: int, octets: int) -> None:
        """Count packets of ``flow``, made now if it is not there."""
        now = self.jiffies - 1
        known = self.flows.get(flow) or replace(flow, packets=0, bytes=0, first_seen=now)
        self.flows[flow] = replace(known, packets=known.packets + packets, bytes=known.bytes + octets, last_seen=now)
        where = flow.ifindex, protocol_label(flow.family, flow.protocol), flow.sent
        self.packets[where] += packets
        self.octets[where] += octets

    def end(self, flow: Flow) -> None:
        """Let ``flow`` expire, or be evicted."""
        self.flows.pop(flow, None)

    def drain(self, count: int) -> dict[FlowLabels, Count]:
        """Return the series after a drain that gives the ``count`` largest flows series of their own."""
        clock = replace(CLOCK, now=replace(NOW, jiffies=self.jiffies))
        received = {
            name: interface_counters(
                *(
                    {label: counts[index, label, sent] for label in PROTOCOL_LABELS}
                    for sent in (False, True)
                    for counts in (self.packets, self.octets)
                )
            )
            for index, name in NAMES.items()
        }
        self.series.update(snapshot(*self.flows.values(), received=received, clock=clock), count)
        self.jiffies += DRAIN_TICKS
        return self.series.values


def test_a_flow_among_the_largest_from_its_start_has_all_it_counted() -> None:
    """The series of a flow that came since the last drain shows all that the flow has counted."""
    node = Node()
    node.receive(A, 3, 300)

    assert node.drain(10) == {labels(A): Count(3, 300), REST: Count()}


def test_the_rest_holds_what_has_no_series() -> None:
    """Flows that are not among the largest stand in the sum of the rest."""
    node = Node()
    node.receive(A, 3, 300)
    node.receive(B, 9, 200)

    assert node.drain(1) == {labels(A): Count(3, 300), REST: Count(9, 200)}


@pytest.mark.parametrize("largest", [A, Flow(src="2001:db8::1", dst="2001:db8::2")], ids=FAMILIES)
def test_the_largest_are_those_of_both_families(largest: Flow) -> None:
    """A flow of one family has a series before a smaller one of the other."""
    node = Node()
    for flow in (A, Flow(src="2001:db8::1", dst="2001:db8::2")):
        node.receive(flow, 1, 900 if flow == largest else 100)

    assert node.drain(1) == {labels(largest): Count(1, 900), REST: Count(1, 100)}


def test_directions_have_series_of_their_own() -> None:
    """A flow and its mirror image on a loopback interface differ in the label, and the rest does so, too."""
    node = Node()
    for sent, octets in ((False, 300), (True, 900)):
        node.receive(replace(A, sent=sent), 3, octets)

    sent_rest = REST._replace(direction="egress")
    assert node.drain(1) == {
        labels(replace(A, sent=True)): Count(3, 900), REST: Count(3, 300), sent_rest: Count()
    }  # fmt: skip


def test_what_is_no_flow_is_in_no_rest() -> None:
    """Packets that are not IP, or malformed, have no series, not even with the others."""
    counters = interface_counters({"non_ip": 5, "malformed": 3}, {"non_ip": 500, "malformed": 300})
    series = FlowSeries()
    series.update(snapshot(received={"eth0": counters}), 10)
    assert series.values == {}


def test_no_more_is_remembered_than_there_are_interfaces() -> None:
    """However many interfaces come and go, each with a flow, what is known of them goes with their counters."""
    series = FlowSeries()
    for number in range(100):
        counters = interface_counters({"tcp": 1}, {"tcp": 100})
        drained = snapshot(Flow(packets=1, bytes=100, first_seen=JIFFIES + number), received={f"eth{number}": counters})
        series.update(replace(drained, names={1: f"eth{number}"}), 10)
    assert len(series.hand_over()["credited"]) == 1


def test_no_flow_has_a_series_if_none_is_asked_for() -> None:
    """With a count of 0 the rest is all there is."""
    node = Node()
    node.receive(A, 3, 300)

    assert node.drain(0) == {REST: Count(3, 300)}


def test_a_late_entrant_counts_from_when_it_came_among_the_largest() -> None:
    """What a flow counted before it was among the largest stays in the rest, and its series starts at 0."""
    node = Node()
    node.receive(A, 3, 300)
    node.receive(B, 1, 100)
    node.drain(1)
    node.receive(B, 4, 900)
    node.drain(1)
    node.receive(B, 1, 50)

    assert node.drain(1) == {labels(B): Count(1, 50), REST: Count(5, 1000)}


@pytest.mark.parametrize("again", [Count(2, 200), Count(3, 300), Count(5, 100), Count(9, 900)])
def test_a_flow_that_ended_and_was_made_anew_goes_on_in_its_series(again: Count) -> None:
    """A series grows by all that a flow has counted since it was made anew, be it less or more than before."""
    node = Node()
    node.receive(A, 3, 300)
    node.drain(10)
    node.end(A)
    node.receive(A, *again)

    assert node.drain(10) == {labels(A): Count(3, 300).plus(again), REST: Count()}


def test_flows_that_differ_in_no_label_share_a_series() -> None:
    """Flows that differ only in what labels do not show are added up in one series."""
    node = Node()
    node.receive(A, 3, 300)
    node.receive(replace(A, vlan=5), 2, 200)

    assert node.drain(10) == {labels(A): Count(5, 500), REST: Count()}


def test_one_of_two_flows_of_a_series_ends() -> None:
    """A shared series stands still when one of its flows ends, and grows by what the other counts."""
    node = Node()
    tagged = replace(A, vlan=5)
    node.receive(A, 3, 300)
    node.receive(tagged, 2, 200)
    node.drain(10)
    node.end(tagged)
    node.receive(A, 4, 40)

    assert node.drain(10) == {labels(A): Count(9, 540), REST: Count()}


def test_a_flow_joins_the_series_of_another_late() -> None:
    """What a flow counted before it joined a shared series stays in the rest."""
    node = Node()
    tagged = replace(A, vlan=5)
    node.receive(A, 3, 300)
    node.receive(tagged, 2, 200)
    node.drain(1)
    node.receive(tagged, 1, 10)

    assert node.drain(2) == {labels(A): Count(3, 300), REST: Count(3, 210)}


def test_a_flow_of_an_unknown_interface_has_a_series() -> None:
    """It stands under the name that its packets are counted under."""
    node = Node()
    node.receive(replace(A, ifindex=77), 3, 300)

    assert [series.interface for series in node.drain(10)] == ["unassigned"]


UNIVERSE = (
    A,
    replace(A, vlan=5),
    B,
    replace(B, src_port=1),
    replace(A, ifindex=2),
    replace(A, sent=True),
    replace(A, src=A.dst, dst=A.src, sent=True),
    Flow(protocol=ICMP, src_port=8, dst_port=0),
    Flow(protocol=ICMP, src_port=0, dst_port=0),
    Flow(src="2001:db8::1", dst="2001:db8::2"),
)
events = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(UNIVERSE), st.integers(1, 50), st.integers(1, 5000)),
        st.sampled_from(UNIVERSE),  # ends
    ),
    max_size=8,
)
drains = st.lists(st.tuples(events, st.integers(0, 4)), min_size=1, max_size=8)


@given(drains)
def test_the_next_daemon_goes_on_with_the_series(
    drains: list[tuple[list[tuple[Flow, int, int] | Flow], int]],
) -> None:
    """What was written down after a drain, as JSON, is all that the series of every later drain depend on."""
    lasting, restarted = Node(), Node()
    for happened, count in drains:
        for node in (lasting, restarted):
            for event in happened:
                if isinstance(event, Flow):
                    node.end(event)
                else:
                    node.receive(*event)
        assert restarted.drain(count) == lasting.drain(count)
        document = json.loads(json.dumps(restarted.series.hand_over()))
        restarted.series = FlowSeries()
        restarted.series.take_over(document)
        assert restarted.series.values == lasting.series.values


def test_nothing_written_down_is_a_new_start() -> None:
    """Where the daemon before had no drain, the series begin as ever."""
    node = Node()
    node.series.take_over({})
    node.receive(A, 3, 300)

    assert node.drain(10) == {labels(A): Count(3, 300), REST: Count()}


@given(drains)
def test_series_never_go_down_and_their_increases_are_what_was_counted(
    drains: list[tuple[list[tuple[Flow, int, int] | Flow], int]],
) -> None:
    """Whatever flows come, end and come back: no series falls, and all increases add up to the counters."""
    node = Node()
    before: dict[FlowLabels, Count] = {}
    packets: Counter[tuple[str, str, str]] = Counter()
    octets: Counter[tuple[str, str, str]] = Counter()
    for happened, count in drains:
        for event in happened:
            if isinstance(event, Flow):
                node.end(event)
            else:
                node.receive(*event)
        values = node.drain(count)
        for series, value in values.items():
            increase = value.minus(before.get(series, Count()))
            assert increase.packets >= 0
            assert increase.bytes >= 0
            packets[series.interface, series.protocol, series.direction] += increase.packets
            octets[series.interface, series.protocol, series.direction] += increase.bytes
        for increases, counts in ((packets, node.packets), (octets, node.octets)):
            assert +increases == Counter(
                {(NAMES[index], label, DIRECTIONS[sent]): n for (index, label, sent), n in counts.items()}
            )
        before = values


def test_the_rest_never_goes_down_when_flows_are_read_late() -> None:
    """Packets that come after the counters were read, and before the flows, make the rest stand still, not fall."""
    early, late = Flow(packets=10, bytes=1000), Flow(src_port=1, packets=5, bytes=500, first_seen=JIFFIES + 1)
    series = FlowSeries()
    rest = []
    for flows, received in (([early], 10), ([early, late], 10), ([early, late], 15), ([early, late], 20)):
        counters = interface_counters({"tcp": received}, {"tcp": 100 * received})
        series.update(snapshot(*flows, received={"eth0": counters}), 2 if len(flows) > 1 else 0)
        rest.append(series.values[REST])
    assert rest == [Count(10, 1000), Count(10, 1000), Count(10, 1000), Count(15, 1500)]
