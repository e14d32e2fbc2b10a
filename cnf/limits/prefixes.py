"""Prefixes of a set, in little memory, and what the kernel holds of several sets together. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final

import numpy as np

from cnf.abi import LIMIT4_PREFIX, LIMIT6_PREFIX, Family
from cnf.arrays import Records
from cnf.limits.layout import BANK_BITS
from cnf.limits.ruleset import FAMILIES_BY_VERSION, Prefix
from cnf.limits.table import Network

OCTETS: Final[dict[Family, int]] = {"ipv4": 4, "ipv6": 16}
_KEYS: Final = {"ipv4": LIMIT4_PREFIX, "ipv6": LIMIT6_PREFIX}


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Prefixes of both families, each once and in order.

    One is the octets of its address, and one for its length: so they are compared and kept as they are.
    """

    packed: Mapping[Family, bytes] = field(default_factory=lambda: dict.fromkeys(OCTETS, b""))
    lengths: Mapping[Family, Sequence[int]] = field(init=False, compare=False)
    """Those that occur, the longest first."""

    def __post_init__(self) -> None:
        """Look which lengths there are."""
        lengths = {
            family: sorted({*self.packed[family][octets :: octets + 1]}, reverse=True)
            for family, octets in OCTETS.items()
        }
        object.__setattr__(self, "lengths", lengths)

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(len(self.each(family)) for family in OCTETS)

    def each(self, family: Family) -> Records:
        """Return one family's: bytes, shape (N,)."""
        return np.frombuffer(self.packed[family], f"V{OCTETS[family] + 1}")

    def pairs(self, family: Family) -> Iterator[Prefix]:
        """Yield the address and length of one family's, in order."""
        octets, data = OCTETS[family], self.packed[family]
        for start in range(0, len(data), octets + 1):
            yield int.from_bytes(data[start : start + octets]), data[start + octets]

    def find(self, source: Network) -> Network | None:
        """Return the longest that holds all of ``source``."""
        family = FAMILIES_BY_VERSION[source.version]
        octets, bits = OCTETS[family], 8 * OCTETS[family]
        rows, whole = np.frombuffer(self.packed[family], f"S{octets + 1}"), int(source.network_address)
        for length in self.lengths[family]:
            prefix = (whole >> bits - length << bits - length).to_bytes(octets) + bytes((length,))
            place = bisect_left(rows, prefix)
            if length <= source.prefixlen and place < len(rows) and rows[place] == prefix:
                network = prefix[:octets], length
                return IPv4Network(network) if family == "ipv4" else IPv6Network(network)
        return None


def merged(sets: Mapping[int, Prefixes]) -> dict[Family, tuple[Records, Records]]:
    """Return what the kernel is to hold of sets by number: keys, with bank 0, and a bit for each set (u64).

    A prefix is also in the sets that have a shorter one around it: the longest prefix answers for all of them.
    """
    tables: dict[Family, tuple[Records, Records]] = {}
    for family, octets in OCTETS.items():
        parts = [(number, prefixes.packed[family]) for number, prefixes in sets.items() if prefixes.packed[family]]
        rows = np.frombuffer(b"".join(data for _, data in parts), f"S{octets + 1}")
        bits = np.concatenate([np.zeros(0, np.uint64)] + [_bit(number, len(data), octets) for number, data in parts])
        if len(parts) > 1:
            rows, places = np.unique(rows, return_inverse=True)
            together = np.zeros(len(rows), np.uint64)
            np.bitwise_or.at(together, places, bits)
            bits = _inherited(rows, together, octets)
        keys = np.zeros(len(rows), _KEYS[family])
        table = np.ascontiguousarray(rows).view(np.uint8).reshape(-1, octets + 1)
        keys["length"] = BANK_BITS + table[:, octets].astype(np.uint32)
        keys["addr"] = np.ascontiguousarray(table[:, :octets]).view("<u4").reshape(keys["addr"].shape)
        tables[family] = keys, bits
    return tables


def separated(tables: Mapping[Family, tuple[Records, Records]], number: int) -> Prefixes:
    """Return the prefixes of one set out of what ``merged()`` has made. More may be there, within others of it."""
    found: dict[Family, bytes] = {}
    for family, octets in OCTETS.items():
        keys, bits = tables[family]
        keys = keys[(bits >> np.uint64(number) & np.uint64(1)).astype(bool)]
        rows = np.empty((len(keys), octets + 1), np.uint8)
        rows[:, :octets] = np.ascontiguousarray(keys["addr"]).view(np.uint8).reshape(-1, octets)
        rows[:, octets] = keys["length"] - BANK_BITS
        found[family] = b"".join(sorted(row.tobytes() for row in rows))
    return Prefixes(found)


def _bit(number: int, size: int, octets: int) -> Records:
    return np.full(size // (octets + 1), 1 << number, np.uint64)


def _inherited(rows: Records, bits: Records, octets: int) -> Records:
    """Return the bits with those of all shorter prefixes around each; ``rows`` are in order."""
    around: list[tuple[int, int]] = [(1 << 8 * octets, 0)]
    """(Last address, bits) of the prefixes that hold the current one, the longest last."""
    found: list[int] = []
    data = rows.tobytes()
    for start, own in zip(range(0, len(data), octets + 1), bits.tolist(), strict=True):
        address, length = int.from_bytes(data[start : start + octets]), data[start + octets]
        while around[-1][0] < address:
            around.pop()
        together = own | around[-1][1]
        found.append(together)
        around.append((address | (1 << 8 * octets - length) - 1, together))
    return np.array(found, np.uint64)
