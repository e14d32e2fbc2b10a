"""The answers of cnfd about its limits, as types."""

from __future__ import annotations

from typing import TypedDict

from cnf.cli.api.replies import Amount, Flow, History, Pending, SetError, SourceTable, Timestamp


class Listed(TypedDict):
    """A prefix that is allowed or denied; ``origin`` is "file" or "runtime" here and below.

    Of what the file has, the rest is null; so is ``until`` of what has no end.
    """

    prefix: str
    origin: str
    who: str | None
    since: Timestamp | None
    until: Timestamp | None
    reason: str | None


class DeniedPrefix(Listed):
    """An entry of ``deny``, and what it has dropped; ``sending``: since the drain before the latest."""

    packets: int
    bytes: int
    packets_per_second: float
    bits_per_second: float
    first_seen: Timestamp | None
    last_seen: Timestamp | None
    sending: bool


class Rates(TypedDict):
    """What a rule limits to."""

    packets_per_second: int | None
    burst_packets: int | None
    bits_per_second: int | None
    burst_bytes: int | None


class Rule(Rates):
    """One rule, and the packets that it decided on; ``mode`` is the one in effect.

    ``bursts_left_open`` are the options that nobody has set. Of a rule that was set until a time, ``after`` is what it
    limits to after it, null if it is gone then. Of any other rule this and the rest are null.
    """

    name: str
    origin: str
    prefixes: list[str]
    until: Timestamp | None
    after: Rates | None
    who: str | None
    since: Timestamp | None
    reason: str | None
    bursts_left_open: list[str]
    bucket: str
    protocols: list[str]
    interfaces: list[str]
    mode: str
    passed: Amount
    limited: Amount
    would_limit: Amount


class Denied(TypedDict):
    """How many prefixes are denied, and what all that were have dropped since the start."""

    prefixes: int
    packets: int
    bytes: int


class Limits(TypedDict):
    """The reply to GET /v1/limits; ``removed`` are names of the file's rules, ``sources`` its tables by family."""

    mode: str
    mode_origin: str
    unreadable: str
    generation: int
    allow: list[Listed]
    deny: list[DeniedPrefix]
    denied: Denied
    protected: list[str]
    pending: list[Pending]
    set_errors: list[SetError]
    removed: list[str]
    rules: list[Rule]
    sources: dict[str, SourceTable]


class Change(TypedDict):
    """The reply to POST /v1/limits: what it changed, the mode by now, and what waits to be confirmed."""

    changes: list[str]
    mode: str
    pending: list[Pending]
    protected: list[str]
    generation: int


class Source(TypedDict):
    """One bucket: a source's, or one that all of a prefix shares. Or an entry of ``deny``, which has no rule.

    ``packets`` were within the limit. Of those over it, ``dropped_packets`` were dropped; the others came in shadow.
    ``last_over`` is the latest of both. ``verdict`` names the list that the source is on by now, if it is on one. Rates
    are of all that it sends, between the latest two drains.
    """

    source: str
    shared: bool
    rule: str | None
    set: str | None
    mode: str | None
    verdict: str
    packets: int
    bytes: int
    dropped_packets: int
    dropped_bytes: int
    would_drop_packets: int
    would_drop_bytes: int
    packets_per_second: float
    bits_per_second: float
    tokens_packets: float | None
    tokens_bytes: float | None
    last_over: Timestamp | None
    last_drop: Timestamp | None


class Sources(TypedDict):
    """The reply to /v1/limits/sources: those held back most, of how many in ``total``, and how many have a bucket."""

    sources: list[Source]
    total: int
    buckets: int
    drain_age_seconds: float
    drain_interval_seconds: float
    history: History | None


class PrefixSet(TypedDict):
    """A set of prefixes, and what it has allowed or denied; ``in_shadow``: what came while it only counted.

    ``error`` says why the file that is there is not what is in force.
    """

    name: str
    file: str
    action: str
    mode: str
    prefixes: int
    loaded: Timestamp | None
    refused_lines: int
    error: str | None
    error_since: Timestamp | None
    packets: int
    bytes: int
    in_shadow: Amount


class PrefixSets(TypedDict):
    """The reply to GET /v1/limits/sets."""

    sets: list[PrefixSet]


class Case(TypedDict):
    """The verdict on some of an address's traffic, and why; no bucket is a full one.

    ``entry`` is the one of ``deny`` that decides, ``allow_entry`` that of ``allow``.
    ``set`` is the set of prefixes that decides; ``in_shadow`` says what sets would do that only count.
    """

    interfaces: list[str]
    protocols: list[str]
    verdict: str
    prefix: str | None
    origin: str | None
    rule: Rule | None
    set: str | None
    in_shadow: list[str]
    reason: str
    bucket: Source | None
    entry: DeniedPrefix | None
    allow_entry: Listed | None


class Explanation(TypedDict):
    """The reply to /v1/limits/explain: every case of an address, its largest flows, and what these dropped."""

    address: str
    protocol: str | None
    interface: str | None
    cases: list[Case]
    flows: list[Flow]
    dropped: Amount
