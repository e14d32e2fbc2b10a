"""Metrics of the daemon's main thread: how drains and reloads went."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Instruments:
    """Metrics that the main thread counts as things happen."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the instruments."""
        self.drain_duration = Histogram(
            "cnf_drain_duration_seconds", "Duration of drains, in seconds.", buckets=_SECONDS, registry=registry
        )
        self.drain_errors = Counter("cnf_drain_errors", "Drains that failed.", registry=registry)
        self.reload_successful = Gauge(
            "cnf_config_last_reload_successful",
            "1 if the latest reading of the configuration succeeded.",
            registry=registry,
        )
        self.reload_time = Gauge(
            "cnf_config_last_reload_success_timestamp_seconds",
            "Time of the latest reading of the configuration that succeeded.",
            registry=registry,
        )
        self.reload_successful.set(1)
        self.reload_time.set_to_current_time()
