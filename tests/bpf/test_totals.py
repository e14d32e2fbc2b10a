"""What interfaces have counted stands under their names, whatever becomes of them, until there are too many names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from cnf.abi import SLOT_COUNTERS
from cnf.datapath.counters import InterfaceCounters
from cnf.interfaces.totals import REMEMBERED_COUNTERS, SHOWN, Tallies
from cnf.kernel.maps import CounterArray
from tests.bpf.conftest import LOOPBACK, Datapath
from tests.bpf.packets import UDP, IPv4, frame

FRAME: Final = frame(IPv4(), UDP())


class Names:
    """The loopback interface under one name after another."""

    def __init__(self, datapath: Datapath) -> None:
        """Begin with no name, at some time."""
        self.now = 1000.0
        self.tallies = Tallies(InterfaceCounters(datapath.loaded.maps), lambda: self.now)
        self._datapath = datapath

    def count(self, name: str, packets: int) -> None:
        """Have the interface count packets under a name."""
        self.tallies.seat(LOOPBACK, name)
        self._datapath.run(FRAME, packets)

    def depart(self) -> None:
        """Have the interface go; another one with its number may come."""
        self.tallies.unseat(LOOPBACK)

    def packets(self) -> dict[str, int]:
        """Return the packets of each name, in alphabetical order."""
        totals = self.tallies.totals()
        return {name: int(totals[name]["packets"].sum()) for name in sorted(totals)}


@pytest.fixture
def names(datapath: Datapath) -> Iterator[Names]:
    """Give each test an interface without a name, and no packets that have no interface."""
    datapath.interfaces.release(LOOPBACK)
    counters = CounterArray("interface_counters", datapath.loaded.maps["interface_counters"])
    last = (
        datapath.interfaces.room * SLOT_COUNTERS
    )  # the slot of interfaces without a slot, in which earlier tests have counted
    for index in range(last, last + SLOT_COUNTERS):
        counters.zero(index)
    names = Names(datapath)
    yield names
    names.tallies.unseat_others()
    if LOOPBACK in names.tallies.seats():
        names.depart()
    datapath.interfaces = InterfaceCounters(datapath.loaded.maps)
    for ifindex in datapath.interfaces.assigned():
        datapath.interfaces.release(ifindex)
    datapath.interfaces.assign(LOOPBACK)


def test_an_interface_with_the_number_of_one_that_was_renamed_counts_from_0(names: Names) -> None:
    """What an earlier one had counted under its earlier names is not taken off from the later one's."""
    names.count("a", 3)
    names.count("b", 2)
    names.depart()
    names.count("c", 1)
    assert names.packets() == {"a": 3, "b": 2, "c": 1}
    names.count("a", 4)
    assert names.packets() == {"a": 7, "b": 2, "c": 1}


def test_the_latest_names_keep_their_series(names: Names) -> None:
    """All do for some minutes, and then the latest to depart; the sum of the others is kept, to the packet."""
    count = REMEMBERED_COUNTERS + 6
    for number in (*range(count), 0):
        names.count(f"n{number}", 1)
        names.depart()
    names.tallies.forget()
    assert names.packets() == dict(sorted({f"n{number}": 1 + (number == 0) for number in range(count)}.items()))

    names.now += SHOWN + 1
    names.tallies.forget()
    assert names.packets() == dict(sorted({f"n{number}": 1 for number in range(7, count)}.items())) | {"n0": 2}
    _totals, departed = names.tallies.all_totals()
    assert departed["packets"].sum() == 6
