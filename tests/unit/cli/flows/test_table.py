"""How flows read, at every width."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from cnf.cli.api.replies import Amount, Flow, Flows
from cnf.cli.flows.table import View, flow_lines, pair_lines
from cnf.cli.show.table import Style
from tests.unit.cli.samples import DNS6, FLOW, FRAGMENT, NEIGHBOR, NOW, OSPF, PAIR, PING, flows, pairs

AT_80 = """\
SOURCE                 DESTINATION   PROTO   INFO     PKTS    BYTES         RATE
192.168.100.200:51234  10.0.0.1:443  tcp     SAP      8.1M   9.9 GB   123 Mbit/s
[2001:db8:…678]:40000  [2001:…1]:53  udp     -        1.2k  98.8 kB  12.3 kbit/s
10.0.0.7               10.0.0.1      icmp    ech…est    12   1.2 kB    784 bit/s
fe80::1                ff02::…f00:2  icmpv6  nei…cit     1     86 B      0 bit/s
10.0.0.9               10.0.0.1      udp     frag       44  66.6 kB      0 bit/s
10.0.0.2               224.0.0.5     89      -           3    282 B      0 bit/s
6 of 1,234 flows, 98.8 % of 10.0 GB; drained 1.2 s ago
"""
AT_120 = """\
SOURCE                                          DESTINATION       PROTO   INFO               PKTS    BYTES         RATE
192.168.100.200:51234                           10.0.0.1:443      tcp     SAP                8.1M   9.9 GB   123 Mbit/s
[2001:db8:1234:5678:9abc:def0:1234:5678]:40000  [2001:db8::1]:53  udp     -                  1.2k  98.8 kB  12.3 kbit/s
10.0.0.7                                        10.0.0.1          icmp    echo request         12   1.2 kB    784 bit/s
fe80::1                                         ff02::1:ff00:2    icmpv6  neighbor solicit      1     86 B      0 bit/s
10.0.0.9                                        10.0.0.1          udp     frag                 44  66.6 kB      0 bit/s
10.0.0.2                                        224.0.0.5         89      -                     3    282 B      0 bit/s
6 of 1,234 flows, 98.8 % of 10.0 GB; drained 1.2 s ago
"""
# What a terminal of 200 columns shows beyond one of 120; and before the protocol the direction.
BEYOND_120 = """\
  PKT/S    IDLE     AGE  IFACE      VLAN
  12.3k   3.5 s   2m30s  eth0          -
    2.4   3.5 s   2m30s  ens5f0np0   100
      0   3.5 s   2m30s  eth0          -
      0   3.5 s   2m30s  eth0          -
      0   3.5 s   2m30s  eth0          -
      0   3.5 s   2m30s  eth0          -

"""
AT_200 = "".join(
    f"{left[:66]}{way}{left[66:]}{right}"
    for left, way, right in zip(
        AT_120.splitlines(), ("DIR  ", *["in   "] * 6, ""), BEYOND_120.splitlines(keepends=True), strict=True
    )
)
EVERY_KIND = flows(FLOW, DNS6, PING, NEIGHBOR, FRAGMENT, OSPF, matched=1_234)


def lines_of(reply: Flows, width: int | None, *, filtered: bool = False) -> list[str]:
    """Return the lines that ``reply`` makes, without colour."""
    return flow_lines(reply, View(width, Style(coloured=False), NOW, filtered=filtered))


@pytest.mark.parametrize(("width", "text"), [(80, AT_80), (120, AT_120), (200, AT_200), (None, AT_200)])
def test_whole_table(width: int | None, text: str) -> None:
    """The table uses its width and no more: at 80 long IPv6 gives way, at 200 and in a pipe all is there."""
    lines = lines_of(EVERY_KIND, width)
    assert "".join(f"{line}\n" for line in lines) == text
    assert width is None or max(map(len, lines)) <= width


def test_a_note_is_folded() -> None:
    """Below a table nothing is left out: that limits drop stands at the end, and is what matters most."""
    reply: Flows = {**EVERY_KIND, "dropped": {"packets": 31_100, "bytes": 0}}
    *_, first, second = lines_of(reply, 80)
    assert f"{first} {second.strip()}".endswith(
        "; limits have dropped 31.1k packets, which make no flow (cnfctl limits)"
    )
    assert max(len(first), len(second)) <= 80


def test_ipv4_is_whole_at_80() -> None:
    """The longest IPv4 endpoints stand uncut on 80 columns, with packets, bytes and rate beside them."""
    longest: Flow = {**FLOW, "src_addr": "203.113.131.200", "dst_addr": "142.250.185.178", "dst_port": 50443}
    _, line, _ = lines_of(flows(longest), 80)
    assert line == "203.113.131.200:51234  142.250.185.178:50443  tcp     8.1M   9.9 GB   123 Mbit/s"


def test_dropped() -> None:
    """Once a flow that is shown has dropped packets, there is a column of them, on 80 columns, too."""
    limited: Flow = {**FLOW, "dropped_packets": 67_890, "dropped_bytes": 6_789_000}
    title, *rows, _ = lines_of(flows(limited, PING), 80)
    assert title.split() == ["SOURCE", "DESTINATION", "PROTO", "PKTS", "BYTES", "DROPPED", "RATE"]
    assert [row.split()[5:7] for row in rows] == [["GB", "67.9k"], ["kB", "0"]]
    assert "DROPPED" not in lines_of(flows(FLOW, PING), None)[0]


def test_direction() -> None:
    """Once a flow that is shown was sent, each says its direction, on 80 columns, too."""
    sent: Flow = {**FLOW, "direction": "egress"}
    title, *rows, _ = lines_of(flows(sent, PING), 80)
    assert title.split()[:4] == ["SOURCE", "DESTINATION", "DIR", "PROTO"]
    assert [row.split()[2] for row in rows] == ["out", "in"]
    assert "DIR" not in lines_of(flows(FLOW, PING), 80)[0]


@pytest.mark.parametrize(
    ("protocol", "message", "name"),
    [
        ("icmp", (0, 0), "echo reply"),
        ("icmp", (3, 3), "port unreachable"),
        ("icmp", (3, 99), "unreachable"),
        ("icmp", (128, 0), "type 128 code 0"),
        ("icmpv6", (128, 0), "echo request"),
        ("icmpv6", (1, 4), "port unreachable"),
        ("icmpv6", (8, 0), "type 8 code 0"),
    ],
)
def test_icmp_message(protocol: str, message: tuple[int, int], name: str) -> None:
    """An ICMP flow says its message by name, in the numbers of its own protocol."""
    icmp: Flow = {**PING, "protocol": protocol, "icmp_type": message[0], "icmp_code": message[1]}
    assert f"  {name}  " in lines_of(flows(icmp), None)[1]


def test_pairs() -> None:
    """A connection has the counts and rates of each direction, and its bytes fit on 80 columns."""
    narrow, wide = (pair_lines(pairs(PAIR), View(width, Style(coloured=False), NOW)) for width in (80, None))
    title, row, last = (re.split(r" {2,}", line) for line in wide)
    assert title[2:11] == ["DIR", "PROTO", "INFO", "PKTS >", "PKTS <", "BYTES >", "BYTES <", "RATE >", "RATE <"]
    assert row[2:11] == ["out", "tcp", "SAP", "500", "1.0k", "33.0 kB", "1.2 MB", "12.0 kbit/s", "3.4 Mbit/s"]
    assert last == ["1 connection, 1.2 MB; drained 1.2 s ago"]
    assert {"DIR", "PROTO", "BYTES >", "BYTES <"} < set(re.split(r" {2,}", narrow[0]))
    assert max(map(len, narrow)) <= 80
    empty = pair_lines(pairs(), View(80, Style(coloured=False), NOW))
    assert empty == ["no connection yet; traffic shows after the next drain, every 5 s"]


def test_names_cannot_control_the_terminal() -> None:
    """An interface's name with an escape sequence in it is shown, not obeyed."""
    hostile: Flow = {**FLOW, "interface": "a\x1b[2Jb"}
    assert r"  a\x1b[2Jb  " in lines_of(flows(hostile), None)[1]


@pytest.mark.parametrize(
    ("reply", "summary"),
    [
        (flows(FLOW), "1 flow, 9.9 GB; drained 1.2 s ago"),
        (flows(PING, PING), "2 matching flows, 2.4 kB; drained 1.2 s ago"),
        (flows(PING, matched=2), "1 of 2 matching flows, 1.2 % of 101 kB; drained 1.2 s ago"),
    ],
)
def test_summary(reply: Flows, summary: str) -> None:
    """The last line says how much of the whole is shown, and how old it is."""
    assert lines_of(reply, 80, filtered="matching" in summary)[-1] == summary


def test_why_empty() -> None:
    """An empty table says whether there is no traffic or the filter lets none through."""
    assert lines_of(flows(), 80) == ["no flow yet; traffic shows after the next drain, every 5 s"]
    assert lines_of(flows(total=1_234), 80, filtered=True) == ["no flow matches the filter (1,234 flows in all)"]
    assert lines_of(flows(), 80, filtered=True)[0].startswith("no flow yet")


def test_what_limits_have_dropped_is_said_beside_the_flows() -> None:
    """It makes no flow: without a word, a source that is dropped would seem silent."""
    lost: Amount = {"packets": 242_695, "bytes": 14_561_700}
    said = "; limits have dropped 243k packets, which make no flow (cnfctl limits)"
    for reply in (flows(FLOW, dropped=lost), flows(total=3, dropped=lost), flows(dropped=lost)):
        assert lines_of(reply, None)[-1].endswith(said)
    assert not any("limits" in line for line in lines_of(flows(FLOW), None))


def test_owner_and_names_stand_behind_the_ends() -> None:
    """They have columns where they were asked for, also at 80 columns; beside them, addresses stay as they are."""
    asked = [
        {**FLOW, "owner": "nginx.service", "uid": 33, "src_name": "a\x1b[2J.example", "dst_name": None},
        {**PING, "owner": None, "uid": 1000, "src_name": None, "dst_name": "web.example"},
        {**DNS6, "owner": None, "uid": None, "src_name": None, "dst_name": None},
    ]
    title, *rows, _ = lines_of(flows(*asked, matched=3), None)  # type: ignore[arg-type]
    assert title.startswith("SOURCE ")
    columns = [title.index(name) for name in ("OWNER", "SOURCE NAME", "DEST NAME", "DIR")]
    cells = [[row[start:end].strip() for start, end in pairwise(columns)] for row in rows]
    assert cells == [["nginx.service", r"a\x1b[2J.example", "-"], ["uid 1000", "-", "web.example"], ["-", "-", "-"]]
    narrow = lines_of(flows(*asked, matched=3), 80)  # type: ignore[arg-type]
    assert "OWNER" in narrow[0]
    assert max(map(len, narrow)) <= 80
    assert "192.168.100.200:51234  10.0.0.1:443" in narrow[1]
