"""Ticks become wall-clock times that are right after steps and suspends, and no age is ever wrong by them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.clock import Clock, Reading, WallClock
from cnf.config import Flows
from cnf.flows.expiry import has_expired
from tests.unit.samples import Flow, columns

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
EARLY_JIFFIES = (1 << 32) - 300 * 250  # where a 64-bit kernel starts to count, linux/jiffies.h
JITTER = 1_000_000


@dataclass
class Machine:
    """A machine's clocks, moved by hand; times in ns."""

    hz: int = 250
    monotonic: int = 5 * HOUR + 123_456_789
    suspended: int = 0
    realtime: int = 1_700_000_000 * SECOND

    @property
    def tick_ns(self) -> int:
        """Return TICK_NSEC."""
        return (SECOND + self.hz // 2) // self.hz

    @property
    def jiffies(self) -> int:
        """Return what a packet is stamped with now."""
        return EARLY_JIFFIES + self.monotonic // self.tick_ns

    def run(self, nanoseconds: int) -> None:
        """Let time pass."""
        self.monotonic += nanoseconds
        self.realtime += nanoseconds

    def suspend(self, nanoseconds: int) -> None:
        """Sleep: ticks and CLOCK_MONOTONIC stand still."""
        self.suspended += nanoseconds
        self.realtime += nanoseconds

    def read(self, jitter: int = 0) -> Reading:
        """Return a reading in which CLOCK_MONOTONIC was read ``jitter`` late."""
        return Reading(self.jiffies, self.monotonic + jitter, self.monotonic + self.suspended, self.realtime)


def wall(clock: WallClock, *stamps: int) -> list[int]:
    """Return the wall-clock times of ``stamps``."""
    times: list[int] = clock.wall_ns(np.array(stamps, np.uint64)).tolist()
    return times


def near(machine: Machine, *times: int, slack: int = JITTER) -> list[object]:
    """Return what a list of times compares equal to that are right but for a tick and the readings' jitter."""
    return [pytest.approx(time, rel=0, abs=machine.tick_ns + slack) for time in times]


@given(
    hz=st.sampled_from([100, 250, 300, 1000]),
    ages=st.lists(st.integers(0, 2 * DAY), min_size=1, max_size=5),
    jitter=st.integers(-JITTER, JITTER),
)
def test_a_stamp_has_the_wall_clock_time_at_which_it_was_taken(hz: int, ages: list[int], jitter: int) -> None:
    """While nobody touches the clocks, a stamp's time is what the wall clock showed then, to the tick."""
    machine = Machine(hz)
    clock = Clock(machine.read(), machine.tick_ns)
    stamps, times = [], []
    for age in ages:
        machine.run(age)
        stamps.append(machine.jiffies)
        times.append(machine.realtime)
    machine.run(SECOND)

    assert wall(clock.observe(machine.read(jitter)), *stamps) == near(machine, *times)


@pytest.mark.parametrize("step", [-HOUR, DAY], ids=["an hour back", "a day ahead"])
def test_times_are_right_after_the_wall_clock_was_set(step: int) -> None:
    """After a step, times from before it are shown as the corrected clock would have shown them."""
    machine = Machine()
    clock = Clock(machine.read(), machine.tick_ns)
    machine.run(10 * SECOND)
    stamp, time = machine.jiffies, machine.realtime
    clock.observe(machine.read())
    machine.realtime += step
    machine.run(5 * SECOND)

    assert wall(clock.observe(machine.read()), stamp, machine.jiffies) == near(machine, time + step, machine.realtime)


def test_a_suspend_between_two_readings_lies_between_times_before_and_after_it() -> None:
    """What was seen before a suspend is older by its length; what is seen after it was noticed is not."""
    machine = Machine()
    clock = Clock(machine.read(), machine.tick_ns)
    machine.run(10 * SECOND)
    before, time_before = machine.jiffies, machine.realtime
    machine.run(SECOND)
    clock.observe(machine.read())
    machine.suspend(8 * HOUR)
    machine.run(SECOND)
    noticing = clock.observe(machine.read())
    machine.run(3 * SECOND)
    after, time_after = machine.jiffies, machine.realtime
    machine.run(SECOND)

    assert wall(noticing, before) == near(machine, time_before)
    assert wall(clock.observe(machine.read()), before, after) == near(machine, time_before, time_after)


@given(st.lists(st.tuples(st.integers(SECOND, HOUR), st.integers(SECOND, DAY)), min_size=1, max_size=6))
def test_suspends_add_up(suspends: list[tuple[int, int]]) -> None:
    """However often the machine sleeps, what was seen between two sleeps keeps its time."""
    machine = Machine()
    clock = Clock(machine.read(), machine.tick_ns)
    stamps, times = [], []
    for awake, asleep in suspends:
        machine.run(awake)
        stamps.append(machine.jiffies)
        times.append(machine.realtime)
        machine.run(SECOND)
        clock.observe(machine.read())
        machine.suspend(asleep)
        machine.run(SECOND // 2)
        clock.observe(machine.read())

    assert wall(clock.observe(machine.read()), *stamps) == near(machine, *times)


@given(
    stamps=st.lists(st.integers(0, 1 << 40), max_size=5),
    now=st.integers(0, 1 << 40),
)
def test_no_age_is_negative(stamps: list[int], now: int) -> None:
    """A stamp taken after the reading is 0 ticks old, any other as old as it is."""
    clock = WallClock(Reading(now, 0, 0, 0), 4_000_000)

    assert clock.age_ticks(np.array(stamps, np.uint64)).tolist() == [max(0, now - stamp) for stamp in stamps]


@pytest.mark.parametrize(("seconds", "jiffies"), [(0, 999), (1, 750), (3.999, 0), (4, 0), (3600, 0)])
def test_jiffies_of_some_time_ago(seconds: float, jiffies: int) -> None:
    """A duration is at least a tick, and no time is before the first one."""
    assert WallClock(Reading(1000, 0, 0, 0), 4_000_000).ago(seconds) == jiffies


@pytest.mark.parametrize("happens", ["an hour back", "a day ahead", "eight hours of sleep"])
def test_flows_do_not_expire_by_what_the_clocks_do(happens: str) -> None:
    """Neither a step nor a suspend makes a flow idle."""
    machine = Machine()
    clock = Clock(machine.read(), machine.tick_ns)
    machine.run(100 * SECOND)
    flows = columns([Flow(last_seen=machine.jiffies), Flow(last_seen=machine.jiffies - 61 * 250)], "ipv4")
    match happens:
        case "an hour back":
            machine.realtime -= HOUR
        case "a day ahead":
            machine.realtime += DAY
        case _:
            machine.suspend(8 * HOUR)
    machine.run(5 * SECOND)

    settings = Flows(idle_timeout=60, ended_timeout=5)
    assert has_expired(flows.last_seen, flows.tcp_flags, clock.observe(machine.read()), settings).tolist() == [
        False,
        True,
    ]


@pytest.mark.parametrize(("seconds", "ticks"), [(0, 1), (0.001, 1), (0.004, 1), (0.007, 2), (1, 250), (60, 15_000)])
def test_a_duration_is_at_least_one_tick(seconds: float, ticks: int) -> None:
    """Seconds become whole ticks, and never none at all."""
    assert WallClock(Machine().read(), 4_000_000).ticks(seconds) == ticks


def test_a_translation_does_not_change_with_the_clock() -> None:
    """A snapshot's times stay as they are, whatever the clock notices later."""
    machine = Machine()
    clock = Clock(machine.read(), machine.tick_ns)
    machine.run(SECOND)
    translation = clock.observe(machine.read())
    shown = wall(translation, machine.jiffies)
    stamp = machine.jiffies
    machine.suspend(HOUR)
    machine.run(SECOND)
    clock.observe(machine.read())

    assert wall(translation, stamp) == shown


@pytest.mark.parametrize(("slept", "suspensions"), [(100_000_000, 0), (100_000_001, 1)])
def test_the_readings_own_jitter_is_no_suspend(slept: int, suspensions: int) -> None:
    """A tenth of a second by which the clocks differ may be the readings', and more is a suspend."""
    machine = Machine()
    clock = Clock(machine.read(), machine.tick_ns)
    machine.suspend(slept)
    assert len(clock.observe(machine.read()).suspensions) == suspensions


def test_a_stamp_of_when_a_suspend_was_noticed_is_after_it() -> None:
    """A stamp of the very moment at which a suspend was noticed is not older by its length."""
    now = Reading(jiffies=1000, monotonic=5 * SECOND, boottime=0, realtime=100 * SECOND)
    clock = WallClock(now, SECOND, ((3 * SECOND, HOUR), (4 * SECOND, DAY)))
    assert wall(clock, 999, 998, 997) == [99 * SECOND, 98 * SECOND - DAY, 97 * SECOND - DAY - HOUR]


def test_text_of_a_time() -> None:
    """A time is written in UTC, with microseconds that are cut and not rounded."""
    clock = WallClock(Reading(10, 0, 0, 1_700_000_000_123_456_999), 1_000_000)
    assert clock.texts(np.array([10, 8], np.uint64)) == ["2023-11-14T22:13:20.123456Z", "2023-11-14T22:13:20.121456Z"]
