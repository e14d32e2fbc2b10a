"""The largest flows' series behave as Prometheus counters, and nothing is counted twice or missed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import DIRECTIONS, FAMILIES, ICMP, PROTOCOL_LABELS, protocol_label
from cnf.counts import Count
from cnf.flows.top import PROVEN, FlowLabels, FlowSeries
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

    def prove(self, count: int, *received: tuple[Flow, int, int]) -> dict[FlowLabels, Count]:
        """Count these packets before each of as many drains as give a flow its series; return the last one's series."""
        for _ in range(PROVEN):
            for flow, packets, octets in received:
                self.receive(flow, packets, octets)
            series = self.drain(count)
        return series

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


def test_a_flow_that_keeps_growing_gets_a_series() -> None:
    """The series begins at 0 in the drain that proves the flow, and shows what the flow counts from then on."""
    node = Node()
    for drains in range(1, PROVEN):
        node.receive(A, 3, 300)
        assert node.drain(10) == {REST: Count(3 * drains, 300 * drains)}
    rest = {REST: Count(3 * PROVEN, 300 * PROVEN)}
    node.receive(A, 3, 300)
    assert node.drain(10) == rest | {labels(A): Count()}
    node.receive(A, 2, 200)

    assert node.drain(10) == rest | {labels(A): Count(2, 200)}


def test_a_flow_may_pause_before_it_has_a_series_and_after() -> None:
    """Drains in which a flow stays among the largest without a packet neither prove it nor end its series."""
    node = Node()
    for _ in range(PROVEN):
        node.drain(10)
        node.receive(A, 3, 300)
    assert node.drain(10)[labels(A)] == Count()

    assert node.drain(10)[labels(A)] == Count()


def test_a_flow_that_was_not_among_the_largest_for_a_drain_begins_anew() -> None:
    """A flow has to prove itself from when it came among the largest for the last time."""
    node = Node()
    for _ in range(PROVEN - 1):
        node.receive(A, 3, 300)
        node.drain(10)
    node.receive(A, 3, 300)
    node.drain(0)
    node.receive(A, 3, 300)

    assert labels(A) not in node.drain(10)


@pytest.mark.parametrize("octets", [(60, 60), (60, 1500)], ids=["of one size", "of many sizes"])
def test_a_flood_of_flows_with_a_packet_each_makes_no_series(octets: tuple[int, int]) -> None:
    """However many come, however large they are and however long they stay: only who goes on sending has a series."""
    node = Node()
    smallest, largest = octets
    shown = set[FlowLabels]()
    for drain in range(10):
        for number in range(60):
            flood = Flow(src=f"10.0.{drain}.{number}", src_port=number)
            node.receive(flood, 1, smallest + (largest - smallest) * number // 59)
        node.receive(A, 9, 2000)
        shown |= node.drain(50).keys()

    assert shown == {labels(A), REST}


def test_the_rest_holds_what_has_no_series() -> None:
    """Flows that are not among the largest stand in the sum of the rest."""
    node = Node()
    node.prove(1, (A, 3, 300), (B, 9, 200))
    node.receive(A, 3, 300)
    node.receive(B, 9, 200)

    assert node.drain(1) == {labels(A): Count(3, 300), REST: Count(12 * PROVEN + 9, 500 * PROVEN + 200)}


@pytest.mark.parametrize("largest", [A, Flow(src="2001:db8::1", dst="2001:db8::2")], ids=FAMILIES)
def test_the_largest_are_those_of_both_families(largest: Flow) -> None:
    """A flow of one family has a series before a smaller one of the other."""
    both = (A, Flow(src="2001:db8::1", dst="2001:db8::2"))

    series = Node().prove(1, *((flow, 1, 900 if flow == largest else 100) for flow in both))

    assert series == {labels(largest): Count(), REST: Count(2 * PROVEN, 1000 * PROVEN)}


def test_directions_have_series_of_their_own() -> None:
    """A flow and its mirror image on a loopback interface differ in the label, and the rest does so, too."""
    node = Node()
    sent, sent_rest = replace(A, sent=True), REST._replace(direction="egress")
    node.prove(1, (A, 3, 300), (sent, 3, 900))
    node.receive(A, 3, 300)
    node.receive(sent, 3, 900)

    assert node.drain(1) == {
        labels(sent): Count(3, 900),
        REST: Count(3 * PROVEN + 3, 300 * PROVEN + 300),
        sent_rest: Count(3 * PROVEN, 900 * PROVEN),
    }


def test_what_is_no_flow_is_in_no_rest() -> None:
    """Packets that are not IP, or malformed, have no series, not even with the others."""
    counters = interface_counters({"non_ip": 5, "malformed": 3}, {"non_ip": 500, "malformed": 300})
    series = FlowSeries()
    series.update(snapshot(received={"eth0": counters}), 10)
    assert series.values == {}


def test_no_more_is_remembered_than_there_are_interfaces() -> None:
    """However many interfaces come and go, each with a flow, what is known of them goes with their counters."""
    series = FlowSeries()
    for number, packets in product(range(100), range(1, PROVEN + 2)):
        counters = interface_counters({"tcp": packets}, {"tcp": 100 * packets})
        flow = Flow(packets=packets, bytes=100 * packets, first_seen=JIFFIES + number)
        drained = snapshot(flow, received={f"eth{number}": counters})
        series.update(replace(drained, names={1: f"eth{number}"}), 10)
    assert len(series.hand_over()["credited"]) == 1


def test_no_flow_has_a_series_if_none_is_asked_for() -> None:
    """With a count of 0 the rest is all there is."""
    node = Node()
    node.receive(A, 3, 300)

    assert node.drain(0) == {REST: Count(3, 300)}


def test_a_late_entrant_counts_from_when_it_got_its_series() -> None:
    """What a flow counted before it was among the largest stays in the rest, as what it counted until it was proven."""
    node = Node()
    node.receive(A, 3, 300)
    node.receive(B, 1, 100)
    node.drain(1)
    node.prove(1, (B, 4, 900))
    node.receive(B, 2, 70)

    assert node.drain(1) == {labels(B): Count(2, 70), REST: Count(4 + 4 * PROVEN, 400 + 900 * PROVEN)}


@pytest.mark.parametrize("again", [Count(2, 200), Count(3, 300), Count(5, 100), Count(9, 900)])
def test_a_flow_that_ended_and_was_made_anew_goes_on_in_its_series(again: Count) -> None:
    """A series grows by all that a flow has counted since it was made anew, be it less or more than before."""
    node = Node()
    rest = node.prove(10, (A, 1, 100))[REST]
    node.receive(A, 3, 300)
    node.drain(10)
    node.end(A)
    node.receive(A, *again)

    assert node.drain(10) == {labels(A): Count(3, 300).plus(again), REST: rest}


def test_flows_that_differ_in_no_label_share_a_series() -> None:
    """Flows that differ only in what labels do not show are added up in one series."""
    node = Node()
    tagged = replace(A, vlan=5)
    rest = node.prove(10, (A, 1, 100), (tagged, 1, 100))[REST]
    node.receive(A, 3, 300)
    node.receive(tagged, 2, 200)

    assert node.drain(10) == {labels(A): Count(5, 500), REST: rest}


def test_one_of_two_flows_of_a_series_ends() -> None:
    """A shared series stands still when one of its flows ends, and grows by what the other counts."""
    node = Node()
    tagged = replace(A, vlan=5)
    rest = node.prove(10, (A, 1, 100), (tagged, 1, 100))[REST]
    node.receive(A, 3, 300)
    node.receive(tagged, 2, 200)
    node.drain(10)
    node.end(tagged)
    node.receive(A, 4, 40)

    assert node.drain(10) == {labels(A): Count(9, 540), REST: rest}


def test_a_flow_joins_the_series_of_another_late() -> None:
    """What a flow counted before it joined a shared series stays in the rest."""
    node = Node()
    tagged = replace(A, vlan=5)
    node.prove(1, (A, 1, 100), (tagged, 1, 10))
    node.receive(A, 3, 300)
    node.receive(tagged, 2, 20)
    rest = node.drain(1)[REST]
    node.receive(tagged, 1, 10)
    assert node.drain(2) == {labels(A): Count(3, 300), REST: rest.plus(Count(1, 10))}
    node.receive(tagged, 1, 10)

    assert node.drain(2) == {labels(A): Count(4, 310), REST: rest.plus(Count(1, 10))}


def test_a_flow_of_an_unknown_interface_has_a_series() -> None:
    """It stands under the name that its packets are counted under."""
    assert [series.interface for series in Node().prove(10, (replace(A, ifindex=77), 3, 300))] == ["unassigned"]


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
Event = Callable[[Node], None]


def received(flow: Flow, packets: int, octets: int) -> Event:
    """Return an event: packets of a flow."""
    return lambda node: node.receive(flow, packets, octets)


def ended(flow: Flow) -> Event:
    """Return an event: the end of a flow."""
    return lambda node: node.end(flow)


def all_went_on(node: Node) -> None:
    """Count a packet of each flow that is there."""
    for flow in [*node.flows]:
        node.receive(flow, 1, 100)


events = st.lists(
    st.one_of(
        st.just(all_went_on),
        st.builds(received, st.sampled_from(UNIVERSE), st.integers(1, 50), st.integers(1, 5000)),
        st.builds(ended, st.sampled_from(UNIVERSE)),
    ),
    max_size=8,
)
drains = st.lists(st.tuples(events, st.integers(0, 4)), min_size=1, max_size=12)


@given(drains)
def test_the_next_daemon_goes_on_with_the_series(
    drains: list[tuple[list[Event], int]],
) -> None:
    """What was written down after a drain, as JSON, is all that the series of every later drain depend on."""
    lasting, restarted = Node(), Node()
    for happened, count in drains:
        for node in (lasting, restarted):
            for event in happened:
                event(node)
        assert restarted.drain(count) == lasting.drain(count)
        document = json.loads(json.dumps(restarted.series.hand_over()))
        restarted.series = FlowSeries()
        restarted.series.take_over(document)
        assert restarted.series.values == lasting.series.values


def test_nothing_written_down_is_a_new_start() -> None:
    """Where the daemon before had no drain, the series begin as ever."""
    node = Node()
    node.series.take_over({})

    assert node.prove(10, (A, 3, 300)) == {labels(A): Count(), REST: Count(3 * PROVEN, 300 * PROVEN)}


@given(drains)
def test_series_never_go_down_and_their_increases_are_what_was_counted(
    drains: list[tuple[list[Event], int]],
) -> None:
    """Whatever flows come, end and come back: no series falls, and all increases add up to the counters."""
    node = Node()
    before: dict[FlowLabels, Count] = {}
    packets: Counter[tuple[str, str, str]] = Counter()
    octets: Counter[tuple[str, str, str]] = Counter()
    for happened, count in drains:
        for event in happened:
            event(node)
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
    series = FlowSeries()
    rest = []
    for received, late in ((11, 1), (12, 2), (13, 3), (13, 8), (18, 8), (23, 8)):
        flows = Flow(packets=10, bytes=100), Flow(src_port=1, packets=late, bytes=1000 * late)
        counters = interface_counters({"tcp": received}, {"tcp": 100 + 1000 * (received - 10)})
        series.update(snapshot(*flows, received={"eth0": counters}), 1)
        rest.append(series.values[REST].packets)
    assert series.values[labels(flows[1])] == Count(5, 5000)
    assert rest == [11, 12, 13, 13, 13, 18]
