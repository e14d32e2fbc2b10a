"""What the main thread counts is there to be scraped."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from cnf.server.instruments import Instruments


def test_drains_are_counted_and_timed_as_they_happen() -> None:
    """The instruments stand beside the collectors in one registry."""
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    instruments.drain_duration.observe(0.02)
    instruments.drain_errors.inc()

    assert registry.get_sample_value("cnf_drain_duration_seconds_count") == 1
    assert registry.get_sample_value("cnf_drain_duration_seconds_bucket", {"le": "0.025"}) == 1
    assert registry.get_sample_value("cnf_drain_duration_seconds_bucket", {"le": "0.01"}) == 0
    assert registry.get_sample_value("cnf_drain_errors_total") == 1
