"""What is received and what is sent have a ledger each, and each is exact: in both kinds of tables, with expiry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pytest

from cnf.abi import DIRECTIONS, INTERFACE_COUNTERS, Direction
from cnf.arrays import Records
from cnf.config import Flows
from cnf.counts import Count
from cnf.datapath.blueprint import Blueprint, Table
from cnf.flows.drain import Tracker
from cnf.flows.ledger import Ledger
from cnf.kernel.hooks import TC_EGRESS, XDP
from tests.bpf import kept
from tests.bpf.conftest import SMALL_TABLE, Datapath
from tests.bpf.forms import FORMS
from tests.bpf.packets import UDP, IPv4, frame
from tests.bpf.skb import has_skb, run_skb

NOTHING: Final = Count()
SENT: Final = tuple(form.frame for form in FORMS if has_skb(form.frame))
RECEIVED: Final = tuple(form.frame for form in FORMS for _ in range(2))


class Interfaces:
    """The totals of one interface."""

    incomplete = False

    def __init__(self, datapath: Datapath) -> None:
        """Take them from the counters."""
        self._datapath = datapath
        self.names = {1: "lo"}
        self.altnames: Mapping[int, tuple[str, ...]] = {}

    def all_totals(self) -> tuple[dict[str, Records], Any]:
        """Return what was counted, and nothing of departed interfaces."""
        return {"lo": self._datapath.counters()}, np.zeros((), INTERFACE_COUNTERS)


@pytest.fixture
def both(table: Table) -> Iterator[Datapath]:
    """Load the programs of both directions onto the same tables."""
    loaded = kept.load(Blueprint(SMALL_TABLE, table, hooks=(XDP, TC_EGRESS)))
    datapath = Datapath(loaded, XDP)
    datapath.reset()
    yield datapath
    loaded.close()


def send(datapath: Datapath, packet: bytes) -> None:
    """Let a packet pass by the hook of what is sent."""
    run_skb(datapath.loaded.programs[TC_EGRESS.entry], packet)


def size(frames: tuple[bytes, ...]) -> Count:
    """Return the packets and bytes of frames."""
    return Count(len(frames), sum(map(len, frames)))


def follow(datapath: Datapath, idle: float) -> Tracker:
    """Return what drains the tables."""
    return Tracker(datapath.loaded, Interfaces(datapath), Flows(idle_timeout=idle, ended_timeout=idle))


def test_all_forms_in_both_directions(both: Datapath) -> None:
    """Every form of packet, twice received and once sent: each ledger has its own, and nothing is left over."""
    for packet in RECEIVED:
        both.run(packet)
    for packet in SENT:
        send(both, packet)

    snapshot = follow(both, 3600).drain()

    expected: dict[Direction, Count] = {"ingress": size(RECEIVED), "egress": size(SENT)}
    assert {direction: ledger.seen for direction, ledger in snapshot.ledgers.items()} == expected
    assert [ledger.difference for ledger in snapshot.ledgers.values()] == [NOTHING, NOTHING]
    live = [snapshot.ledgers[direction].states["live"].packets for direction in DIRECTIONS]
    assert sum(live) == sum(int(flows.packets.sum()) for flows in snapshot.flows.values())
    assert min(live) > 0


def test_expired_flows_stay_in_the_ledger_of_their_direction(both: Datapath) -> None:
    """Flows that have expired, deleted or with their slot taken, are no other direction's."""
    packets = {direction: frame(IPv4(), UDP(), pad_to=100 + 100 * n) for n, direction in enumerate(DIRECTIONS)}
    tracker = follow(both, 0.05)
    for _ in range(3):
        both.run(packets["ingress"])
        send(both, packets["egress"])
        send(both, packets["egress"])
        time.sleep(0.1)

    ledgers = tracker.drain().ledgers
    both.run(packets["ingress"])  # begins anew
    again = tracker.drain().ledgers

    assert states(ledgers) == {"ingress": {"expired": Count(3, 300)}, "egress": {"expired": Count(6, 1200)}}
    assert states(again)["ingress"] == {"expired": Count(3, 300), "live": Count(1, 100)}
    assert states(again)["egress"] == states(ledgers)["egress"]


def states(ledgers: Mapping[Direction, Ledger]) -> dict[Direction, dict[str, Count]]:
    """Return the states that something stands in; the ledgers are exact."""
    assert all(ledger.difference == NOTHING for ledger in ledgers.values())
    return {
        direction: {state: count for state, count in ledger.states.items() if count != NOTHING}
        for direction, ledger in ledgers.items()
    }
