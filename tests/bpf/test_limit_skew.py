"""CPUs whose clocks differ: a bucket that sees time go back and forth gives no more for that."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from cnf.limits.token_bucket import SECOND_NS, Meter
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import Clocked
from tests.bpf.test_limit_bucket import FRAMES, rule

CPUS = 4


@settings(max_examples=200, deadline=None)
@given(
    rate=st.sampled_from([1, 100, 10_000, 1_000_000]),
    burst=st.integers(1, 100),
    family=st.sampled_from(sorted(FRAMES)),
    skews=st.lists(st.integers(0, 20_000_000), min_size=CPUS, max_size=CPUS),
    arrivals=st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, CPUS - 1), st.integers(1, 30)), max_size=30),
)
def test_clocks_that_differ_bring_nothing(  # noqa: PLR0913 - what Hypothesis draws
    clocked: Clocked, *, rate: int, burst: int, family: str, skews: list[int], arrivals: list[tuple[int, int, int]]
) -> None:
    """No more is admitted than burst + rate x time, from the earliest time that a CPU saw to the latest."""
    clocked.start(rule(Meter(rate, burst, 1), None))
    times = list(accumulate((gap for gap, _, _ in arrivals), initial=clocked.now))[1:]
    seen = [now + skews[cpu] for now, (_, cpu, _) in zip(times, arrivals, strict=True)]
    admitted = 0
    for now, (_, _, count) in zip(seen, arrivals, strict=True):
        clocked.show(now)
        admitted += sum(clocked.run(FRAMES[family]) == XDP_PASS for _ in range(count))
    elapsed = Fraction(max(seen, default=0) - min(seen, default=0) + clocked.tick_ns, SECOND_NS)
    assert admitted <= rate * elapsed + burst


def test_a_clock_that_is_behind_finds_the_bucket_as_it_is(clocked: Clocked) -> None:
    """A CPU behind the others gets nothing from an empty bucket, up to a second, and costs it nothing."""
    clocked.start(rule(Meter(10, 5, 1), None))
    clocked.show(start := clocked.now + 60 * SECOND_NS)
    assert [clocked.run(FRAMES["ipv4"]) for _ in range(6)].count(XDP_PASS) == 5
    for behind in (1, clocked.tick_ns, 50_000_000, SECOND_NS):
        clocked.show(start - behind)
        assert clocked.run(FRAMES["ipv4"]) != XDP_PASS
    clocked.show(start + SECOND_NS // 10)
    assert [clocked.run(FRAMES["ipv4"]) for _ in range(2)].count(XDP_PASS) == 1
