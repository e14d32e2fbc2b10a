"""Two flows are a connection if one is the other the other way round; ``test_pairs.py`` has what is made of it."""

from __future__ import annotations

from cnf.abi import FLOW_EGRESS, ICMP, UDP
from cnf.flows.connections import Connections
from tests.unit.samples import Flow, columns


def test_received_and_sent_are_joined_by_their_rows() -> None:
    """Those of one direction are not, nor those of fragments and ports."""
    there = Flow(protocol=UDP)
    back = Flow(src=there.dst, src_port=there.dst_port, dst=there.src, dst_port=there.src_port, protocol=UDP, sent=True)
    flows = columns([back, Flow(), there, Flow(src="192.0.2.9")], "ipv4")
    received, sent = Connections(flows).join()
    assert flows.flags[sent].tolist() == [FLOW_EGRESS]
    assert (flows.src_port[received].tolist(), flows.src_port[sent].tolist()) == ([40000], [443])


def test_a_later_fragment_is_no_icmp() -> None:
    """Its ports are no type and code."""
    flows = columns([Flow(protocol=ICMP, src_port=0, dst_port=0, fragment=True)], "ipv4")
    connections = Connections(flows)
    assert connections.asks(slice(None)).tolist() == [0]  # type: ignore[arg-type] # numpy takes both
