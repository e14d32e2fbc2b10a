"""The latest events that the program has reported, numbered. Pure.

They are kept as the records that the program wrote, with the names and times of that moment. They become JSON objects
only when a client asks, so that a flood of events costs little.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from cnf.abi import EVENT_KINDS, FAMILIES, UNASSIGNED_INTERFACE
from cnf.arrays import Records, Rows
from cnf.clock import WallClock
from cnf.flows.fields import Shown, describe
from cnf.flows.finished import KINDS, finished_flows
from cnf.flows.snapshot import Part
from cnf.limiter.in_force import Dropper
from cnf.limits.ruleset import Address
from cnf.process.bell import Bell

KEPT: Final = 10_000
"""Events."""

FIRST_DROP, RULE_GENERATION = map(EVENT_KINDS.index, ("first_drop", "rule_generation"))


@dataclass(frozen=True, slots=True)
class Context:
    """The context of the events of one reading."""

    clock: WallClock
    names: Mapping[int, str]
    """Interface name by ifindex."""
    dropper: Callable[[int, Address], Dropper] | None
    """Finds who dropped, by the rule's number and an address of the source; None without a limiter."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Events of one reading, numbered from ``first`` on."""

    first: int
    records: Records
    """EVENT, shape (N,); not written again."""
    context: Context

    @property
    def end(self) -> int:
        """Return the number after the last."""
        return self.first + len(self.records)

    def since(self, number: int) -> Batch:
        """Return the events from ``number`` on, as a copy, so that the memory of the others is free."""
        return replace(self, first=number, records=self.records[number - self.first :].copy())

    def resolved(self) -> Batch:
        """Return the same events with their own rules and names only, so that the memory of all others is free."""
        drops = self.records[self.records["kind"] == FIRST_DROP]
        indexes = set(drops["key"][:, 3].tolist())
        for part, _rows in _finished(self.records):
            indexes.update(part.flows.ifindex.tolist())
        names = {index: self.context.names[index] for index in indexes & self.context.names.keys()}
        dropper = self.context.dropper
        if dropper is not None:
            answers = {asked: dropper(*asked) for asked in map(_asked, drops)}
            return replace(self, context=Context(self.context.clock, names, lambda *asked: answers[asked]))
        return replace(self, context=replace(self.context, names=names))

    def objects(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yield the events numbered from ``start`` to before ``stop`` as JSON objects."""
        records = self.records[start - self.first : stop - self.first]
        flows = dict(self._flows(records))
        times = self.context.clock.texts(records["jiffies"])
        for row, (record, time) in enumerate(zip(records, times, strict=True)):
            head = {"seq": start + row, "time": time, "event": EVENT_KINDS[record["kind"]]}
            yield head | (flows[row] if row in flows else self._details(record))

    def _flows(self, records: Records) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the flows that have finished, each with its row."""
        for part, rows in _finished(records):
            shown = Shown(part, np.arange(len(rows)), self.context.clock, self.context.names)
            yield from zip(rows.tolist(), describe(shown), strict=True)

    def _details(self, record: Records) -> dict[str, Any]:
        key = record["key"]
        if record["kind"] == RULE_GENERATION:
            return {"generation": int(key[0])}
        number, address = _asked(record)
        by = self.context.dropper(number, address) if self.context.dropper else None
        source = by.source if by else ipaddress.ip_network(address)
        return {
            "source": str(source.network_address if source.num_addresses == 1 else source),
            "address": str(address),
            "rule": by.rule if by else None,
            "denied": bool(by and by.denied),
            "set": by.set if by else None,
            "interface": self.context.names.get(int(key[3]), UNASSIGNED_INTERFACE),
        }


class EventLog:
    """The latest events. One thread appends; any thread may read."""

    def __init__(self, most: int = KEPT, last: int = 0) -> None:
        """Keep ``most`` events; the one numbered ``last`` is the latest that an earlier daemon has had."""
        self.bell = Bell()
        """Rings when there are more events."""
        self._most = most
        self._before_all = last
        self._batches: tuple[Batch, ...] = ()  # replaced whole
        self._resolved = 0
        """The number of the last event that is resolved."""

    def append(self, batch: Batch) -> None:
        """Add events that came after those that are here."""
        if not len(batch.records):
            return
        oldest = batch.end - self._most
        kept = [*(each for each in self._before(batch.context) if each.end > oldest), batch]
        if kept[0].first < oldest:
            kept[0] = kept[0].since(oldest)
        self._batches = tuple(kept)
        self.bell.ring()

    def _before(self, context: Context) -> tuple[Batch, ...]:
        """Return the events that are here, resolved if ``context`` has other rules or names than theirs."""
        batches = self._batches
        if not batches or (
            batches[-1].context.dropper == context.dropper and batches[-1].context.names is context.names
        ):
            return batches
        resolved, self._resolved = self._resolved, self.last
        return tuple(each if each.end <= resolved + 1 else each.resolved() for each in batches)

    def after(self, number: int, count: int) -> list[dict[str, Any]]:
        """Return the first ``count`` events after the one numbered ``number``, as JSON objects."""
        found: list[dict[str, Any]] = []
        batches = self._batches
        for batch in batches[bisect_left(batches, number + 1, key=_last) :]:
            start = max(batch.first, number + 1)
            found += batch.objects(start, min(batch.end, start + count - len(found)))
            if len(found) == count:
                break
        return found

    @property
    def first(self) -> int:
        """Return the number of the first event that is kept, or of the next one if there is none."""
        batches = self._batches
        return batches[0].first if batches else self._before_all + 1

    @property
    def last(self) -> int:
        """Return the number of the latest event; 0 if there was none."""
        batches = self._batches
        return _last(batches[-1]) if batches else self._before_all


def _last(batch: Batch) -> int:
    return batch.end - 1


def _finished(records: Records) -> Iterator[tuple[Part, Rows]]:
    """Yield the flows that have finished, by family and how, and the rows of their records."""
    for family in FAMILIES:
        for finish in KINDS:
            yield finished_flows(records, family, finish)


def _asked(drop: Records) -> tuple[int, Address]:
    """Return the rule's number and the source's address of a first drop."""
    packed, number = drop["key"][:2].tobytes(), int(drop["key"][2])
    if FAMILIES[drop["family"]] == "ipv4":
        return number, ipaddress.IPv4Address(packed[:4])
    return number, ipaddress.IPv6Address(packed)
