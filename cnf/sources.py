"""The sources that have a bucket: read once a drain, forgotten when idle, and shown by what was held back."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from cnf.bucket import Level, Words, tokens
from cnf.clock import WallClock
from cnf.errors import UsageError
from cnf.flows import Mask, largest
from cnf.kernel.counters import TableCounters
from cnf.kernel.limiter import SOURCE_KEYS
from cnf.kernel.maps import FlowMap, Records
from cnf.kernel.memory import Document
from cnf.limits import FAMILIES_BY_VERSION
from cnf.records import ENFORCE, Family
from cnf.rules import Network

SORT_COLUMNS: Final = {"dropped": "over_packets", "packets": "packets", "bytes": "bytes"}
FIELDS: Final = (
    "source",
    "shared",
    "rule",
    "mode",
    "verdict",
    "packets",
    "bytes",
    "dropped_packets",
    "dropped_bytes",
    "tokens_packets",
    "tokens_bytes",
    "last_drop",
)

IDLE: Final = 60.0
"""Seconds without a packet after which a source is forgotten, if its bucket is full by then."""

HELD_BACK_IDLE: Final = 3600.0
"""Seconds for which one that was held back is remembered, to be shown."""

RULE_BITS: Final = 0xFFFFFF
HOME_SHIFT: Final = 24
"""Where DECISION() of limiter.h has the rule's number with ENFORCE, and the group whose slot holds the bucket."""


class BucketRule(NamedTuple):
    """What a number in a source's decision stands for."""

    name: str
    words: Words


RuleOf = Callable[[int], BucketRule | None]
"""Returns what a rule's number stands for; None for one that is not in force any more."""


class Held(NamedTuple):
    """One bucket, as it was read: LIMIT_SOURCE, shape ()."""

    source: Network
    rule: int
    """Its number, and ENFORCE."""
    value: Records
    shared: bool = False


@dataclass(frozen=True, slots=True)
class SourceTable:
    """One family's table of sources."""

    entries: int
    capacity: int
    evicted: int
    insert_errors: int


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

    def __len__(self) -> int:
        """Return the number of sources that have a bucket."""
        return sum(map(len, self.values.values()))

    def largest(self, column: str, count: int | None) -> Iterator[Held]:
        """Yield each family's ``count`` largest (all if None) by the field ``column``."""
        for family, values in self.values.items():
            for row in largest(values[column], count):
                source, rule = self._network(family, self.keys[family][row]), int(values["decision"][row]) & RULE_BITS
                yield Held(source, rule, values[row])

    def _network(self, family: Family, key: Records) -> Network:
        address = key["addr"].tobytes()
        if family == "ipv4":
            return ipaddress.IPv4Network(address)
        return ipaddress.IPv6Network((address, int(key["part"]) or self.source_bits))


class SourceReader:
    """Read the tables of sources; belongs to the main thread."""

    def __init__(self, maps: Mapping[Family, FlowMap], counters: TableCounters, capacity: int) -> None:
        """Take the tables, each of ``capacity`` sources."""
        self._maps = maps
        self._counters = counters
        self._capacity = capacity
        self._deleted = dict.fromkeys(maps, 0)
        self._evicted = dict.fromkeys(maps, 0)
        self._before = 0

    def memory(self) -> Document:
        """Return what the next daemon has to know: how many were deleted and evicted, by family, and up to when."""
        document: Document = {"before": self._before}
        for family in self._maps:
            document[family] = [self._deleted[family], self._evicted[family]]
        return document

    def remember(self, document: Document) -> None:
        """Go on from what ``memory()`` returned."""
        for family in self._maps.keys() & document.keys():
            self._deleted[family], self._evicted[family] = document[family]
        self._before = document.get("before", 0)

    def drain(self, clock: WallClock, rule_of: RuleOf, source_bits: int) -> Sources:
        """Read every table, and forget the sources that are idle.

        Raises:
            MapError: the kernel refused a read.

        """
        tables, keys, values = {}, {}, {}
        for family, table in self._maps.items():
            inserted = self._counters.read_sources(family)
            all_keys, all_values = _walk(table)
            evicted = inserted.inserted - self._deleted[family] - len(all_keys)
            self._evicted[family] = max(self._evicted[family], evicted)
            over = _idle(all_values, clock, rule_of)
            self._deleted[family] += _forget(table, all_keys[over], all_values[over])
            chosen = ~over & _has_bucket(all_keys, all_values)
            keys[family], values[family] = all_keys[chosen], all_values[chosen]
            tables[family] = SourceTable(
                entries=int(np.count_nonzero(~over)),
                capacity=self._capacity,
                evicted=self._evicted[family],
                insert_errors=sum(count.packets for count in inserted.errors.values()),
            )
        sources = Sources(clock, self._before, tables, keys, values, source_bits)
        self._before = clock.now.jiffies
        return sources


def sort_column(sort: str) -> str:
    """Return the field that ``sort`` means.

    Raises:
        UsageError: there is no such key to sort by.

    """
    if sort not in SORT_COLUMNS:
        raise UsageError(f"sources cannot be sorted by {sort!r}: expected one of {', '.join(SORT_COLUMNS)}")
    return SORT_COLUMNS[sort]


def describe(held: Held, rule_of: RuleOf, drained: Sources, moment: tuple[int, int]) -> dict[str, Any]:
    """Return a bucket as a JSON object with the keys of FIELDS; its tokens are those at ``moment``, jiffies and ns."""
    value, enforced = held.value, bool(held.rule & ENFORCE)
    rule = rule_of(held.rule & ~ENFORCE)
    packets, octets = tokens(rule.words, Level(*value["bucket"].tolist()), *moment) if rule else (None, None)
    last_over = int(value["last_over"])
    verdict = ("limited" if enforced else "would_limit") if last_over and last_over >= drained.before else "passed"
    return {
        "source": str(held.source.network_address if held.source.num_addresses == 1 else held.source),
        "shared": held.shared,
        "rule": rule.name if rule else None,
        "mode": "enforce" if enforced else "shadow",
        "verdict": verdict,
        "packets": int(value["packets"]),
        "bytes": int(value["bytes"]),
        "dropped_packets": int(value["over_packets"]),
        "dropped_bytes": int(value["over_bytes"]),
        "tokens_packets": packets,
        "tokens_bytes": octets,
        "last_drop": drained.clock.texts(value["last_over"].reshape(1))[0] if last_over else None,
    }


def source_key(source: Network, group: int, part: int) -> Records:
    """Return a source's key, shape () of LIMIT4_KEY or LIMIT6_KEY; ``part`` as in ``struct limit_match``."""
    family = FAMILIES_BY_VERSION[source.version]
    key = np.zeros((), SOURCE_KEYS[family])
    key["addr"] = np.frombuffer(source.network_address.packed, key.dtype["addr"].base).reshape(key["addr"].shape)
    key["group"] = group
    if family == "ipv6":
        key["part"] = part
    return key


def _walk(table: FlowMap) -> tuple[Records, Records]:
    """Read a whole table; what is evicted and comes again meanwhile may stand there twice."""
    batches = [(keys.copy(), values.copy()) for keys, values in table.batches()]
    if not batches:
        return np.empty(0, table.key), np.empty(0, table.value)
    keys, values = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return keys, values


def _has_bucket(keys: Records, values: Records) -> Mask:
    """Leave out the sources that no rule is about, and those whose bucket stands under another group."""
    decision = values["decision"]
    mask: Mask = ((decision & np.uint64(RULE_BITS)) != 0) & (
        (decision >> np.uint64(HOME_SHIFT)) & np.uint64(0xFF) == keys["group"]
    )
    return mask


def _idle(values: Records, clock: WallClock, rule_of: RuleOf) -> Mask:
    """Mark the sources without a packet for so long that they can be forgotten."""
    numbers, which = np.unique(values["decision"] & np.uint64(RULE_BITS & ~ENFORCE), return_inverse=True)
    idle = clock.ticks(IDLE)
    full_after = [rule.words.full_after if (rule := rule_of(number)) else 0 for number in numbers.tolist()]
    limit = np.maximum(np.array(full_after, np.uint64), np.uint64(idle))[which]
    held_back = np.where(values["over_packets"] != 0, np.uint64(clock.ticks(HELD_BACK_IDLE)), np.uint64(0))
    mask: Mask = clock.age_ticks(values["last_seen"]) > np.maximum(limit, held_back)
    return mask


def _forget(table: FlowMap, keys: Records, values: Records) -> int:
    """Delete sources that are still as they were read; return how many."""
    still = [index for index in range(len(keys)) if _same(table.get(keys[index]), values[index])]
    return len(table.take(keys[still]).values)


def _same(now: Records | None, before: Records) -> bool:
    return now is not None and bool(now["last_seen"] == before["last_seen"])
