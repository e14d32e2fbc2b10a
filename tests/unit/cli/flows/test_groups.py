"""How groups of flows read."""

from __future__ import annotations

import pytest

from cnf.cli.flows.groups import group_lines
from cnf.cli.flows.table import View
from cnf.cli.show.table import Style
from tests.unit.cli.samples import GROUP, NOW, groups

AT_80 = """\
SOURCE               PORT   FLOWS   PKTS    BYTES         RATE  PKT/S   SHARE
192.168.100.200       443   16.4k  34.6M  44.9 GB   125 Mbit/s  12.3k  83.5 %
2001:db8::1             -       1     12   1.2 kB      0 bit/s      0   0.0 %
2 of 1,234 groups of 16,385 flows, 10.0 GB; drained 1.2 s ago
"""


def lines_of(width: int | None, sort: str = "bytes", dropped: int = 0) -> list[str]:
    """Return the lines of two groups, without colour."""
    quiet = {**GROUP, "src_addr": "2001:db8::1", "dst_port": None, "flows": 1, "packets": 12, "bytes": 1200}
    quiet |= {"bits_per_second": 0.0, "packets_per_second": 0.0, "share": 0.0, "dropped_packets": dropped}
    return group_lines(groups(GROUP, quiet), View(width, Style(coloured=False), NOW, sort))


def test_table() -> None:
    """What the flows have in common comes first, then their sums, then the share."""
    assert [line.split() for line in lines_of(80)] == [line.split() for line in AT_80.splitlines()]
    assert max(map(len, lines_of(80))) <= 80


@pytest.mark.parametrize(
    ("sort", "title"), [("pps", "PKT/S"), ("dropped_bytes", "DROPPED"), ("flows", "FLOWS"), ("rate", "RATE")]
)
def test_the_column_that_is_sorted_by_is_there_at_any_width(sort: str, title: str) -> None:
    """On a narrow terminal others give way."""
    assert title in lines_of(40, sort)[0]


def test_dropped_packets_have_a_column_where_there_are_any() -> None:
    """Else there is none."""
    assert "DROPPED" not in lines_of(None)[0]
    assert "DROPPED" in lines_of(None, dropped=7)[0]
    assert lines_of(None, dropped=7)[2].split()[6] == "7"


def test_no_group() -> None:
    """One line says why."""
    view = View(80, Style(coloured=False), NOW)
    assert group_lines(groups(total=3), view) == ["no flow matches the filter (3 flows in all)"]


def test_rules_and_names() -> None:
    """By rule there are the verdict and the rule; names stand behind their addresses."""
    sums = {name: value for name, value in GROUP.items() if name not in {"src_addr", "dst_port"}}
    view = View(None, Style(coloured=False), NOW)
    title, first, second, _ = group_lines(
        groups({"verdict": "limited", "rule": "default", **sums}, {"verdict": "denied", "rule": None, **sums}), view
    )
    assert title.split()[:2] == ["VERDICT", "RULE"]
    assert (first.split()[:2], second.split()[:2]) == (["limited", "default"], ["denied", "-"])
    named = group_lines(groups({**GROUP, "src_name": "web.example"}), view)
    assert named[1].split()[:3] == ["192.168.100.200", "web.example", "443"]
