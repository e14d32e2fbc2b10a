"""Counters of an exporter tell what has been sent, what waits, and what the latest error is."""

from __future__ import annotations

from cnf.export.counters import ExportCounters


def test_an_error_lasts_until_a_record_goes_out() -> None:
    """Templates alone do not end it; what it was stays to be read."""
    counters = ExportCounters("a", ("refused", "other"))
    assert (counters.failing, counters.failure) == (False, None)
    counters.fail("refused", "Connection refused", "start it")
    counters.sent(0, 500)
    assert counters.failing
    counters.sent(3, 500)
    assert not counters.failing
    assert counters.failure is not None
    assert counters.failure[1:] == ("refused", "Connection refused", "start it")
    assert (counters.records, counters.bytes, counters.errors) == (3, 1000, {"refused": 1, "other": 0})
