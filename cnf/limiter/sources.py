"""The sources that have a bucket: read once a drain, forgotten when idle, and shown by what was held back."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from cnf.abi import ENFORCE, FAMILIES, LIMIT4_KEY, LIMIT_SOURCE, Family
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.counts import Count
from cnf.datapath.blueprint import Table
from cnf.datapath.counters import TableCounters
from cnf.datapath.handover_map import Document
from cnf.errors import UsageError
from cnf.flows.largest import largest
from cnf.limiter.in_force import Denied, SetCounts, SetInForce
from cnf.limiter.maps import SOURCE_KEYS
from cnf.limiter.rates import Rate, Rates, Reading, Sent
from cnf.limiter.source_cache import CacheSources
from cnf.limiter.source_expiry import RULE_BITS, BucketRule, RuleOf, SourceDrain, SourceTable
from cnf.limiter.source_hash import HashSources
from cnf.limits.ruleset import FAMILIES_BY_VERSION
from cnf.limits.table import Network
from cnf.limits.token_bucket import Level, tokens


class LiveSources(Protocol):
    """One family's sources as they stand in the kernel, whatever their table is made of."""

    handover: list[int]
    """Counts that only user space has: the next daemon goes on from there."""

    def get(self, key: Records) -> Records | None:
        """Return the source under ``key``: LIMIT_SOURCE, shape (); None if there is none."""

    def drain(self, clock: WallClock, rule_of: RuleOf) -> SourceDrain:
        """Read the table; sources that are idle are left out.

        Raises:
            MapError: the kernel refused.

        """


TABLES: Final[dict[Table, Callable[[Family, Mapping[str, int], TableCounters, int], LiveSources]]] = {
    "cache": CacheSources,
    "lru_hash": HashSources,
}
SORT_COLUMNS: Final = {
    "over": "over_packets",
    "dropped": "dropped_packets",
    "packets": "packets",
    "bytes": "bytes",
}
UNITS: Final = ("packets", "bytes")
FIELDS: Final = (
    "source",
    "shared",
    "rule",
    "set",
    "mode",
    "verdict",
    "packets",
    "bytes",
    "dropped_packets",
    "dropped_bytes",
    "would_drop_packets",
    "would_drop_bytes",
    "packets_per_second",
    "bits_per_second",
    "tokens_packets",
    "tokens_bytes",
    "last_over",
    "last_drop",
)


class Held(NamedTuple):
    """One bucket, as it was read: LIMIT_SOURCE, shape (). Or an entry of ``deny``, or a set, whose packets are over."""

    source: Network | None
    """None if it is a set."""
    rule: int
    """Its number, and ENFORCE."""
    value: Records
    shared: bool = False
    rate: Rate = Rate()
    set: SetInForce | None = None

    @property
    def in_use(self) -> bool:
        """Whether a packet has come."""
        return bool(self.value["packets"] or self.value["over_packets"])

    @property
    def name(self) -> str:
        """The source as people write it: an address, a prefix, or a set of them."""
        if self.source is None:
            return f"set {self.set.set.name}" if self.set else ""
        return str(self.source.network_address if self.source.num_addresses == 1 else self.source)

    @property
    def sent(self) -> Count:
        """What has come, within the limit and over it."""
        return Count(*(int(self.value[unit]) + int(self.value[f"over_{unit}"]) for unit in UNITS))

    @property
    def held_back(self) -> bool:
        """Whether a packet was over the limit."""
        return bool(self.value["over_packets"])


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """The sources of one drain."""

    clock: WallClock
    before: int
    """Jiffies at the drain before: what was held back since is held back now."""
    tables: Mapping[Family, SourceTable]
    keys: Mapping[Family, Records]
    """LIMIT4_KEY or LIMIT6_KEY, shape (N,), of the sources that have a bucket."""
    values: Mapping[Family, Records]
    """LIMIT_SOURCE, shape (N,)."""
    source_bits: int
    """How many bits of an IPv6 address are one source."""
    rates: Rates = field(default_factory=lambda: Rates(Reading(), None))

    def count(self, *, held_back: bool) -> int:
        """Return the number of sources that have a bucket, or of those of them that were over their limit."""
        return sum(
            int(np.count_nonzero(values["over_packets"])) if held_back else len(values)
            for values in self.values.values()
        )

    def largest(self, column: str, count: int | None, *, held_back: bool = False) -> Iterator[Held]:
        """Yield the ``count`` largest (all if None) by the field ``column``, as they are asked for."""
        families = (self._largest(family, column, count, held_back=held_back) for family in self.values)
        return islice(merge_largest(column, *families), count)

    def held(self, family: Family, row: int | np.integer) -> Held:
        """Return the bucket in a row of ``values``."""
        value = self.values[family][row]
        source, rule = self._network(family, self.keys[family][row]), int(value["decision"]) & RULE_BITS
        return Held(source, rule, value, rate=self.rates.row(family, int(row)))

    def _largest(self, family: Family, column: str, count: int | None, *, held_back: bool) -> Iterator[Held]:
        values = self.values[family]
        rows = np.flatnonzero(values["over_packets"]) if held_back else np.arange(len(values))
        return (self.held(family, row) for row in rows[largest(values[column][rows], count)].tolist())

    def _network(self, family: Family, key: Records) -> Network:
        address = key["addr"].tobytes()
        if family == "ipv4":
            return ipaddress.IPv4Network(address)
        return ipaddress.IPv6Network((address, int(key["part"]) or self.source_bits))


class SourceReader:
    """Read the tables of sources; all but ``get()`` belongs to the main thread."""

    def __init__(self, maps: Mapping[str, int], table: Table, capacity: int) -> None:
        """Take a datapath's maps, descriptors by name, with tables of this kind, each made for ``capacity`` sources."""
        make, counters = TABLES[table], TableCounters(maps)
        self._tables = {family: make(family, maps, counters, capacity) for family in FAMILIES}
        self._before = 0
        self._reading: Reading | None = None

    def hand_over(self) -> Document:
        """Return what the next daemon has to know: what the tables say, by family, and up to when."""
        return {"before": self._before} | {family: table.handover for family, table in self._tables.items()}

    def take_over(self, document: Document | None) -> None:
        """Go on from what ``hand_over()`` returned."""
        if not document:
            return
        before, parts = int(document["before"]), {family: list(map(int, document[family])) for family in self._tables}
        if any(len(parts[family]) != len(table.handover) for family, table in self._tables.items()):
            raise ValueError(f"other numbers than expected: {parts}")
        for family, table in self._tables.items():
            table.handover = parts[family]
        self._before = before

    def get(self, key: Records) -> Records | None:
        """Return the live source under ``key``, LIMIT4_KEY or LIMIT6_KEY: LIMIT_SOURCE, shape (); None if none."""
        return self._tables["ipv4" if key.dtype == LIMIT4_KEY else "ipv6"].get(key)

    def drain(
        self,
        clock: WallClock,
        rule_of: RuleOf,
        source_bits: int,
        others: Mapping[Hashable, Count] = MappingProxyType({}),
    ) -> Sources:
        """Read every table; those that are idle are forgotten. ``others`` are counts that are to have rates, too.

        Raises:
            MapError: the kernel refused a read.

        """
        drains = {family: table.drain(clock, rule_of) for family, table in self._tables.items()}
        sent = {family: Sent.of(drain.keys, drain.values) for family, drain in drains.items()}
        before, self._reading = self._reading, Reading(clock.now.monotonic, sent, others)
        sources = Sources(
            clock,
            self._before,
            {family: drain.table for family, drain in drains.items()},
            {family: drain.keys for family, drain in drains.items()},
            {family: drain.values for family, drain in drains.items()},
            source_bits,
            Rates(self._reading, before),
        )
        self._before = clock.now.jiffies
        return sources


def of_denied(network: Network, denied: Denied, rate: Rate) -> Held:
    """Return an entry of ``deny`` as a bucket that lets nothing pass."""
    return Held(network, 0, _all_over(denied.dropped, denied.dropped, denied.last_seen), rate=rate)


def of_set(found: SetInForce, counts: SetCounts, rate: Rate) -> Held:
    """Return a set that denies, or would, as such a bucket."""
    return Held(None, 0, _all_over(counts.sent, counts.decided, counts.last_drop), rate=rate, set=found)


def _all_over(over: Count, dropped: Count, latest: int) -> Records:
    value = np.zeros((), LIMIT_SOURCE)
    for kind, count in (("over", over), ("dropped", dropped)):
        value[f"{kind}_packets"], value[f"{kind}_bytes"] = count
    value["last_over"] = value["last_drop"] = latest
    return value


def merge_largest(column: str, *sorted_buckets: Iterable[Held]) -> Iterator[Held]:
    """Yield buckets, given in runs of which each has the largest first by the field ``column``, in that order."""
    return merge(*sorted_buckets, key=lambda held: int(held.value[column]), reverse=True)


def sort_column(sort: str) -> str:
    """Return the field that ``sort`` means.

    Raises:
        UsageError: there is no such key to sort by.

    """
    if sort not in SORT_COLUMNS:
        raise UsageError(f"sources cannot be sorted by {sort!r}: expected one of {', '.join(SORT_COLUMNS)}")
    return SORT_COLUMNS[sort]


def describe(
    held: Held, rule_of: RuleOf, listed: tuple[str, str | None] | None, drained: Sources, moment: tuple[int, int]
) -> dict[str, Any]:
    """Return a bucket as a JSON object with the keys of FIELDS; its tokens are those at ``moment``, jiffies and ns.

    ``listed`` is what a list or a set, with its name, says of its source by now: then no packet comes to the bucket any
    more.
    """
    value, rule, found = held.value, rule_of(held.rule & ~ENFORCE), held.set
    if found:
        listed = "denied" if found.mode == "enforce" else "would_limit", found.set.name
    verdict, set_name = listed or (_verdict(value, rule, drained.before), None)
    packets, octets = tokens(rule.words, Level(*value["bucket"].tolist()), *moment) if rule else (None, None)
    # The program counts a packet as over first, and then as dropped: of one that is read in between, it is less.
    would_packets, would_bytes = (max(int(value[f"over_{unit}"]) - int(value[f"dropped_{unit}"]), 0) for unit in UNITS)
    return {
        "source": held.name,
        "shared": held.shared,
        "rule": rule.name if rule else None,
        "set": set_name,
        "mode": rule.mode if rule else found.mode if found else None,
        "verdict": verdict,
        "packets": int(value["packets"]),
        "bytes": int(value["bytes"]),
        "dropped_packets": int(value["dropped_packets"]),
        "dropped_bytes": int(value["dropped_bytes"]),
        "would_drop_packets": would_packets,
        "would_drop_bytes": would_bytes,
        "packets_per_second": round(held.rate.packets, 3),
        "bits_per_second": round(8 * held.rate.bytes, 3),
        "tokens_packets": packets,
        "tokens_bytes": octets,
        "last_over": _moment(value["last_over"], drained),
        "last_drop": _moment(value["last_drop"], drained),
    }


def _verdict(value: Records, rule: BucketRule | None, since: int) -> str:
    """Return what is so of a bucket since the jiffy of the drain before."""
    dropped, over = int(value["last_drop"]), int(value["last_over"])
    if rule and rule.mode == "enforce" and dropped >= max(since, 1):
        return "limited"
    if rule and rule.mode == "shadow" and over >= max(since, 1) and over != dropped:
        return "would_limit"
    return "passed"


def _moment(jiffies: Records, drained: Sources) -> str | None:
    return drained.clock.texts(jiffies.reshape(1))[0] if jiffies else None


def source_key(source: Network, group: int, part: int) -> Records:
    """Return a source's key, shape () of LIMIT4_KEY or LIMIT6_KEY; ``part`` as in ``struct limit_match``."""
    family = FAMILIES_BY_VERSION[source.version]
    key = np.zeros((), SOURCE_KEYS[family])
    key["addr"] = np.frombuffer(source.network_address.packed, key.dtype["addr"].base).reshape(key["addr"].shape)
    key["group"] = group
    if family == "ipv6":
        key["part"] = part
    return key
