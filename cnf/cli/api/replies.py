"""What cnfd answers, as types, and the check that an answer is of its type."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from types import UnionType
from typing import Final, NewType, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

Timestamp = NewType("Timestamp", str)
"""RFC 3339 with its offset, so that ``datetime.fromisoformat`` returns an aware time."""

_LARGEST: Final = 1e24
"""Far above all that 64-bit counters can hold, and no number below it (so no infinity, no NaN) breaks arithmetic."""


class Flow(TypedDict):
    """One flow; numbers are totals since it was first seen, rates are those of the latest drain.

    ``ended`` is "evicted" if a full table has let it go, and null while it lives.
    """

    interface: str
    direction: str
    protocol: str
    src_addr: str
    src_port: int | None
    dst_addr: str
    dst_port: int | None
    icmp_type: int | None
    icmp_code: int | None
    vlan: int | None
    fragment: bool
    packets: int
    bytes: int
    dropped_packets: int
    dropped_bytes: int
    packets_per_second: float
    bits_per_second: float
    tcp_flags: str
    first_seen: Timestamp
    last_seen: Timestamp
    ended: str | None


class Amount(TypedDict):
    """Packets, and the bytes in them."""

    packets: int
    bytes: int


class Reloaded(TypedDict):
    """The reply of /v1/reload: where the settings came from, and which keys of them change at a restart only."""

    source: str
    restart_only: list[str]


class Flows(TypedDict):
    """The reply of /v1/flows: the top flows, of how many that ``matched``, of how many in ``total``.

    ``dropped`` is what limits have dropped in all: it made no flow.
    """

    flows: list[Flow]
    matched: int
    total: int
    totals: Amount
    dropped: Amount
    drain_age_seconds: float
    drain_interval_seconds: float


class Daemon(TypedDict):
    """Who answers."""

    version: str
    pid: int
    started: Timestamp
    uptime_seconds: float
    kernel: str
    bcc_version: str | None
    config: str | None


class Interface(TypedDict):
    """One interface; ``mode`` is the one really in use."""

    name: str
    ifindex: int | None
    mode: str | None
    requested_mode: str
    state: str
    program_id: int | None
    error: str | None
    warning: str | None
    received_packets: int
    received_bytes: int


class FlowTable(TypedDict):
    """One address family's flow table, counted in flows."""

    entries: int
    capacity: int
    made_for: int
    created: int
    expired: int
    evicted: int
    insert_errors: int


LEDGER_STATES: Final = ("live", "expired", "evicted", "non_ip", "malformed", "dropped", "insert_error")


class Tally(TypedDict):
    """What was received, where it stands now, and the ``difference``: received less the sum of the states."""

    received: int
    live: int
    expired: int
    evicted: int
    non_ip: int
    malformed: int
    dropped: int
    insert_error: int
    difference: int


class Drain(TypedDict):
    """The latest drain of the flow tables, or no duration and the age of the daemon."""

    age_seconds: float
    duration_seconds: float | None
    interval_seconds: float
    errors: int
    last_error: str | None


class Rates(TypedDict):
    """What all interfaces together received, by the latest drain."""

    packets_per_second: float
    bits_per_second: float


class SourceTable(TypedDict):
    """One address family's table of the limiter, counted in sources."""

    entries: int
    capacity: int
    made_for: int
    evicted: int
    insert_errors: int


class Pending(TypedDict):
    """What was changed, by whom, and is taken back unless it is confirmed in time."""

    seconds_left: float
    who: str
    changes: list[str]


class Limiter(TypedDict):
    """The limiter at a glance; its tables by family."""

    mode: str
    rules: int
    generation: int
    protected: list[str]
    pending: Pending | None
    sources: dict[str, SourceTable]


class Status(TypedDict):
    """The reply of /v1/status; until the first drain there is neither flow table (by family) nor ledger (by unit).

    Without a table ``[limits]`` in the daemon's configuration there is no limiter.
    """

    daemon: Daemon
    interfaces: list[Interface]
    flow_table: dict[str, FlowTable]
    ledger: dict[str, Tally]
    drain: Drain
    rates: Rates
    limiter: Limiter | None


class Refusal(TypedDict):
    """The body of every reply that is an error."""

    error: str
    exit_status: int


def check(value: object, kind: object, path: str = "reply") -> None:
    """Raise ValueError, naming the culprit's path, unless ``value`` is what ``kind`` says; further keys are fine."""
    if get_origin(kind) in {Union, UnionType}:  # "... | None" is the only union among the replies
        if value is None:
            return
        kind = get_args(kind)[0]
    for key, part, part_kind in _parts(value, kind, path):
        check(part, part_kind, f"{path}.{key}")


def _parts(value: object, kind: object, path: str) -> Iterable[tuple[object, object, object]]:
    """Return the parts of ``value``, itself of the right kind, each with its key and the kind it should have."""
    if isinstance(value, dict) and is_typeddict(kind):
        kinds = _keys(kind)
        if missing := kinds.keys() - value.keys():
            message = f"{path} has no {min(missing)}"
            raise ValueError(message)
        return ((key, value[key], kinds[key]) for key in kinds)
    if isinstance(value, dict) and get_origin(kind) is dict:
        return ((key, part, get_args(kind)[1]) for key, part in value.items())
    if isinstance(value, list) and get_origin(kind) is list:
        return ((index, part, get_args(kind)[0]) for index, part in enumerate(value))
    if _is_scalar(value, kind):
        return ()
    message = f"{path} is {value!r:.40}"
    raise ValueError(message)


def _is_scalar(value: object, kind: object) -> bool:
    if kind is Timestamp:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    if kind is float:
        return isinstance(value, int | float) and abs(value) < _LARGEST
    if kind is int:
        return isinstance(value, int) and abs(value) < _LARGEST
    return kind is type(value)


@cache
def _keys(kind: object) -> dict[str, object]:
    return get_type_hints(kind)
