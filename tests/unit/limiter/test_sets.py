"""Sets that the kernel refuses leave the rules with those before."""

from __future__ import annotations

from collections.abc import Mapping
from threading import RLock
from types import TracebackType
from typing import Any, cast

from cnf.errors import MapError
from cnf.limiter.kernel_rules import KernelRules
from cnf.limiter.sets import Sets
from cnf.limits.prefixes import Prefixes
from cnf.limits.set_numbers import SetKey, SetsInKernel
from cnf.limits.table import PrefixSet


class Maps:
    """The tries."""

    def __init__(self) -> None:
        """Have nothing done yet."""
        self.done: list[tuple[str, int]] = []

    def write(self, bank: int, _tables: object) -> None:
        """Fill a bank."""
        self.done.append(("filled", bank))

    def clear(self, bank: int) -> None:
        """Empty a bank."""
        self.done.append(("emptied", bank))


class Rules:
    """The rules in the kernel."""

    def __init__(self) -> None:
        """Have no sets."""
        self.sets = SetsInKernel()
        self.prefixes: Mapping[SetKey, Prefixes] = {}
        self.set_maps = Maps()

    def take_sets(self, sets: SetsInKernel, prefixes: Mapping[SetKey, Prefixes]) -> None:
        """Take the sets for the next rules."""
        self.sets, self.prefixes = sets, prefixes


class Lock:
    """A lock for which somebody waits who looks at the sets."""

    def __init__(self, rules: Rules) -> None:
        """Have nothing seen yet."""
        self._rules = rules
        self.seen: list[SetsInKernel] = []

    def __enter__(self) -> None:
        """Take it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it to who waits."""
        self.seen.append(self._rules.sets)


def test_nobody_meets_sets_that_are_refused(tmp_path: Any) -> None:  # noqa: ANN401
    """A change of limits that waits meanwhile goes with the sets before, and not with a bank that is emptied then."""
    path = tmp_path / "set"
    path.write_text("192.0.2.0/24\n")
    rules = Rules()
    lock = Lock(rules)

    def switch() -> None:
        raise MapError("no", errno=12)

    sets = Sets(cast("KernelRules", rules), cast("RLock", lock), switch)
    sets.begin([PrefixSet("s", str(path), "deny")])
    sets.close()
    assert lock.seen == [SetsInKernel()]
    assert rules.set_maps.done == [("filled", 1), ("emptied", 1)]
