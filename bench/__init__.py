"""Benchmarks, run by hand: ``sudo sh bench/run.sh``. Ratios are between figures of one run on one machine."""
