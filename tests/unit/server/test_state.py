"""What the daemon says of itself between two drains, and when it is ready."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from cnf import config
from cnf.counts import Count
from cnf.flows.ledger import Ledger
from cnf.interfaces.reconcile import InterfaceState
from cnf.server import state as module
from cnf.server.state import State
from tests.unit.samples import snapshot


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Have it be as late as ``now`` says."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: 0.0))
    return clock


@pytest.fixture
def state(clock: SimpleNamespace) -> State:
    """Return the state of a daemon that has just started."""
    return State(
        config.for_interfaces(["eth0"]), "command line", {}, started_monotonic=clock.now,
        interfaces=(InterfaceState("eth0", "auto", "attached"),),
    )  # fmt: skip


def drained(state: State, packets: int, octets: int, dropped: int = 0) -> None:
    """Publish a drain by which so much had been received, and twice as many packets sent."""
    received = Ledger(Count(packets, octets), {"dropped": Count(dropped)})
    sent = Ledger(Count(2 * packets, octets), {})
    state.publish(replace(snapshot(), ledgers={"ingress": received, "egress": sent}), {})


def test_rates_are_of_the_time_between_two_drains(state: State, clock: SimpleNamespace) -> None:
    """Packets and bytes a second, of what came since the drain before; at first nobody knows."""
    drained(state, 100, 5000)
    assert state.rates == {"ingress": (0, 0), "egress": (0, 0)}
    clock.now += 4
    drained(state, 300, 45_000)
    assert state.rates == {"ingress": (50, 10_000), "egress": (100, 10_000)}
    assert state.drops == 0
    clock.now += 2
    drained(state, 300, 45_000, dropped=7)
    assert state.drops == 3.5


def test_the_age_is_that_of_the_latest_drain(state: State, clock: SimpleNamespace) -> None:
    """Before there is one, it is as old as the daemon."""
    clock.now += 7
    assert state.drain_age() == 7
    drained(state, 0, 0)
    clock.now += 2
    assert state.drain_age() == 2


def test_a_drain_that_succeeds_ends_the_trouble(state: State) -> None:
    """The error of a drain is shown until the next one is published."""
    state.last_error = "reading map flows4: Cannot allocate memory"
    assert "Cannot allocate memory" in state.summary()
    drained(state, 0, 0)
    assert state.last_error is None
    assert "failing" not in state.summary()


def test_it_is_ready_while_drains_are_fresh(state: State, clock: SimpleNamespace) -> None:
    """With an interface attached, and a drain no older than three intervals."""
    assert state.not_ready() == "no drain yet"
    drained(state, 0, 0)
    interval = state.settings.flows.drain_interval
    clock.now += 3 * interval
    assert state.not_ready() is None
    clock.now += interval / 2
    assert state.not_ready() == f"the latest drain was {3.5 * interval:.1f} s ago"
    drained(state, 0, 0)
    state.interfaces = (InterfaceState("eth0", "auto", "missing"),)
    assert state.not_ready() == "the program is attached to no interface"
