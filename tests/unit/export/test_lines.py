"""A record is a line of JSON with the fields of a flow, and only those that match a filter are written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnf.abi import ICMP, TCP, UDP
from cnf.errors import UsageError
from cnf.export.lines import RECORD_FIELDS, Lines
from cnf.flows.fields import FIELDS
from cnf.flows.records import REASONS
from cnf.flows.stream import RecordBatch
from tests.unit.record_batches import batch, many
from tests.unit.samples import JIFFIES, Flow

SIX = {"src": "2001:db8::1", "dst": "2001:db8::2"}


def objects(lines: Lines, records: RecordBatch, start: int | None = None, stop: int | None = None) -> list[Any]:
    """Return the records of the lines."""
    text = lines.of(records, start or records.first, stop or records.end)
    return [json.loads(line) for line in text.splitlines()]


def test_a_record_has_the_fields_of_a_flow() -> None:
    """Beside its number, its time and why it was made, it has what a flow has, under the same names."""
    flow = Flow(
        vlan=42, packets=10, bytes=1000, first_seen=JIFFIES - 500, last_seen=JIFFIES - 250, tcp_flags=0x12,
        dropped_packets=3, dropped_bytes=300, sent=True,
    )  # fmt: skip

    (record,) = objects(Lines(""), batch(7, flow, reason="ended", link_bytes=18))

    assert [*record] == ["seq", *RECORD_FIELDS]
    assert set(record) - {"seq", "start", "end", "reason", "ip_bytes"} <= set(FIELDS)
    assert record == {
        "seq": 7,
        "start": "2023-11-14T22:13:18.000000Z",
        "end": "2023-11-14T22:13:19.000000Z",
        "reason": "ended",
        "interface": "eth0",
        "direction": "egress",
        "protocol": "tcp",
        "src_addr": "192.0.2.1",
        "src_port": 40000,
        "dst_addr": "198.51.100.2",
        "dst_port": 443,
        "icmp_type": None,
        "icmp_code": None,
        "vlan": 42,
        "fragment": False,
        "packets": 10,
        "bytes": 1000,
        "ip_bytes": 820,
        "dropped_packets": 3,
        "dropped_bytes": 300,
        "tcp_flags": "SA",
    }


@pytest.mark.parametrize("reason", REASONS)
def test_other_records(reason: Any) -> None:  # noqa: ANN401 - a literal
    """ICMP has type and code, a fragment no ports, and an interface whose name is forgotten is unassigned."""
    flows = (
        Flow(protocol=ICMP, src_port=8, dst_port=0, ifindex=9),
        Flow(protocol=UDP, src_port=0, dst_port=0, fragment=True),
        Flow(**SIX, protocol=200, src_port=0, dst_port=0, packets=(1 << 64) - 1, bytes=(1 << 64) - 1),  # type: ignore[arg-type] # texts
    )

    icmp, fragment, other = objects(Lines(""), batch(1, *flows, reason=reason, link_bytes=0))

    assert (icmp["icmp_type"], icmp["icmp_code"], icmp["src_port"], icmp["interface"]) == (8, 0, None, "unassigned")
    assert (fragment["fragment"], fragment["src_port"]) == (True, 0)
    assert (other["protocol"], other["packets"], other["ip_bytes"]) == ("200", (1 << 64) - 1, (1 << 64) - 1)
    assert {each["reason"] for each in (icmp, fragment, other)} == {reason}


def test_a_name_of_any_bytes_is_one_line() -> None:
    """Names are escaped, and stand for themselves."""
    name = 'a"b\\c, d\u2028\x1b\nx}'
    (record,) = objects(Lines(""), batch(1, Flow(), names={1: name}))
    assert record["interface"] == name


def test_numbers_go_on_from_ipv4_to_ipv6() -> None:
    """Whatever part of a batch is asked for, each record has its number."""
    flows = [Flow(packets=number) for number in (11, 12, 13)] + [Flow(**SIX, packets=number) for number in (14, 15)]  # type: ignore[arg-type] # texts
    records = batch(11, *flows)
    for start in range(11, 17):
        for stop in range(start, 17):
            found = objects(Lines(""), records, start, stop) if stop > start else []
            assert [each["seq"] for each in found] == [each["packets"] for each in found] == [*range(start, stop)]


@pytest.mark.parametrize(
    ("expression", "numbers"),
    [
        ("udp", [2, 4]),
        ("tcp and ip6", [3]),
        ("iface eth0", [1, 3, 4]),
        ("iface wan", [1, 3, 4]),
        ("outbound", [2]),
        ("port 99", []),
        (" ", [1, 2, 3, 4]),
    ],
)
def test_what_matches_is_written(expression: str, numbers: list[int]) -> None:
    """A filter is that of cnfctl flows; the others leave their numbers unused."""
    records = batch(
        1,
        Flow(protocol=TCP),
        Flow(protocol=UDP, ifindex=2, sent=True),
        Flow(**SIX, protocol=TCP),  # type: ignore[arg-type] # texts
        Flow(**SIX, protocol=UDP),  # type: ignore[arg-type] # texts
    )
    lines = Lines(expression)
    assert [each["seq"] for each in objects(lines, records)] == numbers
    assert [lines.count(records, start) for start in (1, 3)] == [len(numbers), sum(each >= 3 for each in numbers)]
    assert lines.filtered == bool(expression.strip())
    later = batch(5, Flow(ifindex=1), names={1: "eth7"})
    assert len(objects(Lines("iface eth7"), later)) == 1


def test_a_filter_that_is_none_is_refused() -> None:
    """The error is that of cnfctl flows."""
    with pytest.raises(UsageError, match="filter: "):
        Lines("src net")


def test_without_ipv6() -> None:
    """A stream without a table of IPv6 has records of IPv4 alone."""
    assert [each["packets"] for each in objects(Lines(""), many(3, 4))] == [3, 4, 5, 6]
