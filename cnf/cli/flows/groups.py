"""Groups of flows as a table: what they have in common, their sums and their share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cnf.cli.api.replies import Group, Groups
from cnf.cli.flows.table import View, drained, dropped_by_limits, nothing_matches, page
from cnf.cli.show.table import SPARE, Column, render
from cnf.units import count, number_of, size

_NONE: Final = "-"
_REST: Final = "(rest)"
_TITLES: Final[Mapping[str, str]] = {
    "src_addr": "SOURCE",
    "src_name": "SOURCE NAME",
    "src_net": "SOURCE NET",
    "dst_addr": "DESTINATION",
    "dst_name": "DEST NAME",
    "dst_net": "NET",
    "dst_port": "PORT",
    "src_port": "SOURCE PORT",
    "protocol": "PROTO",
    "interface": "IFACE",
    "direction": "DIR",
    "vlan": "VLAN",
    "verdict": "VERDICT",
    "rule": "RULE",
}
"""By what flows are grouped, in the order shown."""
_SORTED_BY: Final[Mapping[str, str]] = {
    "flows": "FLOWS",
    "packets": "PKTS",
    "bytes": "BYTES",
    "dropped_packets": "DROPPED",
    "dropped_bytes": "DROPPED",
    "bits_per_second": "RATE",
    "bps": "RATE",
    "rate": "RATE",
    "packets_per_second": "PKT/S",
    "pps": "PKT/S",
}


def group_lines(reply: Groups, view: View) -> list[str]:
    """Return the groups of ``reply`` as a table with its summary, or one line that says why there are none."""
    groups = reply["groups"]
    if not groups:
        return page(reply, [], nothing_matches(reply, "flow"), view)
    shown, flows = sum(not _is_rest(group) for group in groups), reply["flows_matched"]
    of = f"{shown:,} of " if shown < reply["matched"] else ""
    summary = f"{of}{number_of(reply['matched'], 'group')}"
    if flows is not None:
        summary += f" of {number_of(flows, 'matching flow' if view.filtered else 'flow')}"
    summary += f", {size(reply['totals']['bytes'])}{drained(reply)}{dropped_by_limits(reply)}"
    table = render(_columns(groups, view), groups, view.width, view.style)
    return page(reply, table, summary, view, rest=False)


def _is_rest(group: Group) -> bool:
    return group["flows"] is None and all(value is None for field, value in group.items() if field in _TITLES)


def _columns(groups: Sequence[Group], view: View) -> list[Column[Group]]:
    """Return the columns in the order shown; the one that they are sorted by always has room."""
    names = [field for field in _TITLES if field in groups[0]]

    def common(field: str) -> Callable[[Group], str]:
        def cell(group: Group) -> str:
            if field == names[0] and _is_rest(group):
                return _REST
            value: object = dict(group)[field]
            return _NONE if value is None else str(value)

        return cell

    def numbers(title: str, cell: Callable[[Group], str], priority: int, reserve: int = 0) -> Column[Group]:
        return Column(title, cell, right=True, priority=priority, reserve=reserve)

    sorted_by = _SORTED_BY[view.sort]
    columns: list[Column[Group]] = []
    for field in names:
        cell = common(field)
        whole = max((len(text) for text in map(cell, groups) if ":" not in text), default=0)
        columns.append(
            Column(_TITLES[field], cell, cuttable=True, least=max(whole, 12))
        )  # IPv6 addresses are cut first
    sums = [
        numbers("FLOWS", lambda group: _NONE if group["flows"] is None else count(group["flows"]), 2, 5),
        numbers("PKTS", lambda group: count(group["packets"]), 3, 5),
        numbers("BYTES", lambda group: size(group["bytes"]), 1, 7),
        numbers("DROPPED", lambda group: count(group["dropped_packets"]), 1),
        numbers("RATE", lambda group: view.rate(group["bits_per_second"]), 4, 11),
        numbers("PKT/S", lambda group: count(group["packets_per_second"]), SPARE),
        numbers("SHARE", lambda group: f"{100 * group['share']:.1f} %", 1),
    ]
    if sorted_by != "DROPPED" and not any(group["dropped_packets"] for group in groups):
        sums = [column for column in sums if column.title != "DROPPED"]
    return columns + [replace(column, priority=0) if column.title == sorted_by else column for column in sums]
