"""What a packet executes does not grow unnoticed: it is counted, so that no noise hides a few more instructions."""

from __future__ import annotations

import os
import re
from contextlib import closing
from typing import Any, Final

import pytest

from cnf.datapath.blueprint import Blueprint, Table
from cnf.datapath.installed_bcc import bcc_version
from cnf.kernel import libbpf
from cnf.kernel.hooks import HOOKS
from tests.bpf import kept
from tests.bpf.conftest import LOOPBACK, SMALL_TABLE, Datapath, only
from tests.bpf.instructions import count
from tests.bpf.limited import SIZE, Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame

Figures = dict[str, dict[str, int]]

TOLERANCE: Final = 0.03
FIGURES: Final[dict[str, Figures]] = {
    "0.26.0": {
        "flows": {"ipv4": 194, "ipv6": 250, "ipv4 new": 594, "ipv6 new": 696},
        "within": {"ipv4": 445, "ipv6": 562, "ipv4 new": 1158, "ipv6 new": 1414},
        "over": {"ipv4": 447, "ipv6": 564},
        "recorded": {"ipv4": 199, "ipv6": 255, "ipv4 new": 632, "ipv6 new": 746},
    },
    "0.31.0": {
        "flows": {"ipv4": 193, "ipv6": 240, "ipv4 new": 578, "ipv6 new": 679},
        "within": {"ipv4": 423, "ipv6": 539, "ipv4 new": 1079, "ipv6 new": 1341},
        "over": {"ipv4": 434, "ipv6": 542},
        "recorded": {"ipv4": 200, "ipv6": 246, "ipv4 new": 618, "ipv6 new": 722},
    },
}
"""By version of BCC, as Debian 12 and 13 have it: their compilers differ. A change that is meant is written here."""
LAYERS: Final = {"ipv4": IPv4(), "ipv6": IPv6()}
LENGTH: Final = 100
SENT: Final = 100
LATER: Final = 2
"""Ticks after the packets before, so that the time of the last one has to be written."""

INLINED: Final = (6, 10)
"""The kernel from which on a lookup in a per-CPU array is no call, as the figures have it."""

pytestmark = [
    only("cache"),
    pytest.mark.skipif(
        tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < INLINED,
        reason="this kernel calls for a lookup in a per-CPU array, whose instructions are not counted",
    ),
    pytest.mark.skipif(bcc_version() not in FIGURES, reason=f"there are no figures for BCC {bcc_version()}"),
]


def executed(datapath: Datapath) -> dict[str, int]:
    """Return the instructions of a packet of a flow that is there, and of a new one, by family."""
    found = {}
    for family, layer in LAYERS.items():
        known, new = (frame(layer, UDP(src_port=port), pad_to=LENGTH) for port in (1, 2))
        datapath.run(known, SENT)
        _verdict, clock, _duration = libbpf.run(datapath.loaded.programs["cnf_clock"], bytes(64), 1)
        now = int.from_bytes(clock[:8], "little") + LATER
        for packet, name in ((known, family), (new, f"{family} new")):
            counted = count(datapath.loaded.programs["cnf_ingress"], packet, LOOPBACK, now)
            assert counted.verdict == datapath.run(packet)
            found[name] = counted.executed
    return found


def limits(rate: int) -> dict[str, Any]:
    """Return limits of so many packets a second for everybody."""
    return {
        "mode": "enforce",
        "rules": [{"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": rate}],
    }


def test_flows_only(datapath: Datapath) -> None:
    """Without limits."""
    hold(executed(datapath), "flows")


def test_limits_that_are_not_asked_for(table: Table) -> None:
    """A packet of a known flow takes the program that is there while nothing is limited as if limits were not."""
    plain, without = (
        _executed_by(Blueprint(SMALL_TABLE, table, limiter=limiter, plain=True, hooks=HOOKS))
        for limiter in (SIZE, None)
    )
    assert [plain[family] for family in LAYERS] == [without[family] for family in LAYERS]


def _executed_by(blueprint: Blueprint) -> dict[str, int]:
    with closing(kept.load(blueprint)) as loaded:
        return executed(Datapath(loaded))


def test_flows_with_records(table: Table) -> None:
    """Without limits, with what history and export take."""
    loaded = kept.load(Blueprint(SMALL_TABLE, table, flow_records=True, finished_events=True))
    try:
        hold(executed(Datapath(loaded)), "recorded")
    finally:
        loaded.close()


@pytest.mark.parametrize(("rate", "name"), [(100_000_000, "within"), (1, "over")])
def test_with_limits(limited: Limited, rate: int, name: str) -> None:
    """Of sources within their limit, and over it: then there are no new flows."""
    limited.start(limits(rate))
    hold(executed(limited), name)


def hold(counted: dict[str, int], name: str) -> None:
    """Compare what was counted with what stands in FIGURES."""
    figures = FIGURES[bcc_version()][name]
    assert {key: counted[key] for key in figures} == {
        key: pytest.approx(figure, rel=TOLERANCE) for key, figure in figures.items()
    }
