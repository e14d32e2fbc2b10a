"""Replies of cnfd that the tests show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, cast

from cnf.cli.api.replies import (
    Amount,
    Flow,
    Flows,
    FlowTable,
    Groups,
    Interface,
    Pair,
    Pairs,
    SentTally,
    Status,
    Tally,
    Timestamp,
)

NOW: Final = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)

NOTHING: Final[Amount] = {"packets": 0, "bytes": 0}
FLOW: Final[Flow] = {
    "interface": "eth0",
    "direction": "ingress",
    "protocol": "tcp",
    "src_addr": "192.168.100.200",
    "src_port": 51234,
    "dst_addr": "10.0.0.1",
    "dst_port": 443,
    "icmp_type": None,
    "icmp_code": None,
    "vlan": None,
    "fragment": False,
    "packets": 8_123_456,
    "bytes": 9_876_543_210,
    "dropped_packets": 0,
    "dropped_bytes": 0,
    "packets_per_second": 12_345.6,
    "bits_per_second": 123_400_000.0,
    "tcp_flags": "SAP",
    "first_seen": Timestamp("2026-03-01T11:57:30.000000Z"),
    "last_seen": Timestamp("2026-03-01T11:59:56.500000Z"),
    "ended": None,
}
_QUIET: Final[Flow] = {**FLOW, "packets_per_second": 0.0, "bits_per_second": 0.0, "tcp_flags": ""}
_PORTLESS: Final[Flow] = {**_QUIET, "src_port": None, "dst_port": None}

DNS6: Final[Flow] = {
    **_QUIET,
    "interface": "ens5f0np0",
    "protocol": "udp",
    "src_addr": "2001:db8:1234:5678:9abc:def0:1234:5678",
    "src_port": 40000,
    "dst_addr": "2001:db8::1",
    "dst_port": 53,
    "vlan": 100,
    "packets": 1_234,
    "bytes": 98_765,
    "packets_per_second": 2.4,
    "bits_per_second": 12_340.0,
}
PING: Final[Flow] = {
    **_PORTLESS,
    "protocol": "icmp",
    "src_addr": "10.0.0.7",
    "icmp_type": 8,
    "icmp_code": 0,
    "packets": 12,
    "bytes": 1_176,
    "bits_per_second": 784.0,
}
NEIGHBOR: Final[Flow] = {
    **_PORTLESS,
    "protocol": "icmpv6",
    "src_addr": "fe80::1",
    "dst_addr": "ff02::1:ff00:2",
    "icmp_type": 135,
    "icmp_code": 0,
    "packets": 1,
    "bytes": 86,
}
FRAGMENT: Final[Flow] = {
    **_QUIET,
    "protocol": "udp",
    "src_addr": "10.0.0.9",
    "src_port": 0,
    "dst_port": 0,
    "fragment": True,
    "packets": 44,
    "bytes": 66_616,
}
OSPF: Final[Flow] = {
    **_PORTLESS,
    "protocol": "89",
    "src_addr": "10.0.0.2",
    "dst_addr": "224.0.0.5",
    "packets": 3,
    "bytes": 282,
}


PAIR: Final[Pair] = {
    **FLOW,
    "direction": "egress",
    "packets": 1_500,
    "bytes": 1_234_567,
    "forward_packets": 500,
    "forward_bytes": 33_000,
    "forward_bits_per_second": 12_000.0,
    "forward_tcp_flags": "SAP",
    "reverse_packets": 1_000,
    "reverse_bytes": 1_201_567,
    "reverse_bits_per_second": 3_400_000.0,
    "reverse_tcp_flags": "SAP",
}


GROUP: Final[dict[str, Any]] = {
    "src_addr": "192.168.100.200",
    "dst_port": 443,
    "flows": 16_384,
    "packets": 34_567_890,
    "bytes": 44_900_000_000,
    "dropped_packets": 0,
    "dropped_bytes": 0,
    "packets_per_second": 12_345.6,
    "bits_per_second": 125_000_000.0,
    "share": 0.835,
}


def groups(*chosen: dict[str, Any], total: int = 16_385) -> Groups:
    """Return the reply of /v1/flows?by=src,port with ``chosen``, the largest of 1,234 groups."""
    listing = {**flows(matched=1_234, total=total), "groups": list(chosen), "flows_matched": 16_385}
    listing["totals"] = {"packets": 1, "bytes": 10_000_000_000}
    return cast("Groups", listing)


def pairs(*chosen: Pair) -> Pairs:
    """Return the reply of /v1/flows?pairs=1 with ``chosen``."""
    return {**flows(*chosen), "flows": list(chosen)}


def flows(*chosen: Flow, matched: int | None = None, total: int | None = None, dropped: Amount = NOTHING) -> Flows:
    """Return the reply of /v1/flows with ``chosen``, the largest of ``matched`` flows; each other has 100 kB."""
    matched = len(chosen) if matched is None else matched
    hidden = matched - len(chosen)
    return {
        "flows": list(chosen),
        "matched": matched,
        "total": matched if total is None else total,
        "totals": {
            "packets": sum(flow["packets"] for flow in chosen) + hidden,
            "bytes": sum(flow["bytes"] for flow in chosen) + 100_000 * hidden,
        },
        "dropped": dropped,
        "drain_age_seconds": 1.2,
        "drain_interval_seconds": 5.0,
        "history": None,
    }


ATTACHED: Final[Interface] = {
    "name": "eth0",
    "ifindex": 2,
    "mode": "native",
    "requested_mode": "auto",
    "state": "attached",
    "program_id": 117,
    "error": None,
    "warning": None,
    "directions": [
        {
            "direction": "ingress",
            "mode": "native",
            "hook": "xdp",
            "program_id": 117,
            "why": "its driver runs it",
            "before": [],
            "coverage": 1.0,
        },
        {
            "direction": "egress",
            "mode": "tc",
            "hook": "tcx",
            "program_id": 118,
            "why": "XDP does not see what goes out",
            "before": [],
            "coverage": None,
        },
    ],
    "received_packets": 1_234_567,
    "received_bytes": 987_654_321,
    "sent_packets": 345_678,
    "sent_bytes": 234_567_890,
}
MISSING: Final[Interface] = {
    **ATTACHED,
    "name": "ens5",
    "ifindex": None,
    "mode": None,
    "state": "missing",
    "program_id": None,
    "directions": [],
    "received_packets": 0,
    "received_bytes": 0,
    "sent_packets": 0,
    "sent_bytes": 0,
}
REFUSED: Final[Interface] = {
    **MISSING,
    "name": "ens6",
    "ifindex": 4,
    "state": "refused",
    "error": "the foreign XDP program 9 is on it",
}


def table(entries: int, *, evicted: int = 0) -> FlowTable:
    """Return a flow table of the default size."""
    return {
        "entries": entries,
        "capacity": 524_288,
        "made_for": 262_144,
        "created": entries + 1_000 + evicted,
        "expired": 1_000,
        "evicted": evicted,
        "insert_errors": 0,
    }


def tally(received: int, *, difference: int = 0) -> Tally:
    """Return a tally in which ``difference`` came during the drain."""
    return {
        "received": received,
        "live": received - difference - 1_060,
        "expired": 1_000,
        "evicted": 0,
        "non_ip": 60,
        "malformed": 0,
        "dropped": 0,
        "insert_error": 0,
        "difference": difference,
    }


def sent_tally(sent: int) -> SentTally:
    """Return a tally of what was sent, all of which is live."""
    states = {"expired": 0, "evicted": 0, "non_ip": 0, "malformed": 0, "dropped": 0, "insert_error": 0}
    return {"sent": sent, "live": sent, **states, "difference": 0}  # type: ignore[typeddict-item]


STATUS: Final[Status] = {
    "daemon": {
        "version": "0.1.0",
        "pid": 4242,
        "started": Timestamp("2026-03-01T08:55:00.000000Z"),
        "uptime_seconds": 11_100.0,
        "kernel": "6.18.0",
        "bcc_version": "0.31.0",
        "config": "/etc/cnf/cnf.toml",
    },
    "interfaces": [ATTACHED],
    "flow_table": {"ipv4": table(123_456), "ipv6": table(678)},
    "ledger": {"packets": tally(1_234_567), "bytes": tally(987_654_321)},
    "sent_ledger": {"packets": sent_tally(345_678), "bytes": sent_tally(234_567_890)},
    "drain": {
        "age_seconds": 1.2,
        "duration_seconds": 0.0123,
        "interval_seconds": 5.0,
        "errors": 0,
        "last_error": None,
    },
    "rates": {"packets_per_second": 12_345.6, "bits_per_second": 123_400_000.0, "drops_per_second": 12.0},
    "sent_rates": {"packets_per_second": 345.6, "bits_per_second": 2_340_000.0},
    "records": None,
    "limiter": None,
}
