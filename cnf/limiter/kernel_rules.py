"""Rule sets as they stand in the kernel: worked out, switched to as a whole, and handed over to the next daemon."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self

from cnf.abi import VERDICTS
from cnf.arrays import Records
from cnf.clock import tick_ns
from cnf.counts import Count
from cnf.datapath.blueprint import LIMITER_PREFIX
from cnf.datapath.build import Datapath
from cnf.datapath.handover_map import FullError, HandoverMap
from cnf.errors import ConfigError
from cnf.kernel.pins import UnreadableError
from cnf.limiter.handover import Known, from_json, to_json
from cnf.limiter.in_force import Denied, InForce, SetCounts, SetInForce
from cnf.limiter.maps import NO_RULE_SET, LimiterMaps
from cnf.limiter.set_maps import SetMaps
from cnf.limits.confirmation import RunTime
from cnf.limits.groups import OVERFLOW
from cnf.limits.layout import Bank, lay_out, no_rules
from cnf.limits.prefixes import Prefixes, separated
from cnf.limits.ruleset import RuleSet, work_out
from cnf.limits.set_numbers import SetKey, SetsInKernel, set_place
from cnf.limits.table import Limits, Network, Room

CLOCK_SET: Final = 1.0
"""Seconds by which clocks go apart if one was set: more than between two reads of them."""


class Swap(Protocol):
    """Has the program with limits on all interfaces, or the one without."""

    def __call__(self, *, limiting: bool) -> None:
        """Swap, in one step on each interface. Raises AttachError where the kernel refuses the one with limits."""


@dataclass(frozen=True, slots=True)
class Interfaces:
    """The interfaces that rules can be about."""

    names: frozenset[str]
    by_altname: Mapping[str, str]

    @classmethod
    def called(cls, interfaces: Collection[Sequence[str]]) -> Self:
        """Take each interface's name and then its altnames."""
        by_altname = {altname: name for name, *altnames in interfaces for altname in altnames}
        return cls(frozenset(name for name, *_ in interfaces), by_altname)


class KernelRules:
    """Switch the kernel from rule set to rule set; one thread at a time."""

    def __init__(
        self, datapath: Datapath, room: Room, handover: HandoverMap, seats: Mapping[int, Sequence[str]], swap: Swap
    ) -> None:
        """Take a datapath with ``room`` in its maps; ``seats`` are names, each with its altnames, by counter slot.

        ``swap`` is called before a rule set that limits anything is in force, and after one that does not.
        """
        self.interfaces = Interfaces.called(seats.values())
        self.tick_ns = tick_ns()
        self._room = room
        self._maps = LimiterMaps(datapath.maps, room.rules)
        self._read_clock = datapath.read_clock
        self._handover = handover
        self._slots = {slot: name for slot, (name, *_) in seats.items()}
        self._datapath_maps = datapath.maps
        self._swap = swap
        self._tick0 = 0.0
        """By which the ends in the kernel were worked out."""
        self.sets = SetsInKernel()
        self.prefixes: Mapping[SetKey, Prefixes] = {}
        """Those of ``sets``."""

    @property
    def is_clock_set(self) -> bool:
        """Whether the wall clock was set, or jiffies stood still in suspend, since ends were worked out."""
        return abs(self._tick0_now() - self._tick0) > CLOCK_SET

    def seat(self, name: str, slot: int) -> None:
        """Have the counter slot ``slot`` for the interface ``name``. Raises MapError if the kernel refused."""
        self._slots[slot] = name
        self._maps.seat(name, slot)

    def begin(self, file: Limits, run_time: RunTime) -> InForce:
        """Install the first set after the one that the previous daemon has left.

        Raises:
            ConfigError: it does not fit the tables.
            MapError: the kernel refused.
            UnreadableError: what the previous daemon knew cannot be understood, or leaves no room for another set.

        """
        before = self._taken_over()
        self.sets = SetsInKernel(self._maps.sets_bank, before.sets) if before.sets else SetsInKernel()
        self.set_maps = SetMaps(self._datapath_maps, self.sets.bank)
        if self.sets.bank:
            held = self.set_maps.held(self.sets.bank)
            self.prefixes = {key: separated(held, number) for key, number in self.sets.numbers.items()}
        try:
            return self.install(file, run_time, before)
        except (FullError, ConfigError) as error:
            if not before.numbering.rules.numbers:
                raise
            nothing = Known(no_rules(self._room.rules))
            ruleset, bank = self._work_out(file, run_time, nothing, self._tick0_now())
            alone = nothing.followed_by(bank.numbering, ruleset.groups, {}, ())
            if not self._handover.has_room(limiter=to_json(1, nothing, alone)):
                raise
            words = f"there is no room for other rules beside those in force: {error}"
            raise UnreadableError(words, LIMITER_PREFIX) from error

    def install(self, file: Limits, run_time: RunTime, before: Known) -> InForce:
        """Put the limits in effect, made from ``file`` at run time, in place of what was known ``before``.

        Raises:
            ConfigError: they do not fit the tables.
            FullError: what the next daemon has to know does not fit its map.
            MapError: the kernel refused.
            AttachError: it refused the program that limits.

        """
        limits = run_time.effective.limits
        tick0 = self._tick0_now()
        ruleset, bank = self._work_out(file, run_time, before, tick0)
        self._maps.wait()
        past = dict(before.past)
        for bucket, number in before.fading.items():
            past[bucket.name] = _sum(_past(past, bucket.name), self._counts(number))
        names = {rule.name for rule in limits.rules}
        names |= {rule.name for rule in run_time.base.limits.rules}
        known = before.followed_by(bank.numbering, ruleset.groups, past, names, self.sets.numbers)
        self._handover.put(limiter=to_json(self._maps.generation + 1, before, known))
        sets = self.sets.settings(limits)
        if not bank.passes_all or sets["sets"]:
            self._swap(limiting=True)
        try:
            self._maps.install(bank, self._slots, sets)
        finally:
            if not self._maps.is_limiting:
                self._swap(limiting=False)
        self._tick0 = tick0
        buckets = {number: bucket for bucket, number in bank.numbering.rules.numbers.items()}
        modes = {rule.name: limits.mode_of(rule) for rule in limits.rules}
        return InForce(file, run_time, ruleset, known, buckets, modes, self._maps.generation, self._in_order(limits))

    def totals(self, known: Known) -> dict[str, list[Count]]:
        """Return what the rules have counted, by name, in the order of VERDICTS. Raises MapError if refused."""
        totals: dict[str, list[Count]] = {}
        for bucket, number in known.numbering.rules.numbers.items():
            before = totals.get(bucket.name, _past(known.past, bucket.name))
            totals[bucket.name] = _sum(before, self._counts(number))
        for bucket, number in known.fading.items():
            if bucket.name in totals:
                totals[bucket.name] = _sum(totals[bucket.name], self._counts(number))
        return totals

    def shared(self, known: Known, number: int, prefix: Network) -> Records:
        """Return the bucket that all of ``prefix`` share under a rule: LIMIT_SOURCE, shape ()."""
        return self._maps.shared(known.numbering.shared.place((number, prefix)))

    def denied(self, known: Known) -> dict[Network, Denied]:
        """Return what each entry of ``deny`` has dropped. Raises MapError if refused."""
        places = known.numbering.denied
        counts, times = self._maps.denied(1 + max(places.values(), default=-1))
        return {
            network: Denied(Count(*counts[place].tolist()), *times[place].tolist()) for network, place in places.items()
        }

    def take_sets(self, sets: SetsInKernel, prefixes: Mapping[SetKey, Prefixes]) -> None:
        """Have the next rule set go with ``sets``, which have these prefixes. Raises MapError."""
        self._maps.begin_sets(set_place(number) for key, number in sets.numbers.items() if key not in self.sets.numbers)
        self.sets, self.prefixes = sets, prefixes

    def set_counts(self) -> dict[SetKey, SetCounts]:
        """Return what each set has counted. Raises MapError."""
        counts, in_shadow = self._maps.set_counts()
        times = self._maps.set_times()["last_seen"]
        places = {key: set_place(number) for key, number in self.sets.numbers.items()}
        return {
            key: SetCounts(Count(*counts[at].tolist()), Count(*in_shadow[at].tolist()), int(times[at]))
            for key, at in places.items()
        }

    def _in_order(self, limits: Limits) -> tuple[SetInForce, ...]:
        """Return the sets in the order in which the program asks them."""
        found = []
        for each in limits.sets:
            key, mode = (each.name, each.action), limits.mode_of(each)
            if key in self.sets.numbers and mode != "off":
                order = mode != "enforce", each.action != "allow", self.sets.numbers[key]
                found.append((order, SetInForce(each, mode, self.prefixes.get(key, Prefixes()))))
        return tuple(each for _, each in sorted(found, key=lambda item: item[0]))

    def _work_out(self, file: Limits, run_time: RunTime, before: Known, tick0: float) -> tuple[RuleSet, Bank]:
        effective, names = run_time.effective, (OVERFLOW, *sorted(self.interfaces.names))
        ruleset = work_out(
            effective.limits,
            names,
            effective.protected,
            before.groups,
            called=self.interfaces.by_altname,
            ends=effective.ends,
            later=effective.later(file),
        )

        def jiffy(moment: float) -> int:
            return max(1, math.ceil((moment - tick0) * 1e9 / self.tick_ns))  # 0 is not at all

        return ruleset, lay_out(ruleset, before.numbering, self._room.prefixes, self.tick_ns, jiffy)

    def _tick0_now(self) -> float:
        """Return when jiffies would have been 0, in seconds since the epoch, as the wall clock goes now."""
        return time.time() - self._read_clock()[0] * self.tick_ns / 1e9

    def _taken_over(self) -> Known:
        """Return what the previous daemon knew."""
        if self._maps.generation == NO_RULE_SET:
            return Known(no_rules(self._room.rules))
        try:
            if document := self._handover.part("limiter"):
                known = from_json(document, self._maps.generation, self._room.rules)
                return replace(known, numbering=replace(known.numbering, denied=self._maps.denied_places()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnreadableError(f"part limiter: {error}", LIMITER_PREFIX) from error
        raise UnreadableError("nothing says what the rules in the kernel are")

    def _counts(self, number: int) -> tuple[Count, ...]:
        return self._maps.counts(number % self._room.rules)


def _past(past: Mapping[str, Sequence[Count]], name: str) -> Sequence[Count]:
    return past.get(name, [Count()] * len(VERDICTS))


def _sum(one: Sequence[Count], other: Sequence[Count]) -> list[Count]:
    return list(map(Count.plus, one, other))
