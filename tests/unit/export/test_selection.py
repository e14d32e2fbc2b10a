"""What goes to a collector, and what does not."""

from __future__ import annotations

from ipaddress import ip_address

import numpy as np

from cnf.abi import FLOW_EGRESS, TCP, UDP, Family
from cnf.arrays import Records
from cnf.export.selection import Path, Selection
from cnf.flows.records import FLOW_RECORD
from cnf.flows.stream import RecordBatch
from cnf.recording import Ipfix
from tests.unit.export.test_ipfix import CLOCK, record

NODE, COLLECTOR = ip_address("192.0.2.1"), ip_address("192.0.2.9")
OWN = Path(NODE, COLLECTOR, 4739)
OWN6 = Path(ip_address("2001:db8::1"), ip_address("2001:db8::9"), 4739)


def batch(*records: Records, family: Family = "ipv4") -> RecordBatch:
    """Return records of one family as a drain's."""
    empty: dict[Family, Records] = {each: np.zeros(0, dtype) for each, dtype in FLOW_RECORD.items()}
    names = {1: "lo", 2: "ens1", 3: "ens2", 4: "veth7"}
    return RecordBatch(1, CLOCK, empty | {family: np.concatenate(records)}, names, {3: ("wan",)}, {})


def of(options: Ipfix, given: RecordBatch, *own: Path) -> list[int]:
    """Return the packets of the records that are chosen, which tell them apart."""
    return [int(each) for records in Selection(options).of(given, own).values() for each in records["packets"]]


def test_without_options_everything_goes() -> None:
    """Every record, and the name of every interface."""
    given = batch(*(record("ipv4", "10.0.0.1", "10.0.0.2", ifindex=index, packets=index) for index in (1, 2, 3, 4)))

    assert of(Ipfix("192.0.2.9:4739"), given) == [1, 2, 3, 4]
    assert Selection(Ipfix("192.0.2.9:4739")).names(given) == {
        1: ("lo",),
        2: ("ens1",),
        3: ("ens2", "wan"),
        4: ("veth7",),
    }


def test_interfaces_are_meant_by_name_pattern_and_altname() -> None:
    """As in the configuration; others are not even named."""
    given = batch(*(record("ipv4", "10.0.0.1", "10.0.0.2", ifindex=index, packets=index) for index in (1, 2, 3, 4, 99)))
    options = Ipfix("192.0.2.9:4739", interfaces=("wan", "veth*"))

    assert of(options, given) == [3, 4]
    assert Selection(options).names(given) == {3: ("ens2", "wan"), 4: ("veth7",)}


def test_a_filter_is_that_of_cnfctl_flows() -> None:
    """Compiled by the same grammar, for both families."""
    options = Ipfix("192.0.2.9:4739", filter="tcp port 443 and iface wan")
    flows = [
        record("ipv4", "10.0.0.1", "10.0.0.2", protocol=TCP, dst_port=port, ifindex=index, packets=packets)
        for packets, (port, index) in enumerate([(443, 3), (80, 3), (443, 2)])
    ]
    assert of(options, batch(*flows)) == [0]
    six = record("ipv6", "2001:db8::1", "2001:db8::2", protocol=TCP, dst_port=443, ifindex=3, packets=7)
    assert of(options, batch(six, family="ipv6")) == [7]


def test_the_packets_of_the_export_itself_are_left_out() -> None:
    """From this node to a collector's port by UDP, on whatever interface; and nothing else."""
    flows = [
        record("ipv4", src, dst, protocol=protocol, src_port=port, dst_port=to, flags=flags, packets=packets)
        for packets, (src, dst, protocol, port, to, flags) in enumerate(
            [
                ("192.0.2.1", "192.0.2.9", UDP, 40000, 4739, FLOW_EGRESS),
                ("192.0.2.1", "192.0.2.9", UDP, 40001, 4739, 0),
                ("192.0.2.2", "192.0.2.9", UDP, 40000, 4739, FLOW_EGRESS),
                ("192.0.2.1", "192.0.2.8", UDP, 40000, 4739, FLOW_EGRESS),
                ("192.0.2.1", "192.0.2.9", UDP, 40000, 4740, FLOW_EGRESS),
                ("192.0.2.1", "192.0.2.9", TCP, 40000, 4739, FLOW_EGRESS),
            ]
        )
    ]
    assert of(Ipfix("192.0.2.9:4739"), batch(*flows), OWN6, OWN) == [2, 3, 4, 5]
    six = [
        record("ipv6", "2001:db8::1", dst, protocol=UDP, dst_port=4739, packets=packets)
        for packets, dst in enumerate(("2001:db8::9", "2001:db8::a"))
    ]
    assert of(Ipfix("192.0.2.9:4739"), batch(*six, family="ipv6"), OWN, OWN6) == [1]
