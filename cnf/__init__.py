"""cnf: an XDP flow tracker and packet limiter for a Linux network node."""

__version__ = "0.1.0"
