"""FinishedFlows flows are shown while they would have lived, the newest of them, and what was shown is not changed."""

from __future__ import annotations

from cnf.abi import Family
from cnf.clock import WallClock
from cnf.flows.finished import FinishedFlows
from tests.unit.events.test_log import evicted, generations
from tests.unit.samples import CLOCK, JIFFIES, NOW, TICK_NS, Flow

V6 = Flow(src="2001:db8::1", dst="2001:db8::2")
SECOND = 10**9 // TICK_NS


def numbered(*numbers: int, last_seen: int = JIFFIES) -> list[Flow]:
    """Return IPv4 flows told apart by their source port."""
    return [Flow(src_port=number, last_seen=last_seen) for number in numbers]


def ports(ended: FinishedFlows, idle: float = 60.0, clock: WallClock = CLOCK, family: Family = "ipv4") -> list[int]:
    """Return the source ports of the flows that are shown, in order."""
    return list(map(int, ended.shown(clock, idle)[family].src_port))


def test_flows_are_shown_by_family_as_they_ended() -> None:
    """Each stands in its own family, the latest last; other events are no flows."""
    ended = FinishedFlows(10)
    ended.add(evicted([*numbered(1), V6, *numbered(2)]))
    ended.add(generations(5))
    assert ports(ended) == [1, 2]
    ended.add(evicted(numbered(3)))
    assert ports(ended) == [1, 2, 3]
    assert ports(ended, family="ipv6") == [V6.src_port]


def test_the_newest_are_kept_of_each_family() -> None:
    """More than there is room for make the oldest go, whether they came at once or one by one; a family no other's."""
    ended = FinishedFlows(3)
    ended.add(evicted([V6, *numbered(*range(100))]))
    assert ports(ended) == [97, 98, 99]
    for number in range(100, 120):
        ended.add(evicted(numbered(number)))
    assert ports(ended) == [117, 118, 119]


def test_a_family_takes_no_room_from_the_other() -> None:
    """However many flows of one family end while nobody asks, the newest of the other are shown."""
    ended = FinishedFlows(3)
    ended.add(evicted(numbered(*range(5))))
    ended.add(evicted([V6] * 50))
    ended.add(evicted(numbered(5)))
    ended.add(evicted([V6] * 2))
    assert ports(ended) == [3, 4, 5]


def test_what_waits_is_bounded() -> None:
    """While nobody asks, no more waits than can be shown."""
    ended = FinishedFlows(3)
    for number in range(1000):
        ended.add(evicted(numbered(number)))
    assert sum(map(len, ended._added["ipv4"])) <= 3  # noqa: SLF001 - nothing else shows it
    assert ports(ended) == [997, 998, 999]


def test_idle_flows_are_forgotten() -> None:
    """A flow is shown for as long as it would have lived without a further packet."""
    ended = FinishedFlows(10)
    ended.add(evicted([*numbered(1, last_seen=JIFFIES - 3 * SECOND), *numbered(2, last_seen=JIFFIES - 2 * SECOND)]))
    assert ports(ended, idle=3.0) == [1, 2]
    later = WallClock(NOW.__class__(JIFFIES + 1, NOW.monotonic + TICK_NS, NOW.boottime, NOW.realtime), TICK_NS)
    assert ports(ended, idle=3.0, clock=later) == [2]
    assert ports(ended, idle=1.0) == []


def test_what_was_shown_is_not_written_again() -> None:
    """Whoever still reads an earlier answer is not disturbed by a later one."""
    ended = FinishedFlows(3)
    ended.add(evicted(numbered(1, 2, 3)))
    before = ended.shown(CLOCK, 60.0)["ipv4"]
    ended.add(evicted(numbered(4, 5)))
    assert ports(ended) == [3, 4, 5]
    assert before.src_port.tolist() == [1, 2, 3]
