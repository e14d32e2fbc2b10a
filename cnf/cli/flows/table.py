"""Flows as a table: its columns, their cells, and the summary line below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from cnf.cli.api.replies import Flow, Flows, History, Pair, Pairs, Timestamp
from cnf.cli.show import past
from cnf.cli.show.table import SPARE, Column, Style, render
from cnf.cli.show.units import bit_rate, count, cut_end, duration, number_of, packets, size

Row = TypeVar("Row", bound=Flow)

_NONE: Final = "-"
_DROPPED: Final = "DROPPED"
_ENDED: Final = "ENDED"
_WAYS: Final = {"ingress": "in", "egress": "out"}
"""A direction as tcpdump has it."""

_ICMP_NAMES: Final[dict[tuple[str, int, int | None], str]] = {
    ("icmp", 0, None): "echo reply",
    ("icmp", 3, None): "unreachable",
    ("icmp", 3, 0): "net unreachable",
    ("icmp", 3, 1): "host unreachable",
    ("icmp", 3, 2): "proto unreachable",
    ("icmp", 3, 3): "port unreachable",
    ("icmp", 3, 4): "frag needed",
    ("icmp", 3, 9): "net prohibited",
    ("icmp", 3, 10): "host prohibited",
    ("icmp", 3, 13): "prohibited",
    ("icmp", 5, None): "redirect",
    ("icmp", 8, None): "echo request",
    ("icmp", 9, None): "router advert",
    ("icmp", 10, None): "router solicit",
    ("icmp", 11, None): "time exceeded",
    ("icmp", 12, None): "bad parameter",
    ("icmp", 13, None): "timestamp",
    ("icmp", 14, None): "timestamp reply",
    ("icmpv6", 1, None): "unreachable",
    ("icmpv6", 1, 0): "no route",
    ("icmpv6", 1, 1): "prohibited",
    ("icmpv6", 1, 3): "addr unreachable",
    ("icmpv6", 1, 4): "port unreachable",
    ("icmpv6", 2, None): "packet too big",
    ("icmpv6", 3, None): "time exceeded",
    ("icmpv6", 4, None): "bad parameter",
    ("icmpv6", 128, None): "echo request",
    ("icmpv6", 129, None): "echo reply",
    ("icmpv6", 130, None): "mld query",
    ("icmpv6", 131, None): "mld report",
    ("icmpv6", 132, None): "mld done",
    ("icmpv6", 133, None): "router solicit",
    ("icmpv6", 134, None): "router advert",
    ("icmpv6", 135, None): "neighbor solicit",
    ("icmpv6", 136, None): "neighbor advert",
    ("icmpv6", 137, None): "redirect",
    ("icmpv6", 143, None): "mldv2 report",
}
"""Common messages by protocol, type and code (None: any other code), from the registries of IANA."""


def flow_lines(reply: Flows, *, width: int | None, style: Style, now: datetime, filtered: bool) -> list[str]:
    """Return the flows of ``reply`` as a table with its summary, or one line that says why there are none."""
    table = _table(reply["flows"], _ONE_WAY, width, style, _end(reply, now)) if reply["flows"] else []
    return _page(reply["history"], table, _last_line(reply, "flow", filtered=filtered), width, style)


def pair_lines(reply: Pairs, *, width: int | None, style: Style, now: datetime, filtered: bool) -> list[str]:
    """Return the connections of ``reply`` in the same way. What has ``>`` in its title is from the source."""
    table = _table(reply["flows"], _BOTH_WAYS, width, style, _end(reply, now)) if reply["flows"] else []
    return _page(reply["history"], table, _last_line(reply, "connection", filtered=filtered), width, style)


def flow_table(flows: Sequence[Flow], *, width: int | None, style: Style, now: datetime) -> list[str]:
    """Return ``flows`` as a table. The columns DROPPED and ENDED are shown only if a flow has a value there."""
    return _table(flows, _ONE_WAY, width, style, now)


_ONE_WAY: Final[tuple[tuple[Column[Flow], ...], ...]] = (
    (
        Column("PKTS", lambda flow: count(flow["packets"]), right=True, priority=3, reserve=5),
        Column("BYTES", lambda flow: size(flow["bytes"]), right=True, priority=1, reserve=7),
    ),
    (
        Column("RATE", lambda flow: bit_rate(flow["bits_per_second"]), right=True, priority=4, reserve=11),
        Column("PKT/S", lambda flow: count(flow["packets_per_second"]), right=True, priority=SPARE + 2),
    ),
)
"""The columns of counts, and those of rates."""
_BOTH_WAYS: Final[tuple[tuple[Column[Pair], ...], ...]] = (
    (
        Column("PKTS >", lambda pair: count(pair["forward_packets"]), right=True, priority=6),
        Column("PKTS <", lambda pair: count(pair["reverse_packets"]), right=True, priority=6),
        Column("BYTES >", lambda pair: size(pair["forward_bytes"]), right=True, priority=1, reserve=7),
        Column("BYTES <", lambda pair: size(pair["reverse_bytes"]), right=True, priority=1, reserve=7),
    ),
    (
        Column("RATE >", lambda pair: bit_rate(pair["forward_bits_per_second"]), right=True, priority=7, reserve=11),
        Column("RATE <", lambda pair: bit_rate(pair["reverse_bits_per_second"]), right=True, priority=7, reserve=11),
    ),
)


def _table(
    flows: Sequence[Row], numbers: Sequence[Sequence[Column[Row]]], width: int | None, style: Style, now: datetime
) -> list[str]:
    idle = {_DROPPED: not any(flow["dropped_packets"] for flow in flows), _ENDED: not any(map(_ended, flows))}
    columns = [column for column in _columns(flows, numbers, now) if not idle.get(column.title)]
    return render(columns, flows, width, style)


def _columns(flows: Sequence[Row], numbers: Sequence[Sequence[Column[Row]]], now: datetime) -> tuple[Column[Row], ...]:
    """Return the columns in the order shown. On a narrow screen, IPv6 addresses are cut first.

    Where all flows were received, their direction is the first to be left out.
    """
    counts, rates = numbers
    sent = any(flow["direction"] == "egress" for flow in flows)

    def since(field: Callable[[Row], Timestamp]) -> Callable[[Row], str]:
        return lambda flow: duration((now - datetime.fromisoformat(field(flow))).total_seconds())

    def ends(title: str, cell: Callable[[Row], str]) -> Column[Row]:
        least = max((len(cell(flow)) for flow in flows if ":" not in flow["src_addr"]), default=0)
        return Column(title, cell, cuttable=True, least=max(least, 12))

    return (
        ends("SOURCE", lambda flow: endpoint(flow, flow["src_addr"], flow["src_port"])),
        ends("DESTINATION", lambda flow: endpoint(flow, flow["dst_addr"], flow["dst_port"])),
        Column("DIR", lambda flow: _WAYS.get(flow["direction"], _NONE), priority=1 if sent else SPARE + 5),
        Column("PROTO", lambda flow: flow["protocol"], priority=2),
        Column("INFO", _info, priority=5, cuttable=True, least=12),
        *counts,
        Column(_DROPPED, lambda flow: count(flow["dropped_packets"]), right=True, priority=1),
        Column(_ENDED, lambda flow: _ended(flow) or _NONE, priority=1),
        *rates,
        Column("IDLE", since(lambda flow: flow["last_seen"]), right=True, priority=SPARE, reserve=6),
        Column("AGE", since(lambda flow: flow["first_seen"]), right=True, priority=SPARE + 4, reserve=6),
        Column("IFACE", lambda flow: flow["interface"], priority=SPARE + 1),
        Column(
            "VLAN", lambda flow: _NONE if flow["vlan"] is None else str(flow["vlan"]), right=True, priority=SPARE + 3
        ),
    )


def endpoint(flow: Flow, address: str, port: int | None) -> str:
    """Return one end of a flow, as in 192.0.2.1:443 or [2001:db8::1]:443."""
    if port is None or flow["fragment"]:  # the ports of later fragments are unknown
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _ended(flow: Flow) -> str | None:
    return flow["ended"]


def _info(flow: Flow) -> str:
    """Return whether a flow is of later fragments, or its ICMP message, or its TCP flags."""
    if flow["fragment"]:
        return "frag"
    icmp_type, code = flow["icmp_type"], flow["icmp_code"]
    if icmp_type is None or code is None:
        return flow["tcp_flags"] or _NONE
    messages = ((flow["protocol"], icmp_type, code), (flow["protocol"], icmp_type, None))
    names = (_ICMP_NAMES[message] for message in messages if message in _ICMP_NAMES)
    return next(names, f"type {icmp_type} code {code}")


def _end(reply: Flows | Pairs, now: datetime) -> datetime:
    """Return when the flows were as they are shown."""
    return datetime.fromisoformat(reply["history"]["end"]) if reply["history"] else now


def _page(history: History | None, table: list[str], last: str, width: int | None, style: Style) -> list[str]:
    """Return the table with its last line, and of the past, what else there is to say."""
    above, below = ([past.heading(history)], [last, *past.notes(history)]) if history else ([], [last])
    above, below = ([line if width is None else cut_end(line, width) for line in lines] for lines in (above, below))
    return [*map(style.bold, above), *table, *(map(style.dim, below) if table else below)]


def _last_line(reply: Flows | Pairs, noun: str, *, filtered: bool) -> str:
    """Return the summary of the reply, or why there is nothing in it."""
    return _summary(reply, noun, filtered=filtered) if reply["flows"] else _why_empty(reply, noun)


def _why_empty(reply: Flows | Pairs, noun: str) -> str:
    if reply["total"]:
        return f"no {noun} matches the filter ({number_of(reply['total'], noun)} in all){_dropped(reply)}"
    if reply["history"]:
        return f"no {noun}{_dropped(reply)}"
    interval = duration(reply["drain_interval_seconds"])
    return f"no {noun} yet; traffic shows after the next drain, every {interval}{_dropped(reply)}"


def _summary(reply: Flows | Pairs, noun: str, *, filtered: bool) -> str:
    shown, matched, octets = len(reply["flows"]), reply["matched"], reply["totals"]["bytes"]
    what = number_of(matched, f"matching {noun}" if filtered else noun)
    if shown < matched:
        shown_octets = sum(flow["bytes"] for flow in reply["flows"])
        what = f"{shown:,} of {what}, {100 * shown_octets / max(octets, 1):.1f} % of {size(octets)}"
    else:
        what = f"{what}, {size(octets)}"
    drained = "" if reply["history"] else f"; drained {duration(reply['drain_age_seconds'])} ago"
    return f"{what}{drained}{_dropped(reply)}"


def _dropped(reply: Flows | Pairs) -> str:
    """Return the packets that limits have dropped, so that nobody believes a dropped source to be silent."""
    number = reply["dropped"]["packets"]
    dropped = f"dropped {packets(number)}, which make no flow"
    if reply["history"]:
        return f"; limits {dropped} (cnfctl limits sources)" if number else ""
    return f"; limits have {dropped} (cnfctl limits)" if number else ""
