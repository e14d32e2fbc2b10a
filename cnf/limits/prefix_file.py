"""Files of prefixes: lists with comments, Spamhaus' JSON lines, and what ``ipset save`` writes. Pure.

A file is taken whole, or not at all: every line that cannot be understood refuses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

import numpy as np

from cnf.abi import LIMIT4_PREFIX, LIMIT6_PREFIX, Family
from cnf.arrays import Records
from cnf.limits.layout import BANK_BITS
from cnf.limits.ruleset import FAMILIES_BY_VERSION, Address, Prefix
from cnf.limits.table import Network
from cnf.readers import shown

OCTETS: Final[dict[Family, int]] = {"ipv4": 4, "ipv6": 16}
MAX_TOLD: Final = 5
"""Lines that an error names."""
_KEYS: Final = {"ipv4": LIMIT4_PREFIX, "ipv6": LIMIT6_PREFIX}
_MAPPED: Final = bytes(10) + b"\xff\xff"
_MAPPED_BITS: Final = 96
_COMMENT: Final = re.compile("[#;].*")
_SKIPPED: Final = ("timeout", "packets", "bytes", "comment", "skbmark", "skbprio", "skbqueue")
"""Options of an entry of ipset(8) that say nothing of what is in the set, each with a word behind it."""


class RefusedLinesError(Exception):
    """Carry the lines that were refused: their numbers, and why."""

    def __init__(self, lines: Sequence[tuple[int, str]]) -> None:
        """Keep ``lines``."""
        super().__init__(lines)
        self.lines = lines

    def __str__(self) -> str:
        """Name the first of them."""
        told = "; ".join(f"line {number}: {reason}" for number, reason in self.lines[:MAX_TOLD])
        more = len(self.lines) - MAX_TOLD
        return told + (f"; and {more:,} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Prefixes of both families, each once and in order.

    One is the octets of its address, and one for its length: so they are compared and kept as they are.
    """

    packed: Mapping[Family, bytes] = field(default_factory=lambda: dict.fromkeys(OCTETS, b""))

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

    def find(self, address: Address) -> Network | None:
        """Return the longest that holds ``address``."""
        family = FAMILIES_BY_VERSION[address.version]
        octets = OCTETS[family]
        rows = np.frombuffer(self.packed[family], np.uint8).reshape(-1, octets + 1)
        lengths = rows[:, octets]
        differing = np.unpackbits(rows[:, :octets] ^ np.frombuffer(address.packed, np.uint8), axis=1)
        agreeing = np.where(differing.any(axis=1), differing.argmax(axis=1), 8 * octets)
        holding = np.flatnonzero(agreeing >= lengths)
        if not len(holding):
            return None
        row = rows[holding[lengths[holding].argmax()]]
        network = (row[:octets].tobytes(), int(row[octets]))
        return IPv4Network(network) if family == "ipv4" else IPv6Network(network)


def read(data: bytes) -> Prefixes:
    """Return the prefixes of a file. Its first line that says something tells which kind it is.

    Raises:
        RefusedLinesError: with all lines that are refused.

    """
    found: dict[int, set[bytes]] = {1 + octets: set() for octets in OCTETS.values()}
    refused: list[tuple[int, str]] = []
    lines = data.decode("latin-1").removeprefix("\xef\xbb\xbf").split("\n")
    words = _kind(lines)
    for number, line in enumerate(lines, 1):
        try:
            text = words(line)
            if text:
                prefix = packed(text)
                found[len(prefix)].add(prefix)
        except (ValueError, OSError, RecursionError) as error:
            ours = type(error) is ValueError and ":" in str(error)
            reason = str(error) if ours else f"no prefix: {shown(line.strip())}"
            refused.append((number, reason))
    if refused:
        raise RefusedLinesError(refused)
    return Prefixes({family: b"".join(sorted(found[1 + octets])) for family, octets in OCTETS.items()})


def packed(text: str) -> bytes:
    """Return a prefix as ``Prefixes`` has it. Raises ValueError or OSError if it is none, or has host bits."""
    address, slash, length = text.partition("/")
    octets = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    bits = 8 * len(octets)
    if slash and not (length.isascii() and length.isdecimal()):
        raise ValueError(f"no length of a prefix: {shown(text)}")
    ones = int(length) if slash else bits
    if octets.startswith(_MAPPED) and len(octets) == OCTETS["ipv6"] and ones >= _MAPPED_BITS:
        octets, ones, bits = octets[len(_MAPPED) :], ones - _MAPPED_BITS, bits - _MAPPED_BITS
    if not 1 <= ones <= bits:
        raise ValueError(f"a prefix has a length from 1 to {bits}: {shown(text)}")
    if int.from_bytes(octets) & ((1 << (bits - ones)) - 1):
        raise ValueError(f"a prefix has no host bits: {shown(text)}")
    return octets + bytes((ones,))


def _kind(lines: Sequence[str]) -> Callable[[str], str]:
    """Return what takes the prefix out of a line: "" if there is none in it."""
    first = next((text for line in lines if (text := _COMMENT.sub("", line).strip())), "")
    if first.startswith("{"):
        return _of_json
    return _of_ipset if first.split()[0:1] in (["create"], ["add"]) else _plain


def _plain(line: str) -> str:
    return (_COMMENT.sub("", line) if "#" in line or ";" in line else line).strip()


def _of_json(line: str) -> str:
    """Take the cidr out of a line of Spamhaus' lists; one line says of which list, and when it was made."""
    if not line.strip():
        return ""
    entry = json.loads(line)
    match entry:
        case {"type": "metadata"}:
            return ""
        case {"cidr": str(prefix)} if prefix:
            return prefix
        case _:
            raise ValueError(f"no object with a cidr: {shown(line.strip())}")


def _of_ipset(line: str) -> str:
    words = _unquoted(line)
    match next(words, ""), next(words, ""), next(words, ""):
        case ("" | "create", _, _):
            return ""
        case ("add", str(name), str(prefix)) if name and prefix:
            for word in words:
                if word not in _SKIPPED:
                    raise ValueError(f"an entry that is {word} cannot be had: {shown(line.strip())}")
                next(words, "")
            return prefix
        case _:
            raise ValueError(f'neither "create" nor "add": {shown(line.strip())}')


def _unquoted(line: str) -> Iterator[str]:
    """Yield the words of a line; what stands between quotes is one."""
    return (found[0] for found in re.finditer(r'"[^"]*"|\S+', line))


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
