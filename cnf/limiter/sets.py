"""The sets of prefixes in force: out of files, into the kernel, and what each has counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from cnf.counts import Count
from cnf.errors import CnfError, MapError
from cnf.limiter.kernel_rules import KernelRules
from cnf.limiter.maps import GRACE
from cnf.limiter.set_files import SetFile, SetFiles
from cnf.limiter.set_maps import SetMaps
from cnf.limits.prefixes import Prefixes, merged, separated
from cnf.limits.ruleset import Address
from cnf.limits.set_numbers import SetKey
from cnf.limits.table import LimitMode, Limits, Network, PrefixSet


class InSet(NamedTuple):
    """A set that an address is in, and its longest prefix there."""

    set: PrefixSet
    mode: LimitMode
    prefix: Network


class Sets:
    """Put the sets in force beside the rules, each change as a whole.

    The tries have two banks. The one that is not in use is filled, and a new rule set, the same as before, goes with
    it: so one word switches to both, and no packet finds half of a set.
    """

    def __init__(
        self, maps: Mapping[str, int], rules: KernelRules, lock: threading.RLock, switch: Callable[[], None]
    ) -> None:
        """Take a datapath's maps, and go on with the sets that ``rules`` have found there.

        ``switch`` puts the rules in force again, with the sets that they have by then; under ``lock``.
        """
        self._rules, self._lock, self._switch = rules, lock, switch
        self._maps = SetMaps(maps, rules.sets.bank)
        there: dict[SetKey, Prefixes] = {}
        if rules.sets.bank:
            held = self._maps.held(rules.sets.bank)
            there = {key: separated(held, number) for key, number in rules.sets.numbers.items()}
        self._files = SetFiles(self._put, there)

    def begin(self, sets: Iterable[PrefixSet]) -> None:
        """Read the files, and look at them from now on. What cannot be read is logged."""
        self._files.apply(sets)
        self._files.look()
        self._files.start()

    def apply(self, sets: Iterable[PrefixSet]) -> None:
        """Have these sets from now on; files are read in the thread that looks at them."""
        self._files.apply(sets)
        self._files.start()

    def close(self) -> None:
        """Look at the files no more."""
        self._files.close()

    @property
    def files(self) -> list[SetFile]:
        """The sets, in the order of the configuration, and what was read of their files."""
        return self._files.files

    def errors(self) -> list[dict[str, str]]:
        """Return the sets whose file is not what is in force, as JSON objects, and since when."""
        return [
            {"name": each.set.name, "file": each.set.file, "error": each.error, "since": set_moment(each.error_since)}
            for each in self.files
            if each.error and each.error_since
        ]

    def counts(self) -> dict[SetKey, tuple[Count, Count]]:
        """Return what each set has allowed or denied, and what came while it was in shadow."""
        with self._lock:
            return self._rules.set_counts()

    def in_order(self, limits: Limits) -> list[tuple[SetFile, LimitMode]]:
        """Return the sets in force with their modes, in the order in which they decide, those in shadow last."""
        with self._lock:
            numbers = self._rules.sets.numbers
        found = []
        for file in self.files:
            key, mode = (file.set.name, file.set.action), limits.mode_of(file.set)
            if key in numbers and mode != "off":
                found.append(((mode != "enforce", file.set.action != "allow", numbers[key]), (file, mode)))
        return [each for _, each in sorted(found, key=lambda item: item[0])]

    def of(self, address: Address, limits: Limits) -> list[InSet]:
        """Return the sets that hold ``address``; the first decides, if its mode is enforce."""
        return [
            InSet(file.set, mode, prefix)
            for file, mode in self.in_order(limits)
            if (prefix := file.prefixes.find(address))
        ]

    def _put(self, prefixes: Mapping[SetKey, Prefixes]) -> None:
        """Have these sets in force, and no others."""
        before = self._rules.sets
        sets = before.followed_by([*prefixes])
        try:
            if sets.bank:
                self._maps.write(sets.bank, merged({sets.numbers[key]: each for key, each in prefixes.items()}))
            with self._lock:
                self._rules.take_sets(sets)
                self._switch()
        except CnfError:
            self._rules.sets = before
            self._free(sets.bank)
            raise
        time.sleep(GRACE)  # packets under way may still look there
        self._free(before.bank)

    def _free(self, bank: int) -> None:
        """Have the kernel let go of what a bank holds; if it does not, the bank is emptied before it is filled."""
        if bank:
            with suppress(MapError):
                self._maps.clear(bank)


def set_moment(seconds: float) -> str:
    """Return when something happened to a set, as JSON has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
