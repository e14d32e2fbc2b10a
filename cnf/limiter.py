"""The limits in force: those of the file with what was changed at run time, worked out and put into the kernel."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from attrs import evolve
from structlog.typing import FilteringBoundLogger

from cnf.bank import Numbering, Parameters, lay_out, no_rules, parameters
from cnf.bucket import words
from cnf.changes import read_change
from cnf.clock import WallClock
from cnf.errors import CnfError
from cnf.kernel.counters import TableCounters
from cnf.kernel.limiter import OVERFLOW, LimiterMaps
from cnf.kernel.maps import Records
from cnf.kernel.program import Datapath, tick_ns
from cnf.ledger import Count
from cnf.limits import FAMILIES_BY_VERSION, Address, Explanation, RuleSet, explain, work_out
from cnf.override_file import load, save
from cnf.overrides import Effective, Overrides, apply
from cnf.pending import Pending, RunTime
from cnf.records import ENFORCE, VERDICTS
from cnf.rules import Limits, Network, Rule, room
from cnf.sources import BucketRule, Held, SourceReader, Sources, source_key

RETRY: Final = 1.0
"""Seconds after which a roll-back that the kernel refused is tried again."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What is in force since the latest switch."""

    run_time: RunTime
    effective: Effective
    ruleset: RuleSet
    numbering: Numbering
    buckets: Mapping[int, Parameters]
    """What makes a rule's bucket, by its number."""
    generation: int

    def number(self, rule: Rule) -> int:
        """Return the number that the rule has in the kernel."""
        return self.numbering.rules.numbers[parameters(rule)]

    def explain(self, address: Address, interface: str, traffic: str) -> Explanation:
        """Say what happens to ``traffic`` from ``address`` on ``interface``."""
        known = interface if (interface, traffic) in self.ruleset.groups else OVERFLOW
        return explain(self.ruleset, address, known, traffic)

    def word(self, rule: Rule) -> int:
        """Return the rule as it stands in a source's decision: its number, and whether it drops."""
        return self.number(rule) | (ENFORCE if self.effective.limits.mode_of(rule) == "enforce" else 0)


class Look(NamedTuple):
    """What is in force, and has been counted, at one moment."""

    in_force: InForce
    counts: Mapping[str, Sequence[Count]]
    """As ``Limiter.counts()`` has them."""


class Limiter:
    """Put limits in force and change them, each set as a whole; what a change cannot do leaves all as it was.

    All but ``drain()`` may be called from any thread.
    """

    def __init__(self, datapath: Datapath, file: Limits, clients: Iterable[Network], log: FilteringBoundLogger) -> None:
        """Put the limits of ``file``, with what was changed at run time, in force; protect ``clients``.

        Raises:
            ConfigError: they do not fit the tables, or what is kept cannot be read.
            MapError: the kernel refused.

        """
        self.sources: Sources | None = None
        """Those of the latest drain."""
        self._datapath = datapath
        self._room = room(file)
        self._file = file
        self._path = Path(file.state_file)
        self._log = log
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._maps = LimiterMaps(datapath.maps, self._room.rules)
        self._tick_ns = tick_ns()
        self._reader = SourceReader(self._maps.sources, TableCounters(datapath.maps), file.max_sources)
        self._names: frozenset[str] = frozenset()
        self._slots: dict[str, int] = {}
        self._fading: dict[Parameters, int] = {}
        """Numbers that the latest switch gave up, where packets under way may still be counted."""
        self._past: dict[str, list[Count]] = {}
        """What a rule counted under numbers that are given up, by its name, in the order of VERDICTS."""
        run_time = _protecting(RunTime(load(self._path)), file, clients)
        self.in_force = self._install(file, run_time, no_rules(self._room.rules), None)

    def close(self) -> None:
        """Wait for no confirmation any more; an unconfirmed change ends with the daemon."""
        if self._timer:
            self._timer.cancel()

    # What the interfaces say.

    def expect(self, names: Iterable[str]) -> None:
        """Take note of which interfaces there are; logs it if the rules tell more apart than the tables hold."""
        with self._lock:
            before, self._names = self._names, frozenset(names)
            rules = self.in_force.effective.limits.rules
            if self._names == before or not any(rule.interfaces for rule in rules):
                return
            try:
                self._switch(self._file, self.in_force.run_time)
            except CnfError as error:
                self._names = before
                self._log.error("limits not worked out for the interfaces", names=sorted(names), error=str(error))

    def seat(self, name: str, slot: int) -> None:
        """Have the counter slot ``slot`` for ``name``; must come before the program is attached there."""
        with self._lock:
            self._slots = {other: taken for other, taken in self._slots.items() if taken != slot} | {name: slot}
            self._maps.seat(name, slot)

    # What the administrator says.

    def reload(self, file: Limits, clients: Iterable[Network]) -> None:
        """Put the limits of a file that was read again in force; if they differ, protect ``clients``.

        Raises:
            ConfigError: they do not fit the tables.
            MapError: the kernel refused.

        """
        with self._lock:
            if file == self._file:
                return
            run_time = _protecting(_relative_to(file, self.in_force.run_time), file, clients)
            self._switch(file, run_time)
            self._file = file
            if run_time.pending is None:
                try:
                    save(self._path, run_time.overrides)
                except CnfError as error:
                    self._log.error("changes at run time not kept", error=str(error))
            protected = [str(client) for client in run_time.overrides.protected]
            self._log.info("limits changed by the file", generation=self.in_force.generation, protected=protected)

    def change(self, body: object, uid: int, pid: int) -> tuple[tuple[str, ...], InForce]:
        """Make the change that a client asks for; return in words what was changed, and what is in force by that.

        Raises:
            UsageError: the request cannot be understood, or the limits in force do not allow it.
            ConfigError: the limits would not fit the tables.
            KernelError: the kernel refused.
            PrivilegeError, UnavailableError: the change cannot be kept.

        """
        change = read_change(body)
        with self._lock:
            self._roll_back()  # the timer may be late
            before = self.in_force.run_time
            run_time, changes = before.after(change, self._file, f"uid {uid}, pid {pid}", time.monotonic())
            self._switch(self._file, run_time)
            if run_time.pending is None:
                self._keep(before)
            self._arm()
            self._log.info(
                "limits changed",
                changes=changes,
                uid=uid,
                pid=pid,
                unless_confirmed_within=change.confirm,
                generation=self.in_force.generation,
            )
            return changes, self.in_force

    def _roll_back(self) -> None:
        """Bring the rules from before back, if nobody has confirmed in time."""
        with self._lock:
            run_time = self.in_force.run_time
            after = run_time.at(time.monotonic())
            if run_time.pending is None or after is run_time:
                return
            try:
                self._switch(self._file, after)
            except CnfError as error:
                self._log.error("limits not rolled back, trying again", error=str(error))
                self._arm(RETRY)
                return
            self._log.warning(
                "limits rolled back, nobody confirmed in time",
                changes=run_time.pending.changes,
                generation=self.in_force.generation,
            )

    def _arm(self, least: float = 0.0) -> None:
        self.close()
        if pending := self.in_force.run_time.pending:
            self._timer = threading.Timer(max(pending.seconds_left(time.monotonic()), least), self._roll_back)
            self._timer.daemon = True
            self._timer.start()

    def _keep(self, before: RunTime) -> None:
        """Write what was changed at run time where the next daemon finds it, or take the change back."""
        try:
            save(self._path, self.in_force.run_time.overrides)
        except CnfError:
            self._switch(self._file, before)
            raise

    # The kernel.

    def _switch(self, file: Limits, run_time: RunTime) -> None:
        self.in_force = self._install(file, run_time, self.in_force.numbering, self.in_force.ruleset)

    def _install(self, file: Limits, run_time: RunTime, numbering: Numbering, ruleset: RuleSet | None) -> InForce:
        effective = apply(file, run_time.overrides)
        protected = run_time.overrides.protected
        following = work_out(effective.limits, (OVERFLOW, *sorted(self._names)), protected, ruleset)
        bank = lay_out(following, numbering, self._room.prefixes, self._tick_ns)
        self._maps.wait()
        for bucket, number in self._fading.items():
            self._past[bucket.name] = list(map(Count.plus, self._past_of(bucket.name), self._counts(number)))
        self._fading = {}
        self._maps.install(bank, self._slots)
        gone = numbering.rules.numbers.keys() - bank.numbering.rules.numbers.keys()
        self._fading = {bucket: numbering.rules.numbers[bucket] for bucket in gone}
        buckets = {number: bucket for bucket, number in bank.numbering.rules.numbers.items()}
        return InForce(run_time, effective, following, bank.numbering, buckets, self._maps.generation)

    # What the packets say.

    def drain(self, clock: WallClock) -> None:
        """Read the tables of sources.

        Raises:
            MapError: the kernel refused a read; the next drain tries again.

        """
        source_bits = self.in_force.effective.limits.ipv6_source_prefix
        self.sources = self._reader.drain(clock, self.bucket_rule, source_bits)

    def bucket_rule(self, number: int) -> BucketRule | None:
        """Return what a rule's number stands for; None for one that is not in force any more."""
        bucket = self.in_force.buckets.get(number)
        return BucketRule(bucket.name, words(bucket.packets, bucket.octets, self._tick_ns)) if bucket else None

    def summary(self) -> dict[str, Any]:
        """Return what ``cnfctl status`` says of the limits, as a JSON object."""
        in_force = self.in_force
        return {
            "mode": in_force.effective.limits.mode,
            "rules": len(in_force.effective.limits.rules),
            "generation": in_force.generation,
            "protected": [str(prefix) for prefix in in_force.run_time.overrides.protected],
            "pending": waiting(in_force.run_time.pending),
            "sources": self.tables(),
        }

    def tables(self) -> dict[str, Any]:
        """Return the fill of the tables of sources, as of the latest drain."""
        return {family: asdict(table) for family, table in self.sources.tables.items()} if self.sources else {}

    def look(self) -> Look:
        """Return what is in force, with what just these rules have counted."""
        with self._lock:
            return Look(self.in_force, self.counts())

    def counts(self) -> dict[str, list[Count]]:
        """Return what the rules in force have counted, by name, in the order of VERDICTS; they never go down."""
        with self._lock:
            totals = {}
            for bucket, number in self.in_force.numbering.rules.numbers.items():
                totals[bucket.name] = list(map(Count.plus, self._past_of(bucket.name), self._counts(number)))
            for bucket, number in self._fading.items():
                if bucket.name in totals:
                    totals[bucket.name] = list(map(Count.plus, totals[bucket.name], self._counts(number)))
            return totals

    def bucket(self, address: Address, source: Network, home: int) -> Records | None:
        """Return the live bucket of ``source``, which ``address`` is of: LIMIT_SOURCE, shape (); None if none."""
        match = self.in_force.ruleset.find(address)
        key = source_key(source, home, match.part if match else 0)
        table = self._maps.sources.get(FAMILIES_BY_VERSION[address.version])
        return table.get(key) if table else None

    def read_clock(self) -> tuple[int, int]:
        """Return (jiffies, CLOCK_MONOTONIC in ns)."""
        return self._datapath.read_clock()

    @property
    def interfaces(self) -> list[str]:
        """The interfaces that packets are limited on, or soon are."""
        return sorted(self._names)

    def shared(self) -> list[Held]:
        """Return the live buckets that all of a prefix share."""
        in_force = self.in_force
        return [
            Held(
                prefix,
                in_force.word(rule),
                self._maps.shared(in_force.numbering.shared.place((number, prefix))),
                shared=True,
            )
            for rule in in_force.effective.limits.rules
            if rule.bucket == "prefix"
            for number in (in_force.number(rule),)
            for prefix in rule.prefixes
        ]

    def _past_of(self, name: str) -> list[Count]:
        return self._past.get(name, [Count()] * len(VERDICTS))

    def _counts(self, number: int) -> tuple[Count, ...]:
        return self._maps.counts(number % self._room.rules)


def waiting(pending: Pending | None) -> dict[str, Any] | None:
    """Return what waits for a confirmation, as a JSON object."""
    if pending is None:
        return None
    left = round(pending.seconds_left(time.monotonic()), 3)
    return {"seconds_left": left, "who": pending.who, "changes": list(pending.changes)}


def _relative_to(file: Limits, run_time: RunTime) -> RunTime:
    """Leave out what ``file`` says by now: a later change of it there is to be seen."""
    pending = run_time.pending
    return RunTime(
        apply(file, run_time.overrides).overrides,
        pending and evolve(pending, before=apply(file, pending.before).overrides),
    )


def _protecting(run_time: RunTime, file: Limits, clients: Iterable[Network]) -> RunTime:
    """Protect ``clients`` until a confirmation, also if what waits is undone, where limits drop anything."""
    limits = apply(file, run_time.overrides).limits
    if not limits.deny and all(limits.mode_of(rule) != "enforce" for rule in limits.rules):
        return run_time
    pending = run_time.pending
    return RunTime(
        _protect(run_time.overrides, clients),
        pending and evolve(pending, before=_protect(pending.before, clients)),
    )


def _protect(overrides: Overrides, clients: Iterable[Network]) -> Overrides:
    return evolve(overrides, protected=tuple(dict.fromkeys((*overrides.protected, *clients))))
