"""The numbers of the sets in the kernel: each is a bit beside the prefixes of the set. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from cnf.abi import MAX_SETS, SET_MULTIPLIER
from cnf.limits.table import Limits, SetAction

SetKey = tuple[str, SetAction]
"""The name of a set, and what it does: one that does another thing is another set, with counters of its own."""
NO_BANK: Final = 0


class SetsInKernel(NamedTuple):
    """The sets that a rule set goes with."""

    bank: int = NO_BANK
    """As in ``struct limit_settings``: 1 or 2."""
    numbers: Mapping[SetKey, int] = {}
    """The bits of the sets in that bank."""

    @property
    def next_bank(self) -> int:
        """The one to be filled next."""
        return 3 - self.bank if self.bank else 1

    def followed_by(self, keys: Sequence[SetKey]) -> SetsInKernel:
        """Return what comes next: a set keeps its number, and a number that is free now is given to another set."""
        known = {key: self.numbers[key] for key in keys if key in self.numbers}
        free = (number for number in range(MAX_SETS) if number not in self.numbers.values())
        fresh = {key: next(free) for key in keys if key not in known}
        return SetsInKernel(self.next_bank if keys else NO_BANK, known | fresh)

    def settings(self, limits: Limits) -> dict[str, int]:
        """Return the fields of ``struct limit_settings`` by which ``limits`` take these sets."""
        does = dict.fromkeys(("allow", "deny", "shadow"), 0)
        for each in limits.sets:
            mode, number = limits.mode_of(each), self.numbers.get((each.name, each.action))
            if mode != "off" and number is not None:
                does["shadow" if mode == "shadow" else each.action] |= 1 << number
        used = {f"sets_{what}": bits for what, bits in does.items()}
        return {"sets": self.bank if any(used.values()) else NO_BANK, **used}


def set_place(number: int) -> int:
    """Return the place of a set's counters, as SET_PLACE() of abi.h has it."""
    return ((1 << number) * SET_MULTIPLIER & ((1 << 64) - 1)) >> 58
