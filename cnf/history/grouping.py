"""Sums of many flow records by a key, exact and complete, in little memory beside the records. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW_EGRESS, Family
from cnf.arrays import Records
from cnf.flows.columns import BLOCK, KEYS
from cnf.flows.largest import largest
from cnf.flows.matching import identities
from cnf.flows.records import KEY_FIELDS

PART: Final = 1 << 16
"""Records that are grouped at a time, about."""
REDUCED: Final[dict[str, np.ufunc]] = {
    **dict.fromkeys(("packets", "bytes", "dropped_packets", "dropped_bytes"), np.add),
    "start": np.minimum,
    "end": np.maximum,
    "tcp_flags": np.bitwise_or,
}
"""By field of a record, what makes one value of those of a group."""

By = np.dtype[Any]
"""Fields of a record by which records are one, as words of 64 bits."""

FLOW: Final[dict[Family, By]] = {
    family: np.dtype(
        {
            "names": KEY_FIELDS,
            "formats": [key[name] for name in KEY_FIELDS],
            "offsets": [key.fields[name][1] for name in KEY_FIELDS] if key.fields else [],
            "itemsize": key.itemsize,
        }
    )
    for family, key in KEYS.items()
}


def by_address(name: str) -> dict[Family, By]:
    """Return what groups by an address, the field ``name``, and direction: what a router forwards has both."""
    return {
        family: np.dtype(
            {"names": [name, "flags"], "formats": [key["src_addr"], "u1"], "offsets": [0, size], "itemsize": size + 8}
        )
        for family, key in KEYS.items()
        for size in (-(-key["src_addr"].itemsize // 8) * 8,)
    }


SOURCE: Final = by_address("src_addr")
DESTINATION: Final = by_address("dst_addr")
ADDRESS: Final = by_address("addr")


class Groups(NamedTuple):
    """The largest groups of records."""

    records: Records
    """One a group, the largest first; what neither ``by`` nor REDUCED has is one record's."""
    number: int
    """How many groups there are in all."""


def largest_groups(runs: Sequence[Records], by: By, count: int) -> Groups:
    """Return the ``count`` groups by the fields ``by`` that have the most bytes; ``runs`` are records of one dtype.

    A group is in one part: parts are formed by a hash of the key.
    """
    parts = -(-sum(map(len, runs)) // PART)
    best, found = runs[0][:0], 0
    for records in _parts(runs, by, parts):
        groups = grouped(records, by)
        found += len(groups)
        best = np.concatenate((best, groups))
        best = best[largest(best["bytes"], count)]
    return Groups(best, found)


def grouped(records: Records, by: By) -> Records:
    """Return one record for each group of ``records``."""
    if not len(records):
        return records
    keys = _keys(records, by)
    order = np.argsort(identities(keys))
    words = keys.view(np.uint64).reshape(len(keys), -1)[order]
    # Of two keys of one identity, of which there will hardly ever be any, the rows may alternate: a group in two rows.
    starts = np.flatnonzero(np.concatenate(([True], (words[1:] != words[:-1]).any(axis=1))))
    result = records[order[starts]]
    for name in REDUCED.keys() & (records.dtype.names or ()):
        result[name] = REDUCED[name].reduceat(records[name][order], starts)
    return result


def _parts(runs: Sequence[Records], by: By, parts: int) -> Iterator[Records]:
    if parts <= 1:
        yield np.concatenate(runs)
        return
    where = [_part_of(run, by, parts) for run in runs]
    for part in range(parts):
        yield np.concatenate([run[of == part] for run, of in zip(runs, where, strict=True)])


def _part_of(run: Records, by: By, parts: int) -> npt.NDArray[np.uint16]:
    where = np.empty(len(run), np.uint16)
    for start in range(0, len(run), BLOCK):
        rows = slice(start, start + BLOCK)
        where[rows] = identities(_keys(run[rows], by)) % np.uint64(parts)
    return where


def _keys(records: Records, by: By) -> Records:
    keys = np.zeros(len(records), by)
    for name in by.names or ():
        keys[name] = records[name]
    if "ifindex" not in (by.names or ()):
        keys["flags"] &= FLOW_EGRESS
    return keys
