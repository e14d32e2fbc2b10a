"""A scrape is whole and valid whatever one part of it does, and never larger than it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from structlog.testing import capture_logs

from cnf import config
from cnf.arrays import Records
from cnf.server import guard as module
from cnf.server.live import Live
from cnf.server.metrics import COLLECTORS
from cnf.server.state import State
from tests.unit.scraped import UNLIMITED, bounded, daemon, scrape, scraped, values

Collect = Callable[[State, Live], Iterator[Metric]]


@pytest.mark.parametrize("broken", COLLECTORS, ids=lambda collector: collector.__name__)
def test_a_collector_that_fails_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch, broken: Collect) -> None:
    """The others' families are all there; the failure is a metric and a log line."""

    def failing(state: State, live: Live) -> Iterator[Metric]:
        yield next(iter(broken(state, live)))
        message = "no such luck"
        raise RuntimeError(message)

    failing.__name__ = broken.__name__
    whole = scraped(daemon())
    monkeypatch.setattr(module, "COLLECTORS", tuple(failing if each is broken else each for each in COLLECTORS))
    with capture_logs() as logs:
        samples = scraped(daemon())

    families = {f"{family.name}{'_total' * (family.type == 'counter')}" for family in broken(*daemon())}
    assert samples.keys() == whole.keys() - families
    assert values(samples, "cnf_collector_success") == {
        (collector.__name__,): float(collector is not broken) for collector in COLLECTORS
    }
    assert [(line["event"], line["collector"]) for line in logs] == [("collector failed", broken.__name__)]
    assert "no such luck" in logs[0]["error"]


def test_counters_that_cannot_be_read_fail_alone() -> None:
    """When the kernel refuses the live counters, all that comes from the snapshot is still served."""

    def refused() -> Mapping[str, Records]:
        message = "map interface_counters"
        raise PermissionError(message)

    samples = scraped(daemon(totals=refused))

    assert values(samples, "cnf_collector_success")[("received",)] == 0
    assert values(samples, "cnf_ledger_packets")["ingress", "live"] == 8


@given(left=st.integers(1, 160))
def test_a_scrape_has_no_more_series_than_it_may(left: int) -> None:
    """What is left out is the end of the list, and is counted under its collector."""
    whole, cut = scraped(daemon()), scraped(daemon(), left)
    guards_own = {"cnf_collector_success", "cnf_series_suppressed_total"}
    suppressed = values(cut, "cnf_series_suppressed_total")
    kept = sum(len(found) for name, found in cut.items() if name not in guards_own)
    total = sum(len(found) for name, found in whole.items() if name not in guards_own)

    assert kept == min(left, total)
    assert sum(suppressed.values()) == total - kept
    assert all(found.keys() <= whole[name].keys() for name, found in cut.items())
    assert suppressed.keys() == {(collector.__name__,) for collector in COLLECTORS}
    assert values(cut, "cnf_build_info") or left < 2


def test_suppressed_series_are_a_counter() -> None:
    """Each scrape adds what it left out; a limit that is raised takes effect at the next."""
    shown = daemon()
    guard = bounded(shown, 10)
    once = sum(values(scrape(guard), "cnf_series_suppressed_total").values())
    twice = sum(values(scrape(guard), "cnf_series_suppressed_total").values())
    shown[0].settings = attrs.evolve(shown[0].settings, metrics=config.Metrics(max_series=UNLIMITED))
    thrice = sum(values(scrape(guard), "cnf_series_suppressed_total").values())

    assert once > 0
    assert (twice, thrice) == (2 * once, 2 * once)
