"""Files of prefixes: lists with comments, Spamhaus' JSON lines, and what ``ipset save`` writes. Pure.

A file is taken whole, or not at all: every line that cannot be understood refuses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from socket import AF_INET, AF_INET6, inet_pton
from typing import BinaryIO, Final

import numpy as np

from cnf.abi import MAX_SET_PREFIXES
from cnf.limits import prefix_range
from cnf.limits.prefixes import OCTETS, Prefixes
from cnf.readers import shown

MAX_LINE: Final = 4096
MAX_LINES: Final = 4 * MAX_SET_PREFIXES
MAX_REFUSED: Final = 1000
"""Bytes of a line, lines of a file, and lines that are refused: behind the first that is more, nothing is read."""
MAX_TOLD: Final = 5
"""Lines that an error names."""
_MAPPED: Final = bytes(10) + b"\xff\xff"
_MAPPED_BITS: Final = 96
_BYTE_ORDER_MARK: Final = "\xef\xbb\xbf"
_COMMENT: Final = re.compile("[#;].*")
_SKIPPED: Final = ("timeout", "packets", "bytes", "comment", "skbmark", "skbprio", "skbqueue")
"""Options of an entry of ipset(8) that say nothing of what is in the set, each with a word behind it."""


class RefusedLinesError(Exception):
    """Carry the lines that were refused: how many, and of the first ones their numbers, and why."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.first: list[tuple[int, str]] = []
        self.count = 0

    def __str__(self) -> str:
        """Name the first of them."""
        told = "; ".join(f"line {number}: {reason}" for number, reason in self.first)
        more = self.count - len(self.first)
        return told + (f"; and {more:,} more" if more else "")

    def add(self, number: int, reason: str) -> None:
        """Add a line."""
        self.count += 1
        if self.count <= MAX_TOLD:
            self.first.append((number, reason))


class _TooMuchError(Exception):
    """Say why a file is not read on."""


def read(file: BinaryIO) -> Prefixes:
    """Return the prefixes of a file. Its first line that says something tells which kind it is.

    Whatever is in it, this takes memory for a line, and for no more prefixes than may be in force.

    Raises:
        RefusedLinesError: with the lines that are refused; there may be more behind MAX_REFUSED of them, and behind
            one that is too much.

    """
    found, refused = _Found(), RefusedLinesError()
    kind: Callable[[str], str] | None = None
    number = 0
    try:
        for number, data in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
            if len(data) > MAX_LINE or number > MAX_LINES:
                raise _TooMuchError(f"expected at most {MAX_LINES:,} lines of {MAX_LINE:,} bytes")
            line = data.decode("latin-1")
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if kind is None and _plain(line):
                kind = _kind(line)
            try:
                found.add(_prefixes((kind or _plain)(line)))
            except (ValueError, OSError, RecursionError) as error:
                ours = type(error) is ValueError and ":" in str(error)
                refused.add(number, str(error) if ours else f"no prefix: {shown(line.strip())}")
                if refused.count == MAX_REFUSED:
                    break
        prefixes = found.prefixes()
    except _TooMuchError as error:
        refused.add(number, str(error))
    if refused.count:
        raise refused
    return prefixes


class _Found:
    """Prefixes that were read, some of them perhaps more than once."""

    def __init__(self) -> None:
        self._data = {1 + octets: bytearray() for octets in OCTETS.values()}

    def add(self, prefixes: Iterable[bytes]) -> None:
        for prefix in prefixes:
            data = self._data[len(prefix)]
            data += prefix
            if len(data) > 2 * MAX_SET_PREFIXES * len(prefix):
                data[:] = _in_order(data, len(prefix))

    def prefixes(self) -> Prefixes:
        return Prefixes({family: _in_order(self._data[1 + octets], 1 + octets) for family, octets in OCTETS.items()})


def _in_order(data: bytearray, size: int) -> bytes:
    """Return prefixes of ``size`` bytes each once."""
    prefixes = np.unique(np.frombuffer(data, f"S{size}")).tobytes()
    if len(prefixes) > MAX_SET_PREFIXES * size:
        raise _TooMuchError(f"more than {MAX_SET_PREFIXES:,} prefixes of a family")
    return prefixes


def _prefixes(text: str) -> Iterator[bytes]:
    """Yield what a line has, as ``Prefixes`` has it."""
    if "-" in text:
        yield from map(packed, map(str, prefix_range.prefixes(text)))
    elif text:
        yield packed(text)


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


def _kind(line: str) -> Callable[[str], str]:
    """Return what takes the prefix out of lines such as this one: "" if there is none in it."""
    text = _plain(line)
    if text.startswith("{"):
        return _of_json
    return _of_ipset if text.split()[0:1] in (["create"], ["add"]) else _plain


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
