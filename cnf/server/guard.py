"""What a scrape runs: all collectors, so that none takes the others with it, and no more series than may be."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from cnf.server.live import Live
from cnf.server.metrics import COLLECTORS
from cnf.server.state import State


class Guard(Collector):
    """Run the collectors. One that fails is a metric and a log line, and the others run all the same."""

    def __init__(self, state: State, live: Live, log: FilteringBoundLogger) -> None:
        """Bound a scrape to as many samples as the settings in ``state`` say."""
        self._state = state
        self._live = live
        self._log = log
        self._lock = threading.Lock()
        self._suppressed = {collector.__name__: 0 for collector in COLLECTORS}

    def collect(self) -> Iterable[Metric]:
        """Yield every family of every collector, then which collectors failed."""
        success = GaugeMetricFamily("cnf_collector_success", "1 if the collector did not fail.", labels=("collector",))
        left = self._state.settings.metrics.max_series
        for collector in COLLECTORS:
            name = collector.__name__
            try:
                families = list(collector(self._state, self._live))
            except Exception as error:  # noqa: BLE001 - the other families must reach Prometheus
                self._log.error("collector failed", collector=name, error=repr(error))
                success.add_metric((name,), 0)
                continue
            for family in families:
                cut = len(family.samples) - max(left, 0)
                if cut > 0:
                    del family.samples[max(left, 0) :]
                    with self._lock:
                        self._suppressed[name] += cut
                left -= len(family.samples)
                yield family
            success.add_metric((name,), 1)
        yield success
        suppressed = CounterMetricFamily(
            "cnf_series_suppressed", "Series left out of scrapes for max_series.", labels=("collector",)
        )
        for name, count in self._suppressed.items():
            suppressed.add_metric((name,), count)
        yield suppressed
