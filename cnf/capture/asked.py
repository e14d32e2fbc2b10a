"""What a client asks to be captured. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cnf.abi import CAPTURE_BYTES, LIMIT_VERDICTS
from cnf.errors import UsageError
from cnf.filter.grammar import compile_filter
from cnf.filter.predicates import Filter

WHICH: Final[Mapping[str, tuple[str, ...]]] = {
    "all": LIMIT_VERDICTS,
    "dropped": ("limited", "denied", "unreadable"),
    "limited": ("limited", "would_drop"),
    "would": ("would_drop",),
}
"""The verdicts whose frames are captured."""
FORMS: Final = ("pcapng", "jsonl")
SNAPLEN: Final = 128
BUDGET: Final = 1000
MOST_BUDGET: Final = 100_000
"""Frames a second: what the daemon can pass on while it does all else, and more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The parameters of a capture."""

    which: str = "all"
    expression: str = ""
    count: int | None = None
    """Frames after which it ends."""
    snaplen: int = SNAPLEN
    budget: int = BUDGET
    form: str = "pcapng"

    def __post_init__(self) -> None:
        """Refuse what cannot be. Raises UsageError."""
        if self.which not in WHICH:
            raise UsageError(f"which: expected one of {', '.join(WHICH)}")
        if self.form not in FORMS:
            raise UsageError(f"format: expected one of {', '.join(FORMS)}")
        if self.count == 0:
            raise UsageError("count: expected a number from 1 on")
        for name, number, most in (("snaplen", self.snaplen, CAPTURE_BYTES), ("budget", self.budget, MOST_BUDGET)):
            if not 1 <= number <= most:
                raise UsageError(f"{name} is {number}: expected 1 to {most}")
        compile_filter(self.expression)

    @property
    def filter(self) -> Filter | None:
        """Return the filter; None if everything matches."""
        return compile_filter(self.expression) if self.expression.strip() else None

    @property
    def verdicts(self) -> int:
        """Return the bits of struct capture_settings."""
        return sum(1 << LIMIT_VERDICTS.index(verdict) for verdict in WHICH[self.which])
