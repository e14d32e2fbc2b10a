"""Both directions of a connection make one row, the initiator first, and no flow is lost or counted twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.abi import FLOW_OPENED, ICMP, ICMPV6, TCP, UDP
from cnf.counts import Count
from cnf.errors import UsageError
from cnf.flows.fields import PAIR_FIELDS
from cnf.flows.query import select
from cnf.flows.snapshot import Part
from tests.unit.samples import JIFFIES, Flow, columns, snapshot

SYN: Final = 0x02
SYN_ACK: Final = 0x12
RST_ACK: Final = 0x14
V4: Final = Flow(packets=3, bytes=300)
V6: Final = Flow(src="2001:db8::1", dst="2001:db8::2", packets=3, bytes=300)
ANSWERS: Final = {(ICMP, 8): 0, (ICMP, 13): 14, (ICMP, 15): 16, (ICMP, 17): 18, (ICMPV6, 128): 129, (ICMPV6, 139): 140}
REQUESTS: Final = {(protocol, answer): request for (protocol, request), answer in ANSWERS.items()}


def back(flow: Flow, **rest: Any) -> Flow:  # noqa: ANN401 - the fields of a flow
    """Return the flow of the other direction, on the same interface."""
    ends: dict[str, Any] = {"src": flow.dst, "src_port": flow.dst_port, "dst": flow.src, "dst_port": flow.src_port}
    if flow.protocol in (ICMP, ICMPV6) and not flow.fragment:
        about = flow.protocol, flow.src_port
        ends |= {"src_port": ANSWERS.get(about, REQUESTS.get(about, flow.src_port)), "dst_port": flow.dst_port}
    return replace(flow, **(ends | {"sent": not flow.sent} | rest))


def rows(*flows: Flow, expression: str = "", sort: str = "bytes") -> list[dict[str, Any]]:
    """Return the connections as a client sees them."""
    return list(select(snapshot(*flows), expression, sort, None, pairs=True).flows())


def paired(*flows: Flow) -> bool:
    """Tell whether both flows make one row."""
    return len(rows(*flows)) == 1


@pytest.mark.parametrize("request_sent", [False, True])
@pytest.mark.parametrize("flow", [V4, V6, replace(V4, protocol=UDP), replace(V4, protocol=47, src_port=0, dst_port=0)])
def test_both_directions_are_one_row(flow: Flow, *, request_sent: bool) -> None:
    """The row is about the flow that came first, and has what each direction counted, and both together."""
    request = replace(flow, sent=request_sent, first_seen=JIFFIES - 9, tcp_flags=0x18, dropped_packets=1)
    answer = back(request, packets=5, bytes=7000, first_seen=JIFFIES - 8, tcp_flags=0x11, dropped_packets=0)

    (row,) = rows(answer, request)
    (alone,) = (each for each in select(snapshot(request), "", "bytes", None).flows())

    assert tuple(row) == tuple(PAIR_FIELDS)
    assert row == {
        **alone,
        "packets": 8,
        "bytes": 7300,
        "tcp_flags": "APF",
        "forward_packets": 3,
        "forward_bytes": 300,
        "forward_bits_per_second": 0.0,
        "forward_tcp_flags": "AP",
        "reverse_packets": 5,
        "reverse_bytes": 7000,
        "reverse_bits_per_second": 0.0,
        "reverse_tcp_flags": "AF",
    }


def test_times_are_the_first_and_the_last_of_both() -> None:
    """A connection began with its first packet in either direction, and was seen last with its last."""
    late = replace(V4, first_seen=JIFFIES - 5, last_seen=JIFFIES - 5, tcp_flags=SYN | FLOW_OPENED)
    early = back(late, first_seen=JIFFIES - 9, last_seen=JIFFIES - 1, tcp_flags=SYN_ACK)

    (row,) = rows(late, early)
    (first,) = rows(replace(late, first_seen=JIFFIES - 9, last_seen=JIFFIES - 1))

    assert row["src_addr"] == late.src
    assert (row["first_seen"], row["last_seen"]) == (first["first_seen"], first["last_seen"])


@pytest.mark.parametrize(
    ("flags", "answered"),
    [
        pytest.param(SYN_ACK | FLOW_OPENED, SYN_ACK, id="a whole handshake"),
        pytest.param(SYN, RST_ACK, id="refused"),
        pytest.param(SYN | FLOW_OPENED, 0, id="only a SYN, and no flags"),
    ],
)
@pytest.mark.parametrize("sent", [False, True])
def test_who_sent_the_syn_is_the_initiator(flags: int, answered: int, *, sent: bool) -> None:
    """Whatever the ports are, and though both flows began within a tick, or the answer's seemed to be first."""
    for late in (0, 1):
        flow = replace(V4, src_port=22, dst_port=50000, tcp_flags=flags, sent=sent)
        (row,) = rows(back(flow, tcp_flags=answered, first_seen=JIFFIES - late), flow)
        assert (row["src_addr"], row["direction"]) == (flow.src, "egress" if sent else "ingress")


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_else_the_first_is_the_initiator(protocol: int) -> None:
    """Where no flags tell, the earlier flow; of two that began within a tick, the one received."""
    flow = replace(V4, protocol=protocol, tcp_flags=0x12 if protocol == TCP else 0)
    for sent in (False, True):
        (row,) = rows(back(flow, sent=sent, first_seen=JIFFIES - 1), replace(flow, sent=not sent))
        assert row["src_addr"] == flow.dst
    (row,) = rows(replace(flow, sent=True), back(flow, sent=False))
    assert (row["src_addr"], row["direction"]) == (flow.dst, "ingress")


@pytest.mark.parametrize(("about", "answer"), ANSWERS.items())
@pytest.mark.parametrize("sent", [False, True])
def test_icmp_questions_and_answers(about: tuple[int, int], answer: int, *, sent: bool) -> None:
    """A request and its answer are a pair, the request first; the same in both directions at once are two."""
    protocol, request = about
    base = V4 if protocol == ICMP else V6
    flow = replace(base, protocol=protocol, src_port=request, dst_port=0, sent=sent)
    both = rows(back(flow, first_seen=JIFFIES - 9), flow)
    assert [(row["src_addr"], row["icmp_type"], row["icmp_code"]) for row in both] == [(flow.src, request, 0)]
    assert back(flow).src_port == answer

    other = replace(flow, src=flow.dst, dst=flow.src, sent=not sent)
    assert {row["src_addr"] for row in rows(flow, back(flow), other, back(other))} == {flow.src, flow.dst}


@pytest.mark.parametrize(
    "other",
    [
        *({"ifindex": 2}, {"vlan": 5}, {"protocol": UDP}, {"src_port": 444}, {"dst": "192.0.2.9"}),
        *({"fragment": True}, {"sent": False}),
    ],
    ids=str,
)
def test_no_pair(other: dict[str, Any]) -> None:
    """What differs in anything else is no pair, and neither are two flows of one direction."""
    assert paired(V4, back(V4))
    assert not paired(V4, back(V4, **other))


@pytest.mark.parametrize("kind", [3, 11, 5])
def test_icmp_messages_that_nobody_answers_are_no_pair(kind: int) -> None:
    """Errors of both directions have nothing to do with each other."""
    flow = replace(V4, protocol=ICMP, src_port=kind, dst_port=1)
    assert not paired(flow, back(flow))


def test_fragments_are_a_pair() -> None:
    """Later fragments, which have no ports, are paired by their addresses."""
    flow = replace(V4, protocol=UDP, src_port=0, dst_port=0, fragment=True)
    assert paired(flow, back(flow))
    icmp = replace(flow, protocol=ICMP)
    assert paired(icmp, back(icmp))


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        replace(V4, tcp_flags=SYN_ACK),
        replace(V6, tcp_flags=SYN_ACK),
        replace(V4, protocol=ICMP, src_port=0, dst_port=7),
    ],
)
def test_an_answer_alone_is_shown_as_one(answer: Flow, *, sent: bool) -> None:
    """Of a connection that shows its answers only, the row is about the initiator, who has sent nothing here."""
    answer = replace(answer, sent=sent)
    (row,) = rows(answer)
    (request,) = (each for each in select(snapshot(back(answer)), "", "bytes", None).flows())

    ends = ("interface", "direction", "src_addr", "src_port", "dst_addr", "dst_port", "icmp_type", "icmp_code")
    assert [row[end] for end in ends] == [request[end] for end in ends]
    assert [row[f"{way}_packets"] for way in ("forward", "reverse")] == [0, 3]


def test_a_flow_alone_has_an_empty_side() -> None:
    """Of what does not tell, the flow itself is the first side."""
    (row,) = rows(replace(V4, protocol=UDP, sent=True))
    assert (row["src_addr"], row["direction"]) == (V4.src, "egress")
    assert [row[f"{way}_bytes"] for way in ("forward", "reverse")] == [300, 0]


def test_evicted_flows_are_in_no_pair() -> None:
    """One of a connection's flows may have been evicted more than once: each is a row of its own."""
    drained = replace(snapshot(back(V4)), finished=(Part(columns([V4, back(V4)], "ipv4"), "evicted"),))
    found = list(select(drained, "", "bytes", None, pairs=True).flows())
    assert sorted(str(row["ended"]) for row in found) == ["None", "evicted", "evicted"]


@pytest.mark.parametrize(
    ("expression", "matched"),
    [("inbound", 2), ("outbound", 1), ("src host 192.0.2.1", 1), ("dst host 192.0.2.1", 1), ("port 53", 1), ("ip6", 0)],
)
def test_a_filter_matches_either_side(expression: str, matched: int) -> None:
    """A connection is shown if one of its flows matches, and counts with both."""
    other = replace(V4, src="203.0.113.1", dst_port=53, protocol=UDP)
    drained = snapshot(V4, back(V4, packets=1, bytes=70), other)
    found = select(drained, expression, "bytes", None, pairs=True)
    assert (found.matched, len(list(found.flows()))) == (matched, matched)
    if expression == "outbound":
        assert found.totals == Count(4, 370)


@pytest.mark.parametrize(
    ("sort", "first"), [("bytes", 2), ("forward_bytes", 1), ("reverse_bytes", 2), ("reverse_packets", 1), ("bps", 1)]
)
def test_connections_are_sorted_by_either_direction_or_both(sort: str, first: int) -> None:
    """The largest comes first, by what both have counted together unless a direction is named."""
    one, two = replace(V4, src_port=1, bytes=500), replace(V4, src_port=2, bytes=100)
    drained = snapshot(one, back(one, packets=9, bytes=50), two, back(two, packets=1, bytes=2000))
    drained.flows["ipv4"].byte_rate[:] = [3, 3, 0, 5]

    found = select(drained, "", sort, 1, pairs=True)

    assert [row["src_port"] for row in found.flows()] == [first]
    assert (found.matched, found.parts[0].size) == (2, 2)


def test_flows_have_no_direction_to_be_sorted_by() -> None:
    """What only a connection has is refused for flows, and any other word for both."""
    for pairs in (False, True):
        with pytest.raises(UsageError, match="cannot be sorted by 'colour'"):
            select(snapshot(V4), "", "colour", None, pairs=pairs)
    with pytest.raises(UsageError, match="flows cannot be sorted by 'reverse_bytes'"):
        select(snapshot(V4), "", "reverse_bytes", None)


def oracle(flows: Iterable[Flow]) -> set[frozenset[tuple[Any, ...]]]:
    """Join flow by flow."""
    held = {name_of(flow) for flow in flows}
    joined = set()
    for flow in flows:
        mine, other = name_of(flow), name_of(back(flow))
        lone = (
            flow.protocol in (ICMP, ICMPV6)
            and not flow.fragment
            and (flow.protocol, flow.src_port) not in ANSWERS | REQUESTS
        )
        joined.add(frozenset({mine, other} if other in held and not lone else {mine}))
    return joined


def name_of(flow: Flow) -> tuple[Any, ...]:
    """Return the key of a flow, as a person would write it."""
    ends = flow.src, flow.src_port, flow.dst, flow.dst_port
    return (*ends, flow.protocol, flow.ifindex, flow.vlan, flow.fragment, flow.sent)


flows_of_one_family = st.sampled_from((4, 6)).flatmap(
    lambda version: st.lists(
        st.builds(
            Flow,
            src=st.sampled_from(("10.0.0.1", "10.0.0.2") if version == 4 else ("2001:db8::1", "2001:db8::2")),
            dst=st.sampled_from(("10.0.0.1", "10.0.0.3") if version == 4 else ("2001:db8::1", "2001:db8::3")),
            src_port=st.sampled_from((0, 8, 3, 128, 129, 53)),
            dst_port=st.sampled_from((0, 8, 53)),
            protocol=st.sampled_from((ICMP, ICMPV6, TCP, UDP, 47)),
            ifindex=st.sampled_from((1, 2)),
            vlan=st.sampled_from((None, 0, 7)),
            fragment=st.booleans(),
            first_seen=st.sampled_from((JIFFIES, JIFFIES - 1)),
            tcp_flags=st.sampled_from((0, 2, 0x12, 0x212, 0x10)),
            sent=st.booleans(),
        ),
        unique_by=name_of,
        max_size=40,
    )
)


@given(flows_of_one_family)
def test_every_flow_is_in_one_row(flows: list[Flow]) -> None:
    """Whatever there is, each flow stands on one side of one row, and rows are joined as one by one."""
    numbered = [replace(flow, packets=1 << place, bytes=7) for place, flow in enumerate(flows)]
    foreign = {(ICMPV6, "ipv4"), (ICMP, "ipv6")}  # of the other version of IP: a protocol as any other
    numbered = [flow for flow in numbered if (flow.protocol, flow.family) not in foreign]

    found = rows(*numbered)

    names = {flow.packets: name_of(flow) for flow in numbered}
    sides = [[row[f"{way}_packets"] for way in ("forward", "reverse")] for row in found]
    assert {frozenset(names[side] for side in both if side) for both in sides} == oracle(numbered)
    assert sorted(side for both in sides for side in both if side) == sorted(names)
    assert sum(row["bytes"] for row in found) == 7 * len(names)
