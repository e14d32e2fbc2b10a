"""Captured frames as the ring has them, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from cnf.abi import (
    CAPTURE_RECORD,
    FAMILIES,
    FLOW4_KEY,
    FLOW6_KEY,
    LIMIT_VERDICTS,
    PROTOCOL_LABELS,
    UNPARSED_REASONS,
    Direction,
    Family,
)
from cnf.arrays import Mask, Records, Rows
from cnf.filter.predicates import Filter, Names
from cnf.flows.columns import KeyColumns
from cnf.flows.fields import FIELDS, FIELDS_OF_KEY, RecordPart, Shown, tcp_flags

KEYS: Final[Mapping[Family, np.dtype[Any]]] = {"ipv4": FLOW4_KEY, "ipv6": FLOW6_KEY}
_OUTCOMES: Final = (*PROTOCOL_LABELS[:-1], *UNPARSED_REASONS)
_XDP, _EGRESS = 0, 2
_TYPE_AT: Final = 12
"""Where an Ethernet frame has its type, and a VLAN tag is put."""


class Frames:
    """Some frames, in the order in which they came."""

    def __init__(self, records: Sequence[bytes], wall: int) -> None:
        """Take records of the ring; ``wall`` is what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, in ns."""
        size = CAPTURE_RECORD.itemsize
        self.heads: Records = np.frombuffer(b"".join(record[:size] for record in records), CAPTURE_RECORD)
        self.data: list[bytes] = [record[size:] for record in records]
        self.times: list[int] = (self.heads["time"].astype(np.int64) + wall).tolist()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.data)

    def keys(self, family: Family) -> tuple[Rows, Records]:
        """Return the rows of a family's packets, and their keys."""
        rows = np.flatnonzero(self.heads["family"] == 1 + FAMILIES.index(family))
        kind, whole = KEYS[family], CAPTURE_RECORD["key"].itemsize
        keys = np.ascontiguousarray(self.heads["key"][rows]).view(np.uint8).reshape(len(rows), whole)
        return rows, np.ascontiguousarray(keys[:, : kind.itemsize]).view(kind)[:, 0]

    def matching(self, session: int, wanted: Filter | None, names: Names) -> Mask:
        """Return which frames are of this capture and match; what has no addresses matches only without a filter."""
        ours: Mask = self.heads["session"] == session
        if wanted is None:
            return ours
        mask = np.zeros(len(self), np.bool_)
        for family in FAMILIES:
            rows, keys = self.keys(family)
            if len(rows):
                mask[rows] = wanted.mask(KeyColumns(family, keys), names)
        return mask & ours

    def direction(self, row: int) -> Direction:
        """Return whether a frame was received or sent."""
        return "egress" if self.heads["hook"][row] == _EGRESS else "ingress"

    def by_xdp(self, row: int) -> bool:
        """Tell whether a frame was seen by XDP."""
        return bool(self.heads["hook"][row] == _XDP)

    def verdict(self, row: int) -> str:
        """Return the verdict on a frame, one of LIMIT_VERDICTS."""
        return LIMIT_VERDICTS[int(self.heads["verdict"][row])]

    def bytes(self, row: int) -> tuple[bytes, int]:
        """Return what was captured of a frame, and its length; a tag that stands beside it is put where it belongs."""
        data, length, tag = self.data[row], int(self.heads["length"][row]), int(self.heads["tag"][row])
        inserted = (tag & 0xFFFF).to_bytes(2, "big") + (tag >> 16).to_bytes(2, "big") if tag else b""
        if len(data) >= _TYPE_AT:
            data = data[:_TYPE_AT] + inserted + data[_TYPE_AT:]
        return data, length + len(inserted)

    def fields(self, names: Mapping[int, str]) -> list[dict[str, Any]]:
        """Return what each frame's key has, as a flow of /v1/flows; what it has not is None."""
        found = [
            dict.fromkeys(FIELDS_OF_KEY) | {"interface": names.get(index), "direction": self.direction(row)}
            for row, index in enumerate(self.heads["ifindex"].tolist())
        ]
        for family in FAMILIES:
            rows, keys = self.keys(family)
            for row, described in zip(rows.tolist(), _described(family, keys, names), strict=True):
                found[row] = described
        for row, (flags, outcome) in enumerate(self.heads[["tcp_flags", "outcome"]].tolist()):
            found[row] |= {"tcp_flags": tcp_flags(flags), "kind": _OUTCOMES[outcome]}
        return found


def _described(family: Family, keys: Records, names: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    shown = Shown(RecordPart(family, keys), np.arange(len(keys)), None, names)  # type: ignore[arg-type] # a key has no times
    for values in zip(*(FIELDS[name].values(shown) for name in FIELDS_OF_KEY), strict=True):
        yield dict(zip(FIELDS_OF_KEY, values, strict=True))
