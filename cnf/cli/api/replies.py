"""The answers of cnfd as types."""

from __future__ import annotations

from typing import Final, NewType, TypedDict

Timestamp = NewType("Timestamp", str)
"""RFC 3339 with its offset, so that ``datetime.fromisoformat`` returns an aware time."""


class Flow(TypedDict):
    """One flow. Counts are since its first packet; rates are those of the latest drain.

    ``ended`` is "evicted" if a full table has evicted it, and null while it lives.
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


class Pair(Flow):
    """One connection: the flow from its initiator, with the counts of both directions together, and then of each.

    ``forward`` is from the initiator. The direction is that of its flow, and the TCP flags are those of both.
    """

    forward_packets: int
    forward_bytes: int
    forward_bits_per_second: float
    forward_tcp_flags: str
    reverse_packets: int
    reverse_bytes: int
    reverse_bits_per_second: float
    reverse_tcp_flags: str


class Amount(TypedDict):
    """Packets, and the bytes in them."""

    packets: int
    bytes: int


class Ended(TypedDict):
    """Whether there was a capture to end."""

    ended: bool


class Reloaded(TypedDict):
    """The reply of /v1/reload: the source of the settings, and the keys whose new values need a restart."""

    source: str
    restart_only: list[str]


class Block(TypedDict):
    """What the history has of a minute, or about one."""

    begin: Timestamp
    end: Timestamp


class History(Block):
    """What an answer about the past says of all its blocks together, in seconds and, by direction, in packets.

    Of all that was ``seen``, ``listed`` flows had some, ``dropped`` is another part, and ``rest`` all others, with what
    makes ``no_flow``.
    Unless it is ``complete``, flows were left out before they were summed. Blocks that are ``damaged`` are left out.
    """

    seconds: float
    blocks: list[Block]
    damaged: int
    complete: bool
    flow_count: int
    seen: dict[str, Amount]
    listed: dict[str, Amount]
    dropped: dict[str, Amount]
    rest: dict[str, Amount]
    no_flow: dict[str, Amount]


class Listing(TypedDict):
    """What /v1/flows replies beside the largest flows: how many ``matched``, and how many there are in ``total``.

    ``dropped`` is all that limits have dropped; dropped packets make no flow. Of the present, there is no history.
    """

    matched: int
    total: int
    totals: Amount
    dropped: Amount
    drain_age_seconds: float
    drain_interval_seconds: float
    history: History | None


class Flows(Listing):
    """The reply of /v1/flows."""

    flows: list[Flow]


class Pairs(Listing):
    """The reply of /v1/flows?pairs=1, which counts connections."""

    flows: list[Pair]


class Group(TypedDict):
    """Flows that have something in common; what it is stands under the flows' own field names, before the sums.

    ``share`` is of the sum of all groups, of the field that they are sorted by. Of the past, what is in no group is the
    last row: all its names are null, and so are its ``flows``, whose number nobody knows.
    """

    flows: int | None
    packets: int
    bytes: int
    dropped_packets: int
    dropped_bytes: int
    packets_per_second: float
    bits_per_second: float
    share: float


class Groups(Listing):
    """The reply of /v1/flows?by=...; ``matched`` counts groups, and ``total`` all flows."""

    groups: list[Group]
    flows_matched: int | None


class Daemon(TypedDict):
    """The daemon itself."""

    version: str
    pid: int
    started: Timestamp
    uptime_seconds: float
    kernel: str
    bcc_version: str | None
    config: str | None


class Attachment(TypedDict):
    """One direction of an interface that is wanted; without a mode, ``why`` is why it is not counted.

    The ``coverage`` is what was counted, divided by what the driver's statistics have; null where it is not known.
    """

    direction: str
    mode: str | None
    hook: str | None
    program_id: int | None
    why: str
    before: list[str]
    coverage: float | None


class Interface(TypedDict):
    """One interface; ``mode`` and ``program_id`` are those of the first of its ``directions``."""

    name: str
    ifindex: int | None
    mode: str | None
    requested_mode: str
    state: str
    program_id: int | None
    error: str | None
    warning: str | None
    directions: list[Attachment]
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int


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


class States(TypedDict):
    """All packets, or bytes, of one direction by state, and the ``difference``: all less the sum of the states."""

    live: int
    expired: int
    evicted: int
    non_ip: int
    malformed: int
    dropped: int
    insert_error: int
    difference: int


class Tally(States):
    """What was received."""

    received: int


class SentTally(States):
    """What was sent."""

    sent: int


class Drain(TypedDict):
    """The latest drain of the flow tables. Before the first one, there is no duration, and the age is the daemon's."""

    age_seconds: float
    duration_seconds: float | None
    interval_seconds: float
    errors: int
    last_error: str | None


class Rates(TypedDict):
    """Rates of all interfaces together in one direction, between the latest two drains."""

    packets_per_second: float
    bits_per_second: float


class ReceivedRates(Rates):
    """Rates of what is received, and of what limits drop of it."""

    drops_per_second: float


class SourceTable(TypedDict):
    """One address family's table of the limiter, counted in sources."""

    entries: int
    capacity: int
    made_for: int
    evicted: int
    insert_errors: int


class Pending(TypedDict):
    """A change that is undone unless it is confirmed in time, and who made it."""

    number: int
    seconds_left: float
    who: str
    change: str


class SetError(TypedDict):
    """A set of prefixes whose file is not what is in force, and why."""

    name: str
    file: str
    error: str
    since: Timestamp


class Limiter(TypedDict):
    """The limiter at a glance; its tables by family."""

    mode: str
    rules: int
    generation: int
    protected: list[str]
    pending: list[Pending]
    set_errors: list[SetError]
    sources: dict[str, SourceTable]


class ExportFailure(TypedDict):
    """An error of an exporter, and what to do; ``reason`` is the label of the metric."""

    at: Timestamp
    reason: str
    error: str
    remedy: str


class Exporter(TypedDict):
    """An exporter, counted in records; ``failing`` if none has gone out since the latest error."""

    exporter: str
    records: int
    bytes: int
    lost: int
    waiting: int
    failing: bool
    last_error: ExportFailure | None


class HistoryFiles(TypedDict):
    """What the history has, since its oldest minute."""

    folder: str
    oldest: Timestamp | None
    bytes: int
    errors: int


class Records(TypedDict):
    """Flow records: how many the stream has had, what of finished flows is in none, and where they go."""

    stream: int
    made: int
    lost_packets: int
    lost_bytes: int
    exporters: list[Exporter]
    history: HistoryFiles | None


class Status(TypedDict):
    """The reply of /v1/status; until the first drain there is neither flow table (by family) nor ledgers (by unit).

    Where no flow records are made, ``records`` is null. Where the kernel takes no program with limits, ``limiter`` is.
    """

    daemon: Daemon
    interfaces: list[Interface]
    flow_table: dict[str, FlowTable]
    ledger: dict[str, Tally]
    sent_ledger: dict[str, SentTally]
    drain: Drain
    rates: ReceivedRates
    sent_rates: Rates
    records: Records | None
    limiter: Limiter | None


class Refusal(TypedDict):
    """The body of every reply that is an error."""

    error: str
    exit_status: int
