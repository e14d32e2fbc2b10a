"""Which records go to a collector: those of its interfaces that its filter takes, and none of the export itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import numpy as np

from cnf.abi import UDP, Family
from cnf.arrays import Mask, Records
from cnf.filter.grammar import compile_filter
from cnf.filter.predicates import Names
from cnf.flows.columns import KeyColumns
from cnf.flows.stream import RecordBatch
from cnf.recording import Ipfix


class Path(NamedTuple):
    """The way of the export's own packets: by UDP, from any port."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    port: int

    @property
    def family(self) -> Family:
        """Return the IP version."""
        return "ipv4" if self.source.version == 4 else "ipv6"  # noqa: PLR2004 - IPv4


class Selection:
    """What ``interfaces`` and ``filter`` of one collector take."""

    def __init__(self, options: Ipfix) -> None:
        """Compile the filter. Raises UsageError."""
        self._patterns = options.interfaces
        self._filter = compile_filter(options.filter) if options.filter else None

    def names(self, batch: RecordBatch) -> dict[int, tuple[str, ...]]:
        """Return the names and altnames of the interfaces whose records are sent, by ifindex."""
        return {index: names for index, names in _names(batch).items() if self._takes(names)}

    def of(self, batch: RecordBatch, own: Collection[Path]) -> dict[Family, Records]:
        """Return the records to send, FLOW_RECORD of shape (N,), without those of packets on ``own`` paths."""
        names = Names(_names(batch))
        return {family: self._chosen(family, records, names, own) for family, records in batch.records.items()}

    def _takes(self, names: tuple[str, ...]) -> bool:
        named = Names({1: names})
        return not self._patterns or any(len(named.meant_by(pattern)) for pattern in self._patterns)

    def _chosen(self, family: Family, records: Records, names: Names, own: Collection[Path]) -> Records:
        columns = KeyColumns(family, records)
        left_out = is_own(columns, own)
        if self._patterns:
            meant = np.concatenate([names.meant_by(pattern) for pattern in self._patterns])
            left_out |= ~np.isin(columns.ifindex, meant)
        if self._filter:
            left_out |= ~self._filter.mask(columns, names)
        return records[~left_out] if left_out.any() else records


def is_own(columns: KeyColumns, own: Collection[Path]) -> Mask:
    """Return which records are of packets on ``own`` paths."""
    mask = np.zeros(len(columns), np.bool_)
    for path in own:
        if path.family != columns.family:
            continue
        rows = np.flatnonzero((columns.dst_port == path.port) & (columns.protocol == UDP))
        for column, address in ((columns.src_addr, path.source), (columns.dst_addr, path.destination)):
            words = np.frombuffer(address.packed, column.dtype)
            rows = rows[(column[rows].reshape(len(rows), len(words)) == words).all(axis=1)]
        mask[rows] = True
    return mask


def _names(batch: RecordBatch) -> Mapping[int, tuple[str, ...]]:
    return {index: (name, *batch.altnames.get(index, ())) for index, name in batch.names.items()}
