"""Flows as a table: its columns, their cells, and the summary line below."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar

from cnf.cli.api.replies import Flow, Flows, Listing, Pair, Pairs, Timestamp
from cnf.cli.show import past
from cnf.cli.show.table import SPARE, Column, Style, render
from cnf.cli.show.warnings import fold
from cnf.units import bit_rate, count, cut_end, duration, number_of, packets, size

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


@dataclass(frozen=True, slots=True)
class View:
    """How a listing is to be shown."""

    width: int | None
    """Columns of the terminal; None is no bound."""
    style: Style
    now: datetime
    sort: str = "bytes"
    """The field that the rows are sorted by; its column always has room."""
    filtered: bool = False
    octets: bool = False
    """Whether rates are in bytes."""
    folds: bool = True
    """Whether a note that is too long goes on in the next line; it is cut otherwise."""

    def rate(self, bits_per_second: float) -> str:
        """Return a rate in the unit that is asked for."""
        return f"{size(bits_per_second / 8)}/s" if self.octets else bit_rate(bits_per_second)

    def lines(self, note: str) -> list[str]:
        """Return the lines of a note."""
        return fold(note, self.width) if self.folds or self.width is None else [cut_end(note, self.width)]


def flow_lines(reply: Flows, view: View) -> list[str]:
    """Return the flows of ``reply`` as a table with its summary, or one line that says why there are none."""
    view = at_its_time(reply, view)
    table = flow_table(reply["flows"], view) if reply["flows"] else []
    return page(reply, table, _last_line(reply, "flow", filtered=view.filtered), view)


def pair_lines(reply: Pairs, view: View) -> list[str]:
    """Return the connections of ``reply`` in the same way. What has ``>`` in its title is from the source."""
    view = at_its_time(reply, view)
    table = _table(reply["flows"], _both_ways(view), view) if reply["flows"] else []
    return page(reply, table, _last_line(reply, "connection", filtered=view.filtered), view)


def flow_table(flows: Sequence[Flow], view: View) -> list[str]:
    """Return ``flows`` as a table. DROPPED and ENDED are shown only if a flow has a value there, or sorted by it."""
    return _table(flows, _one_way(view), view)


Numbers = tuple[tuple[Column[Row], ...], tuple[Column[Row], ...]]
"""The columns of counts, and those of rates."""


def _one_way(view: View) -> Numbers[Flow]:
    return (
        (
            Column("PKTS", lambda flow: count(flow["packets"]), right=True, priority=3, reserve=5),
            Column("BYTES", lambda flow: size(flow["bytes"]), right=True, priority=1, reserve=7),
        ),
        (
            Column("RATE", lambda flow: view.rate(flow["bits_per_second"]), right=True, priority=4, reserve=11),
            Column("PKT/S", lambda flow: count(flow["packets_per_second"]), right=True, priority=SPARE + 2),
        ),
    )


def _both_ways(view: View) -> Numbers[Pair]:
    return (
        (
            Column("PKTS >", lambda pair: count(pair["forward_packets"]), right=True, priority=6),
            Column("PKTS <", lambda pair: count(pair["reverse_packets"]), right=True, priority=6),
            Column("BYTES >", lambda pair: size(pair["forward_bytes"]), right=True, priority=1, reserve=7),
            Column("BYTES <", lambda pair: size(pair["reverse_bytes"]), right=True, priority=1, reserve=7),
        ),
        (
            Column(
                "RATE >", lambda pair: view.rate(pair["forward_bits_per_second"]), right=True, priority=7, reserve=11
            ),
            Column(
                "RATE <", lambda pair: view.rate(pair["reverse_bits_per_second"]), right=True, priority=7, reserve=11
            ),
        ),
    )


_SORTED_BY: Final[Mapping[str, str]] = {
    "packets": "PKTS",
    "bytes": "BYTES",
    "dropped_packets": _DROPPED,
    "dropped_bytes": _DROPPED,
    "packets_per_second": "PKT/S",
    "pps": "PKT/S",
    "bits_per_second": "RATE",
    "bps": "RATE",
    "rate": "RATE",
    "first_seen": "AGE",
    "last_seen": "IDLE",
    "forward_packets": "PKTS >",
    "reverse_packets": "PKTS <",
    "forward_bytes": "BYTES >",
    "reverse_bytes": "BYTES <",
    "forward_bits_per_second": "RATE >",
    "reverse_bits_per_second": "RATE <",
}
"""The column that always has room, by the field that the rows are sorted by."""


def _table(flows: Sequence[Row], numbers: Numbers[Row], view: View) -> list[str]:
    idle = {_DROPPED: not any(flow["dropped_packets"] for flow in flows), _ENDED: not any(map(_ended, flows))}
    sorted_by = _SORTED_BY.get(view.sort)
    columns = [
        replace(column, priority=0) if column.title == sorted_by else column
        for column in _columns(flows, numbers, view.now)
        if column.title == sorted_by or not idle.get(column.title)
    ]
    return render(columns, flows, view.width, view.style)


def _columns(flows: Sequence[Row], numbers: Numbers[Row], now: datetime) -> tuple[Column[Row], ...]:
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
        *(Column(title, cell, priority=title != "OWNER", cuttable=True, least=12) for title, cell in _asked_for(flows)),
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


def _asked_for(flows: Sequence[Row]) -> Iterator[tuple[str, Callable[[Row], str]]]:
    """Yield the columns that are there only where they were asked for."""

    def of(field: str) -> Callable[[Row], str]:
        def cell(flow: Row) -> str:
            row: Mapping[str, object] = flow
            if row[field] is not None:
                return str(row[field])
            return _NONE if field != "owner" or row["uid"] is None else f"uid {row['uid']}"

        return cell

    titles = {"owner": "OWNER", "src_name": "SOURCE NAME", "dst_name": "DEST NAME"}
    yield from ((title, of(field)) for field, title in titles.items() if flows and field in flows[0])


def endpoint(flow: Mapping[str, object], address: str, port: int | None) -> str:
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


def at_its_time(reply: Listing, view: View) -> View:
    """Return the view as of when the flows were as they are shown."""
    return replace(view, now=datetime.fromisoformat(reply["history"]["end"])) if reply["history"] else view


def page(reply: Listing, table: list[str], last: str, view: View, *, rest: bool = True) -> list[str]:
    """Return the table with its last line, and of the past, what else there is to say.

    Without ``rest``, a row of the table has what is in no other.
    """
    history, style = reply["history"], view.style
    above, below = [], [last]
    if history:
        above, below = [past.heading(history)], [last, *past.notes(history, rest=rest, filtered=view.filtered)]
    above, below = ([line for note in notes for line in view.lines(note)] for notes in (above, below))
    return [*map(style.bold, above), *table, *(map(style.dim, below) if table else below)]


def _last_line(reply: Flows | Pairs, noun: str, *, filtered: bool) -> str:
    """Return the summary of the reply, or why there is nothing in it."""
    return _summary(reply, noun, filtered=filtered) if reply["flows"] else nothing_matches(reply, noun)


def nothing_matches(reply: Listing, noun: str) -> str:
    """Return why there is nothing in the reply."""
    if reply["total"]:
        return f"no {noun} matches the filter ({number_of(reply['total'], noun)} in all){dropped_by_limits(reply)}"
    if reply["history"]:
        return f"no {noun}{dropped_by_limits(reply)}"
    interval = duration(reply["drain_interval_seconds"])
    return f"no {noun} yet; traffic shows after the next drain, every {interval}{dropped_by_limits(reply)}"


def _summary(reply: Flows | Pairs, noun: str, *, filtered: bool) -> str:
    shown, matched, octets = len(reply["flows"]), reply["matched"], reply["totals"]["bytes"]
    what = number_of(matched, f"matching {noun}" if filtered else noun)
    if shown < matched:
        shown_octets = sum(flow["bytes"] for flow in reply["flows"])
        what = f"{shown:,} of {what}, {100 * shown_octets / max(octets, 1):.1f} % of {size(octets)}"
    else:
        what = f"{what}, {size(octets)}"
    return f"{what}{drained(reply)}{dropped_by_limits(reply)}"


def drained(reply: Listing) -> str:
    """Return how old the flows are; nothing of the past."""
    return "" if reply["history"] else f"; drained {duration(reply['drain_age_seconds'])} ago"


def dropped_by_limits(reply: Listing) -> str:
    """Return the packets that limits have dropped, so that nobody believes a dropped source to be silent."""
    number = reply["dropped"]["packets"]
    dropped = f"dropped {packets(number)}, which make no flow"
    if reply["history"]:
        return f"; limits {dropped} (cnfctl limits sources)" if number else ""
    return f"; limits have {dropped} (cnfctl limits)" if number else ""
