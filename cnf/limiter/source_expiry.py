"""A table of sources, whatever it is made of: which have a bucket, which are idle, how full it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from cnf.abi import ENFORCE
from cnf.arrays import Mask, Records
from cnf.clock import WallClock
from cnf.limits.table import LimitMode
from cnf.limits.token_bucket import Words

IDLE: Final = 60.0
"""Seconds without a packet after which a source is forgotten, if its bucket is full by then."""

HELD_BACK_IDLE: Final = 3600.0
"""Seconds for which one that was held back is remembered, to be shown."""

RULE_BITS: Final = 0xFFFFFF
HOME_SHIFT: Final = 24
"""Where DECISION() of token_bucket.h has the rule's number with ENFORCE, and the group whose slot holds the bucket."""


class BucketRule(NamedTuple):
    """The rule that a number in a source's decision stands for."""

    name: str
    words: Words
    mode: LimitMode


RuleOf = Callable[[int], BucketRule | None]
"""Returns what a rule's number stands for; None for one that is not in force any more."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """One family's table of sources."""

    entries: int
    capacity: int
    """Sources that there are places for."""
    made_for: int
    """Sources that were asked for."""
    evicted: int
    insert_errors: int


class SourceDrain(NamedTuple):
    """One family's sources that have a bucket of their own and are not idle."""

    keys: Records
    """LIMIT4_KEY or LIMIT6_KEY, shape (N,)."""
    values: Records
    """LIMIT_SOURCE, shape (N,)."""
    table: SourceTable


def has_bucket(keys: Records, values: Records) -> Mask:
    """Leave out the sources that no rule is about, and those whose bucket stands under another group."""
    decision = values["decision"]
    mask: Mask = ((decision & np.uint64(RULE_BITS)) != 0) & (
        (decision >> np.uint64(HOME_SHIFT)) & np.uint64(0xFF) == keys["group"]
    )
    return mask


def idle(values: Records, clock: WallClock, rule_of: RuleOf) -> Mask:
    """Mark the sources without a packet for so long that they can be forgotten."""
    numbers, which = np.unique(values["decision"] & np.uint64(RULE_BITS & ~ENFORCE), return_inverse=True)
    full_after = [rule.words.full_after if (rule := rule_of(number)) else 0 for number in numbers.tolist()]
    limit = np.maximum(np.array(full_after, np.uint64), np.uint64(clock.ticks(IDLE)))[which]
    held_back = np.where(values["over_packets"] != 0, np.uint64(clock.ticks(HELD_BACK_IDLE)), np.uint64(0))
    mask: Mask = clock.age_ticks(values["last_seen"]) > np.maximum(limit, held_back)
    return mask
