"""What is lost is what flows that are gone had counted, less what all records have of them."""

from __future__ import annotations

import numpy as np

from cnf.abi import FLOW_EGRESS
from cnf.arrays import Records
from cnf.counts import Count
from cnf.flows.ledger import NOTHING, Counts
from cnf.flows.lost import EVERY, Lost, Sums
from cnf.flows.records import FLOW_RECORD


def received(packets: int) -> Counts:
    """Return so many packets of 100 bytes, which were received."""
    return {**NOTHING, "ingress": Count(packets, 100 * packets)}


def record(packets: int, flags: int = 0) -> Records:
    """Return a record of so many."""
    records = np.zeros(1, FLOW_RECORD["ipv4"])
    records["packets"], records["bytes"], records["flags"] = packets, 100 * packets, flags
    return records


def test_what_has_no_record_is_lost() -> None:
    """Two looks agree; what is sent has a sum of its own."""
    lost = Lost()
    lost.add([record(5), record(2), record(7, FLOW_EGRESS)])
    sums = Sums(gone=received(9), live=received(1))
    assert lost.look(sums, last=False) == NOTHING
    assert lost.look(sums, last=False) == received(3)
    assert lost.look(sums, last=False) == NOTHING
    assert lost.counts == received(3)


def test_an_event_on_its_way_is_not_lost() -> None:
    """A flow that was booked as gone, and whose event came a drain later, is in a record after all."""
    lost = Lost()
    lost.look(Sums(received(4), NOTHING), last=False)
    lost.add([record(4)])
    lost.look(Sums(received(4), NOTHING), last=False)
    assert lost.counts == NOTHING


def test_the_last_look_is_believed() -> None:
    """Once nothing counts any more, no event is on its way."""
    lost = Lost()
    assert lost.look(Sums(received(4), NOTHING), last=True) == received(4)


def test_the_next_daemon_goes_on() -> None:
    """With what all records have; where that is not known, nothing is lost as of then."""
    first, second, third = Lost(), Lost(), Lost()
    first.add([record(5)])
    first.look(Sums(received(6), NOTHING), last=True)
    second.take_over(first.hand_over())
    second.look(Sums(received(8), NOTHING), last=True)
    assert second.counts == received(3)
    third.take_over(None)
    third.look(Sums(received(6), received(2)), last=True)
    third.add([record(1)])
    third.look(Sums(received(10), NOTHING), last=True)
    assert third.counts == received(1)


def test_when_it_is_looked_for() -> None:
    """At first, at a sign, once in a while, and until two looks agree."""
    lost = Lost()
    asked = [lost.is_to_be_looked_for(*each) for each in ((5.0, 0), (6.0, 0), (7.0, 1), (8.0, 1), (8.0 + EVERY, 1))]
    assert asked == [True, False, True, False, True]
    lost.look(Sums(received(4), NOTHING), last=False)
    assert lost.is_to_be_looked_for(9.0 + EVERY, 1)
