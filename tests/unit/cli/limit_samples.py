"""Replies of cnfd about its limits that the tests show."""

from __future__ import annotations

from typing import Final, TypedDict

from cnf.cli.api.limit_replies import Case, Change, Denied, DeniedPrefix, Explanation, Limits, Rule, Source, Sources
from cnf.cli.api.replies import Limiter, Pending, SourceTable, Timestamp
from tests.unit.cli.samples import FLOW, NOTHING


class _Entry(TypedDict):
    who: None
    since: None
    until: None
    reason: None


NOBODY_DENIED: Final[Denied] = {"prefixes": 0, "packets": 0, "bytes": 0}
DENIED: Final[Denied] = {"prefixes": 1, "packets": 242_695, "bytes": 14_561_700}

NO_ENTRY: Final[_Entry] = {"who": None, "since": None, "until": None, "reason": None}
DENIED_PREFIX: Final[DeniedPrefix] = {
    "prefix": "198.51.100.0/24",
    "origin": "file",
    **NO_ENTRY,
    "packets": 242_695,
    "bytes": 14_561_700,
    "packets_per_second": 1_200.0,
    "bits_per_second": 576_000.0,
    "first_seen": Timestamp("2026-03-01T11:00:00.000000Z"),
    "last_seen": Timestamp("2026-03-01T11:59:59.000000Z"),
    "sending": True,
}

DEFAULT: Final[Rule] = {
    "name": "default",
    "origin": "file",
    "prefixes": ["0.0.0.0/0", "::/0"],
    "packets_per_second": 10_000,
    "burst_packets": 20_000,
    "bits_per_second": 1_000_000_000,
    "burst_bytes": 4_000_000,
    "bursts_left_open": [],
    "bucket": "source",
    "protocols": [],
    "interfaces": [],
    "mode": "enforce",
    "after": None,
    **NO_ENTRY,
    "passed": {"packets": 8_123_456, "bytes": 9_876_543_210},
    "limited": {"packets": 4_321, "bytes": 6_543_210},
    "would_limit": NOTHING,
}
LOUD: Final[Rule] = {
    **DEFAULT,
    "name": "loud",
    "origin": "runtime",
    "prefixes": ["192.0.2.0/24", *(f"10.0.{i}.0/24" for i in range(12))],
    "packets_per_second": 1,
    "burst_packets": 1,
    "bits_per_second": None,
    "burst_bytes": None,
    "bucket": "prefix",
    "protocols": ["tcp_syn", "udp"],
    "mode": "shadow",
    "passed": {"packets": 77, "bytes": 7_700},
    "limited": NOTHING,
    "would_limit": {"packets": 678, "bytes": 90_123},
}

TABLE: Final[SourceTable] = {
    "entries": 1_234,
    "capacity": 524_288,
    "made_for": 262_144,
    "evicted": 0,
    "insert_errors": 0,
}
FULL: Final[SourceTable] = {**TABLE, "entries": 262_144, "evicted": 12_345, "insert_errors": 3}
PENDING: Final[Pending] = {
    "number": 3,
    "seconds_left": 41.2,
    "who": "uid 0, pid 4711",
    "change": "set default packets_per_second=100",
}
CHANGE: Final[Change] = {
    "changes": ["set default packets_per_second=100"],
    "mode": "shadow",
    "pending": [],
    "protected": [],
    "generation": 8,
}
LIMITS: Final[Limits] = {
    "mode": "enforce",
    "mode_origin": "file",
    "unreadable": "pass",
    "generation": 7,
    "allow": [],
    "deny": [],
    "denied": NOBODY_DENIED,
    "protected": [],
    "pending": [],
    "set_errors": [],
    "removed": [],
    "rules": [DEFAULT],
    "sources": {"ipv4": TABLE},
}
CHANGED: Final[Limits] = {
    **LIMITS,
    "mode_origin": "runtime",
    "unreadable": "drop",
    "generation": 9,
    "allow": [
        {"prefix": "10.0.0.0/8", "origin": "file", **NO_ENTRY},
        {"prefix": "192.0.2.9/32", "origin": "runtime", **NO_ENTRY},
        {"prefix": "fd00::/8", "origin": "file", **NO_ENTRY},
    ],
    "deny": [DENIED_PREFIX],
    "denied": DENIED,
    "protected": ["192.0.2.7/32"],
    "pending": [PENDING, {**PENDING, "number": 5, "seconds_left": 290.0, "change": "mode enforce"}],
    "removed": ["quiet"],
    "rules": [DEFAULT, LOUD],
    "sources": {"ipv4": FULL, "ipv6": TABLE},
}
LIMITER: Final[Limiter] = {
    "mode": "shadow",
    "rules": 1,
    "generation": 7,
    "protected": [],
    "pending": [],
    "set_errors": [],
    "sources": {"ipv4": TABLE},
}

SOURCE: Final[Source] = {
    "source": "192.0.2.66/32",
    "shared": False,
    "rule": "default",
    "set": None,
    "mode": "enforce",
    "verdict": "limited",
    "packets": 12_345,
    "bytes": 1_234_500,
    "dropped_packets": 678,
    "dropped_bytes": 90_123,
    "would_drop_packets": 0,
    "would_drop_bytes": 0,
    "packets_per_second": 25.0,
    "bits_per_second": 20_000.0,
    "tokens_packets": 0.5,
    "tokens_bytes": 1_234.0,
    "last_over": Timestamp("2026-03-01T11:59:57.000000Z"),
    "last_drop": Timestamp("2026-03-01T11:59:57.000000Z"),
}
SHADOW: Final[Source] = {
    **SOURCE,
    "mode": "shadow",
    "verdict": "would_limit",
    "dropped_packets": 0,
    "dropped_bytes": 0,
    "would_drop_packets": 205_000,
    "would_drop_bytes": 20_500_000,
    "last_drop": None,
}
SOURCE6: Final[Source] = {
    **SHADOW,
    "source": "2001:db8:1234:5678::/64",
    "tokens_packets": None,
}
SHARED: Final[Source] = {
    **SHADOW,
    "source": "192.0.2.0/24",
    "shared": True,
    "rule": "loud",
    "verdict": "passed",
    "would_drop_packets": 0,
    "would_drop_bytes": 0,
    "tokens_packets": 1.0,
    "tokens_bytes": None,
    "last_over": None,
}
FORGOTTEN: Final[Source] = {
    **SHARED,
    "source": "192.0.2.1/32",
    "shared": False,
    "rule": None,
    "mode": None,
    "tokens_packets": None,
}


def sources(*chosen: Source, total: int | None = None, buckets: int = 0) -> Sources:
    """Return the reply of /v1/limits/sources with ``chosen``, of ``total``."""
    return {
        "sources": list(chosen),
        "total": len(chosen) if total is None else total,
        "buckets": buckets,
        "drain_age_seconds": 1.2,
        "drain_interval_seconds": 5.0,
        "history": None,
    }


CASE: Final[Case] = {
    "interfaces": ["eth0"],
    "protocols": ["tcp", "udp"],
    "verdict": "limited",
    "prefix": "0.0.0.0/0",
    "origin": "file",
    "rule": DEFAULT,
    "set": None,
    "in_shadow": [],
    "reason": "of the prefixes that hold it, 0.0.0.0/0 is the longest with a rule for this traffic",
    "bucket": SOURCE,
    "entry": None,
    "allow_entry": None,
}
UNLIMITED: Final[Case] = {
    **CASE,
    "protocols": ["icmp"],
    "verdict": "unlimited",
    "prefix": None,
    "origin": None,
    "rule": None,
    "reason": "no prefix that holds it has a rule for this traffic",
    "bucket": None,
}


def explained(*cases: Case, protocol: str | None = None, interface: str | None = None) -> Explanation:
    """Return the reply of /v1/limits/explain with ``cases``, and one flow that dropped some."""
    return {
        "address": "192.0.2.66",
        "protocol": protocol,
        "interface": interface,
        "cases": list(cases),
        "flows": [{**FLOW, "src_addr": "192.0.2.66", "dropped_packets": 678, "dropped_bytes": 90_123}],
        "dropped": {"packets": 678, "bytes": 90_123},
    }
