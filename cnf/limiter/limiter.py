"""The limits in force: those of the file with what was changed at run time, worked out and put into the kernel."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import structlog
from structlog.typing import FilteringBoundLogger

from cnf.abi import ENFORCE
from cnf.arrays import Records
from cnf.clock import WallClock
from cnf.counts import Count
from cnf.datapath.build import Datapath
from cnf.datapath.handover_map import Document, HandoverMap
from cnf.errors import CnfError
from cnf.limiter.in_force import Denied, InForce, Look, SetCounts, SetInForce
from cnf.limiter.kernel_rules import Interfaces, KernelRules, Swap
from cnf.limiter.rates import Rate
from cnf.limiter.sets import Sets
from cnf.limiter.source_expiry import BucketRule
from cnf.limiter.sources import Held, SourceReader, Sources, source_key
from cnf.limits.changes import read_change
from cnf.limits.confirmation import RunTime, unchanged
from cnf.limits.overrides import Effective, apply, difference, without
from cnf.limits.ruleset import Address
from cnf.limits.state_file import load, save
from cnf.limits.table import Limits, Network, room
from cnf.limits.token_bucket import words
from cnf.process.alarm import Alarm

LOOK: Final = 60.0
"""Seconds after which ended entries are looked for at the latest."""
RETRY: Final = 1.0
"""Seconds after which what the kernel refused is tried again."""


class Limiter:
    """Put limits in force and change them, each set as a whole; what a change cannot do leaves all as it was.

    All but ``drain()`` may be called from any thread.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it stands between: the file, the kernel and who is there
        self,
        datapath: Datapath,
        file: Limits,
        clients: Iterable[Network],
        handover: HandoverMap,
        seats: Mapping[int, Sequence[str]],
        swap: Swap,
    ) -> None:
        """Put the limits of ``file``, with what was changed at run time, in force; protect ``clients``.

        They follow the rule set that the previous daemon has left in the kernel: what stays the same keeps its buckets
        and counts. ``seats`` are the interfaces that have a counter slot already: their rules hold at once. They and
        ``swap`` are as of KernelRules.

        Raises:
            ConfigError: they do not fit the tables, or what is kept cannot be read.
            MapError, AttachError: the kernel refused.
            UnreadableError: what the previous daemon knew of the rule set cannot be understood, or leaves no room for
                another one beside it.

        """
        self.sources: Sources | None = None
        """The sources of the latest drain."""
        self._datapath = datapath
        self._path = Path(file.state_file)
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._lock = threading.RLock()
        self._confirmation_due = Alarm(self._roll_back)
        self._end_due = Alarm(self._end)
        self._reader = SourceReader(datapath.maps, datapath.blueprint.table, file.max_sources)
        self._rules = KernelRules(datapath, room(file), handover, seats, swap)
        effective = apply(file, load(self._path)).ended(time.time(), file)
        run_time = unchanged(effective).protecting(clients)
        self.in_force = self._rules.begin(file, run_time)
        self._await_ends()
        self.sets = Sets(self._rules, self._lock, lambda: self._switch(self.in_force.run_time))
        self.sets.begin(file.sets)

    def leave(self) -> None:
        """Undo what is unconfirmed, for rules that stay when nobody is there to undo it later."""
        self._roll_back(math.inf)

    def close(self) -> None:
        """Stop the timers, and look at no files; an unconfirmed change ends with the daemon."""
        self.sets.close()
        self._confirmation_due.cancel()
        self._end_due.cancel()

    # What the interfaces say.

    def expect(self, names: Mapping[str, Collection[str]]) -> None:
        """Take note of which interfaces there are, each with its altnames.

        Logs it if the rules tell more apart than the tables hold.
        """
        with self._lock:
            before = self._rules.interfaces
            self._rules.interfaces = Interfaces.called([(name, *altnames) for name, altnames in names.items()])
            rules = self.in_force.effective.limits.rules
            if self._rules.interfaces == before or not any(rule.interfaces for rule in rules):
                return
            try:
                self._switch(self.in_force.run_time)
            except CnfError as error:
                self._rules.interfaces = before
                self._log.error("limits not worked out for the interfaces", names=sorted(names), error=str(error))

    def seat(self, name: str, slot: int) -> None:
        """Give interface ``name`` the counter slot ``slot``. Call it before the program is attached there."""
        with self._lock:
            self._rules.seat(name, slot)

    # What the administrator says.

    def reload(self, file: Limits, clients: Iterable[Network]) -> None:
        """Put the limits of a file that was read again in force; if they differ, protect ``clients``.

        Raises:
            ConfigError: they do not fit the tables.
            MapError: the kernel refused.

        """
        with self._lock:
            before = self.in_force.file
            if file == before:
                return
            run_time = self.in_force.run_time.each(lambda effective: apply(file, difference(before, effective)))
            self._switch(run_time.protecting(clients), file)
            self.sets.apply(file.sets)
            self._keep_or_say()
            protected = [str(client) for client in self.in_force.protected]
            self._log.info("limits changed by the file", generation=self.in_force.generation, protected=protected)

    def look_at(self, sessions: Iterable[Network] | None) -> None:
        """Protect clients that a set denies, and end the protection of those whose session has ended.

        ``sessions`` are the open ones, None if unknown.
        """
        if sessions is None:
            return
        with self._lock:
            before = self.in_force.run_time
            known = tuple(sessions)
            denied = tuple(client for client in known if self.in_force.is_denied_by_set(client))
            run_time = before.each(lambda effective: effective.protecting(denied).logged_in(known))
            ended = without(before.effective.protected, run_time.effective.protected)
            begun = without(run_time.effective.protected, before.effective.protected)
            if run_time == before:
                return
            if not ended and not begun:
                self.in_force = replace(self.in_force, run_time=run_time)
            else:
                try:
                    self._switch(run_time)
                except CnfError as error:
                    addresses = [str(address) for address in (*ended, *begun)]
                    self._log.error("protection not changed, trying again", addresses=addresses, error=str(error))
                    return
                if ended:
                    self._log.info("protection ended with the session", addresses=[str(each) for each in ended])
                if begun:
                    self._log.warning(
                        "a set denies who is logged in: protected", addresses=[str(each) for each in begun]
                    )
            self._keep_or_say()

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
            who, now = f"uid {uid}, pid {pid}", time.time()
            staying = [each for each in before.effective.sessions if self.in_force.is_denied_by_set(each)]
            run_time, changes = before.after(change, self.in_force.file, who, time.monotonic(), now, staying=staying)
            if run_time == before:
                return changes, self.in_force
            self._switch(run_time)
            if self._lasting(run_time) != self._lasting(before):
                self._keep(before)
            self._await_confirmation()
            self._await_ends()
            self._log.info(
                "limits changed",
                changes=changes,
                uid=uid,
                pid=pid,
                unless_confirmed_within=change.confirm,
                generation=self.in_force.generation,
            )
            return changes, self.in_force

    def _roll_back(self, now: float | None = None) -> None:
        """Put the previous rules in force again, if nobody has confirmed in time."""
        with self._lock:
            run_time = self.in_force.run_time
            after = run_time.at(time.monotonic() if now is None else now, self.in_force.file)
            if after is run_time:
                return
            try:
                self._switch(after)
            except CnfError as error:
                self._log.error("limits not rolled back, trying again", error=str(error))
                self._await_confirmation(RETRY)
                return
            self._log.warning(
                "limits rolled back, nobody confirmed in time",
                changes=[each.words for each in run_time.pending if each not in after.pending],
                built_on_them=after.lost,
                generation=self.in_force.generation,
            )
            self._await_confirmation()

    def _await_ends(self) -> None:
        """Look for ended entries when the next one ends, and once a minute, since the wall clock may be set."""
        end = self._next_end
        if end < math.inf:
            self._end_due.set(min(max(end - time.time(), RETRY), LOOK))
        else:
            self._end_due.cancel()

    def _end(self) -> None:
        """Remove the entries and rules that have ended: the kernel looks at them no more.

        Where the wall clock was set, the kernel gets to know anew when the others end.
        """
        with self._lock:
            clock_set = self._rules.is_clock_set
            if clock_set or self._next_end <= time.time():
                try:
                    self._switch(self.in_force.run_time)
                except CnfError as error:
                    self._log.error("what has ended is not removed, trying again", error=str(error))
                else:
                    self._keep_or_say()
                    if clock_set:
                        self._log.info("clock was set, ends worked out anew", generation=self.in_force.generation)
            self._await_ends()

    @property
    def _next_end(self) -> float:
        """When the next entry or rule ends, in seconds since the epoch."""
        run_time = self.in_force.run_time
        return min(run_time.effective.next_end, run_time.base.next_end)

    def _await_confirmation(self, least: float = 0.0) -> None:
        """Look for what nobody has confirmed when the next deadline has passed, in ``least`` seconds at the soonest."""
        if pending := self.in_force.run_time.pending:
            now = time.monotonic()
            self._confirmation_due.set(max(min(each.seconds_left(now) for each in pending), least))
        else:
            self._confirmation_due.cancel()

    def _keep(self, before: RunTime) -> None:
        """Save what was changed at run time; if that fails, undo the change and raise."""
        try:
            self._save()
        except CnfError:
            self._switch(before)
            raise

    def _keep_or_say(self) -> None:
        """Save what was changed at run time; a failure is logged."""
        try:
            self._save()
        except CnfError as error:
            self._log.error("changes at run time not kept", error=str(error))

    def _save(self) -> None:
        save(self._path, difference(self.in_force.file, self._lasting(self.in_force.run_time)))

    def _lasting(self, run_time: RunTime) -> Effective:
        """Return what is in effect without the changes that wait: these end with the daemon."""
        file = self.in_force.file
        return run_time.at(math.inf, file).effective.ended(time.time(), file)

    def _switch(self, run_time: RunTime, file: Limits | None = None) -> None:
        """Put the limits in force without what has ended: a change that is made again would bring it back."""
        file, before, now = file or self.in_force.file, self.in_force.effective, time.time()
        left = run_time.each(lambda effective: effective.ended(now, file))
        self.in_force = self._rules.install(file, left, self.in_force.known)
        for each in before.entries:
            if each.end <= now:
                self._log.info("entry of a list ended", list=each.list, prefix=str(each.prefix), who=each.who)
        for rule_end in before.rule_ends:
            if rule_end.end <= now:
                self._log.info("rule ended, as before again", rule=rule_end.name, who=rule_end.who)

    # What the packets say.

    def drain(self, clock: WallClock) -> None:
        """Read the tables of sources.

        Raises:
            MapError: the kernel refused a read; the next drain tries again.

        """
        source_bits = self.in_force.effective.limits.ipv6_source_prefix
        others: dict[Hashable, Count] = {
            ("denied", network): denied.dropped for network, denied in self.denied().items()
        }
        others |= {("set", key): counts.sent for key, counts in self.sets.counts().items()}
        others |= {("shared", held.rule & ~ENFORCE, held.source): held.sent for held in self.shared()}
        self.sources = self._reader.drain(clock, self.bucket_rule, source_bits, others)

    def hand_over(self) -> Document:
        """Return what the next daemon has to know of the sources."""
        return self._reader.hand_over()

    def take_over(self, document: Document | None) -> None:
        """Go on from what ``hand_over()`` returned."""
        self._reader.take_over(document)

    def bucket_rule(self, number: int) -> BucketRule | None:
        """Return what a rule's number stands for; None for one that is not in force any more."""
        in_force = self.in_force
        bucket = in_force.buckets.get(number)
        if bucket is None:
            return None
        mode = in_force.modes[bucket.name]
        return BucketRule(bucket.name, words(bucket.packets, bucket.octets, self._rules.tick_ns), mode)

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
            return self._rules.totals(self.in_force.known)

    def bucket(self, address: Address, source: Network, home: int) -> tuple[Records, Rate] | None:
        """Return the live bucket of ``source``, which ``address`` is of and its rate; None if there is none."""
        key = source_key(source, home, self.in_force.ruleset.part(address))
        value = self._reader.get(key)
        if value is None:
            return None
        return value, self.sources.rates.source(key) if self.sources else Rate()

    def read_clock(self) -> tuple[int, int]:
        """Return (jiffies, CLOCK_MONOTONIC in ns)."""
        return self._datapath.read_clock()

    def denied(self) -> dict[Network, Denied]:
        """Return what each entry of ``deny`` has dropped so far."""
        with self._lock:
            return self._rules.denied(self.in_force.known)

    def denied_rate(self, network: Network) -> Rate:
        """Return how fast an entry of ``deny`` was dropping packets before the latest drain."""
        return self._rate("denied", network)

    def denying_sets(self) -> list[tuple[SetInForce, SetCounts, Rate]]:
        """Return the sets that deny, or would, with what each has counted, and how fast before the latest drain."""
        counts = self.sets.counts()
        return [
            (each, counts.get(key, SetCounts()), self._rate("set", key))
            for each in self.in_force.sets
            if each.set.action == "deny"
            for key in ((each.set.name, each.set.action),)
        ]

    @property
    def interfaces(self) -> list[str]:
        """The interfaces that packets are limited on, or soon are."""
        return sorted(self._rules.interfaces.names)

    def shared(self) -> list[Held]:
        """Return the live buckets that all of a prefix share."""
        in_force = self.in_force
        return [
            Held(
                prefix,
                in_force.word(rule),
                self._rules.shared(in_force.known, number, prefix),
                shared=True,
                rate=self._rate("shared", number, prefix),
            )
            for rule in in_force.effective.limits.rules
            if rule.bucket == "prefix"
            for number in (in_force.number(rule),)
            for prefix in rule.prefixes
        ]

    def _rate(self, *name: Hashable) -> Rate:
        return self.sources.rates.other(name) if self.sources else Rate()
