"""The sets of prefixes in force: out of files, into the kernel, and what each has counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from cnf.errors import CnfError, MapError
from cnf.limiter.in_force import SetCounts
from cnf.limiter.kernel_rules import KernelRules
from cnf.limiter.maps import GRACE
from cnf.limiter.set_files import SetFile, SetFiles
from cnf.limits.prefixes import Prefixes, merged
from cnf.limits.set_numbers import SetKey, SetsInKernel
from cnf.limits.table import PrefixSet


class Sets:
    """Put the sets in force beside the rules, each change as a whole.

    The tries have two banks. The one that is not in use is filled, and a new rule set, the same as before, goes with
    it: so one word switches to both, and no packet finds half of a set.
    """

    def __init__(self, rules: KernelRules, lock: threading.RLock, switch: Callable[[], None]) -> None:
        """Go on with the sets that ``rules`` have found in the kernel.

        ``switch`` puts the rules in force again, with the sets that they have by then; under ``lock``.
        """
        self._rules, self._lock, self._switch = rules, lock, switch
        self._files = SetFiles(self._put, rules.prefixes)

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

    def counts(self) -> dict[SetKey, SetCounts]:
        """Return what each set has counted."""
        with self._lock:
            return self._rules.set_counts()

    def _put(self, prefixes: Mapping[SetKey, Prefixes]) -> None:
        """Have these sets in force, and no others."""
        before = self._rules.sets
        sets = before.followed_by([*prefixes])
        try:
            if sets.bank:
                self._rules.set_maps.write(
                    sets.bank, merged({sets.numbers[key]: each for key, each in prefixes.items()})
                )
            self._switch_to(sets, prefixes)
        except CnfError:
            self._free(sets.bank)
            raise
        if before.bank:
            time.sleep(GRACE)  # packets under way may still look there
            self._free(before.bank)

    def _switch_to(self, sets: SetsInKernel, prefixes: Mapping[SetKey, Prefixes]) -> None:
        """Have the rules go with these sets, or with those before if that is refused; no change falls in between."""
        with self._lock:
            before = self._rules.sets, self._rules.prefixes
            try:
                self._rules.take_sets(sets, prefixes)
                self._switch()
            except CnfError:
                self._rules.sets, self._rules.prefixes = before
                raise

    def _free(self, bank: int) -> None:
        """Have the kernel let go of what a bank holds; if it does not, the bank is emptied before it is filled."""
        if bank:
            with suppress(MapError):
                self._rules.set_maps.clear(bank)


def set_moment(seconds: float) -> str:
    """Return when something happened to a set, as JSON has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
