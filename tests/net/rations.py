"""Rules that let an exact number of packets through: no time that a test takes gives them another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tests.bpf.packets import UDP, IPv4, IPv6, Layer, frame

SIZE: Final = 200
"""Bytes of each frame here."""
QUICK: Final = {"drain_interval": "100ms"}
"""Table ``[flows]`` of a daemon that tests need not wait for."""
EVERYBODY: Final = ("0.0.0.0/0", "::/0")


def ration(name: str, packets: int, prefixes: Sequence[str] = EVERYBODY, **options: object) -> dict[str, Any]:
    """Return a rule for ``packets`` (at least 8) of a full bucket; the next one would take over three minutes."""
    return {"name": name, "prefixes": [*prefixes], "bits_per_second": 8, "burst_bytes": packets * SIZE, **options}


def enforce(*rules: dict[str, Any], **options: object) -> dict[str, Any]:
    """Return the table ``[limits]`` with these rules in earnest."""
    return {"mode": "enforce", "rules": [*rules], **options}


def packet(source: str, layer: Layer | None = None) -> bytes:
    """Return a frame from an address: UDP, or ``layer``."""
    return frame(IPv6(source) if ":" in source else IPv4(source), layer or UDP(), pad_to=SIZE)


def limits_of(limits: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the rule ``name`` of what ``cnfctl limits -o json`` shows."""
    (rule,) = (rule for rule in limits["rules"] if rule["name"] == name)
    return dict(rule)


def verdicts(limits: dict[str, Any], name: str) -> tuple[int, int, int]:
    """Return the packets that a rule passed, limited and would have limited; their bytes must be to match."""
    counts = [limits_of(limits, name)[verdict] for verdict in ("passed", "limited", "would_limit")]
    assert all(count["bytes"] == count["packets"] * SIZE for count in counts)
    passed, limited, would_limit = (count["packets"] for count in counts)
    return passed, limited, would_limit
