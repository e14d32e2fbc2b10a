"""How much counters have grown from one block to the next, whatever came, went, or began anew in between. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from cnf.abi import INTERFACE_COUNTERS, VERDICTS
from cnf.arrays import Records
from cnf.counts import Count
from cnf.history.block import Block, Interfaces, Rules, Sums

NOTHING: Final = (Count(),) * len(VERDICTS)
_FIELDS: Final = INTERFACE_COUNTERS.names or ()


def increase(before: Sums, now: Sums) -> tuple[Interfaces, Rules, tuple[str, ...]]:
    """Return what interfaces and rules have counted since, where that is anything, and those that began from 0.

    Who was not there before began from 0, as did who has counted less by now.
    """
    began: list[str] = []
    interfaces: dict[str, Records] = {}
    rules: dict[str, list[Count]] = {}
    for name, counters in now.interfaces.items():
        earlier = before.interfaces.get(name)
        if earlier is None or any((counters[field] < earlier[field]).any() for field in _FIELDS):
            began.append(f"interface {name}")
            earlier = np.zeros((), INTERFACE_COUNTERS)
        difference = _each(counters, earlier, np.subtract)
        if any(difference[field].any() for field in _FIELDS):
            interfaces[name] = difference
    for name, counts in now.rules.items():
        then = before.rules.get(name)
        if then is None or any(min(count.minus(old)) < 0 for count, old in zip(counts, then, strict=True)):
            began.append(f"rule {name}")
            then = NOTHING
        since = [count.minus(old) for count, old in zip(counts, then, strict=True)]
        if any(map(any, since)):
            rules[name] = since
    return interfaces, rules, tuple(began)


def sums_after(blocks: Iterable[Block]) -> Sums | None:
    """Return what had been counted at the end of the last of ``blocks``, which follow each other; None if unknown."""
    sums: Sums | None = None
    for block in blocks:
        sums = block.before or sums
        if sums is not None:
            sums = _after(sums, block)
    return sums


def _after(before: Sums, block: Block) -> Sums:
    began = set(block.began)
    interfaces = {name: value for name, value in before.interfaces.items() if f"interface {name}" not in began}
    rules = {name: value for name, value in before.rules.items() if f"rule {name}" not in began}
    for name, counters in block.interfaces.items():
        interfaces[name] = _each(counters, interfaces[name], np.add) if name in interfaces else counters
    for name, counts in block.rules.items():
        rules[name] = [count.plus(old) for count, old in zip(counts, rules.get(name, NOTHING), strict=True)]
    return Sums(interfaces, rules)


def sum_of(interfaces: Iterable[Mapping[str, Records]]) -> dict[str, Records]:
    """Add up the counters of several blocks, by interface."""
    sums: dict[str, Records] = {}
    for block in interfaces:
        for name, counters in block.items():
            sums[name] = _each(counters, sums[name], np.add) if name in sums else counters
    return sums


def _each(some: Records, others: Records, what: np.ufunc) -> Records:
    result = np.zeros((), INTERFACE_COUNTERS)
    for field in _FIELDS:
        result[field] = what(some[field], others[field])
    return result
