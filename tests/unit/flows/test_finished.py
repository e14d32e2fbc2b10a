"""FinishedFlows flows are shown while they would have lived, the newest of them, and what was shown is not changed."""

from __future__ import annotations

from cnf.abi import Family
from cnf.clock import WallClock
from cnf.flows.columns import FlowColumns
from cnf.flows.finished import FinishedFlows
from tests.unit.events.test_log import evicted, generations
from tests.unit.samples import CLOCK, JIFFIES, NOW, TICK_NS, Flow

V6 = Flow(src="2001:db8::1", dst="2001:db8::2")
SECOND = 10**9 // TICK_NS


def numbered(*numbers: int, last_seen: int = JIFFIES) -> list[Flow]:
    """Return IPv4 flows told apart by their source port."""
    return [Flow(src_port=number, last_seen=last_seen) for number in numbers]


def shown(
    finished: FinishedFlows, family: Family = "ipv4", idle: float = 60.0, clock: WallClock = CLOCK
) -> FlowColumns:
    """Return the flows of a family that are shown."""
    (flows,) = (part.flows for part in finished.shown(clock, idle) if part.flows.family == family)
    return flows


def ports(finished: FinishedFlows, idle: float = 60.0, clock: WallClock = CLOCK, family: Family = "ipv4") -> list[int]:
    """Return the source ports of the flows that are shown, in order."""
    return list(map(int, shown(finished, family, idle, clock).src_port))


def test_flows_are_shown_by_family_in_order() -> None:
    """Each stands in its own family, the latest last; other events are no flows."""
    finished = FinishedFlows(10)
    finished.add(evicted([*numbered(1), V6, *numbered(2)]))
    finished.add(generations(5))
    assert ports(finished) == [1, 2]
    finished.add(evicted(numbered(3)))
    assert ports(finished) == [1, 2, 3]
    assert ports(finished, family="ipv6") == [V6.src_port]


def test_the_newest_are_kept_of_each_family() -> None:
    """More than there is room for make the oldest go, whether they came at once or one by one; a family no other's."""
    finished = FinishedFlows(3)
    finished.add(evicted([V6, *numbered(*range(100))]))
    assert ports(finished) == [97, 98, 99]
    for number in range(100, 120):
        finished.add(evicted(numbered(number)))
    assert ports(finished) == [117, 118, 119]


def test_a_family_takes_no_room_from_the_other() -> None:
    """However many flows of one family end while nobody asks, the newest of the other are shown."""
    finished = FinishedFlows(3)
    finished.add(evicted(numbered(*range(5))))
    finished.add(evicted([V6] * 50))
    finished.add(evicted(numbered(5)))
    finished.add(evicted([V6] * 2))
    assert ports(finished) == [3, 4, 5]


def test_what_waits_is_bounded() -> None:
    """While nobody asks, no more waits than can be shown."""
    finished = FinishedFlows(3)
    for number in range(1000):
        finished.add(evicted(numbered(number)))
    assert sum(map(len, finished._added["ipv4"])) <= 3  # noqa: SLF001 - nothing else shows it
    assert ports(finished) == [997, 998, 999]


def test_idle_flows_are_forgotten() -> None:
    """A flow is shown for as long as it would have lived without a further packet."""
    finished = FinishedFlows(10)
    finished.add(evicted([*numbered(1, last_seen=JIFFIES - 3 * SECOND), *numbered(2, last_seen=JIFFIES - 2 * SECOND)]))
    assert ports(finished, idle=3.0) == [1, 2]
    later = WallClock(NOW.__class__(JIFFIES + 1, NOW.monotonic + TICK_NS, NOW.boottime, NOW.realtime), TICK_NS)
    assert ports(finished, idle=3.0, clock=later) == [2]
    assert ports(finished, idle=1.0) == []


def test_what_was_shown_is_not_written_again() -> None:
    """Whoever still reads an earlier answer is not disturbed by a later one."""
    finished = FinishedFlows(3)
    finished.add(evicted(numbered(1, 2, 3)))
    before = shown(finished)
    finished.add(evicted(numbered(4, 5)))
    assert ports(finished) == [3, 4, 5]
    assert before.src_port.tolist() == [1, 2, 3]
