"""Flows grouped by what they have in common: a source, a network, a port, or several of these. Pure numpy.

A flood that is spread over ports or addresses is one group, however many flows it is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cnf.abi import FLOW_EGRESS, WITH_PORTS
from cnf.arrays import Rows
from cnf.counts import Count
from cnf.errors import UsageError, nearest
from cnf.filter.grammar import compile_filter
from cnf.filter.predicates import Names
from cnf.flows.columns import FlowColumns
from cnf.flows.fields import FIELDS, Shown
from cnf.flows.largest import largest
from cnf.flows.matching import mixed
from cnf.flows.snapshot import Part, Snapshot

Words = npt.NDArray[np.uint64]
Values = Callable[[Shown], Iterable[Any]]

IPV6_LENGTH: Final = 64
"""Bits of an IPv6 network, where only IPv4's are said."""
CHUNK: Final = 1000
"""Groups described at a time."""

SUMS: Final[Mapping[str, str]] = {
    "packets": "packets",
    "bytes": "bytes",
    "dropped_packets": "dropped_packets",
    "dropped_bytes": "dropped_bytes",
    "packets_per_second": "packet_rate",
    "bits_per_second": "byte_rate",
}
"""The sums of a group, each with the column that is added up; a group's ``flows`` are counted."""
RATES: Final = ("packets_per_second", "bits_per_second")
SORTS: Final = ("flows", *SUMS)
SHORT: Final[Mapping[str, str]] = {"bps": "bits_per_second", "rate": "bits_per_second", "pps": "packets_per_second"}
"""Short names of fields to sort by."""


class Dimension(NamedTuple):
    """What flows are grouped by: flows that agree in all words are of one group."""

    field: str
    """Its name in an answer."""
    words: Callable[[FlowColumns, Mapping[int, int]], list[Words]]
    """Of a block of flows; the mapping has a number for each interface's name, by ifindex."""
    values: Values
    """What to call it, of a flow of each group."""


def _of_field(name: str, words: Callable[[FlowColumns, Mapping[int, int]], list[Words]]) -> Dimension:
    return Dimension(name, words, FIELDS[name].values)


def _column(name: str) -> Dimension:
    return _of_field(name, lambda flows, _: [getattr(flows, name).astype(np.uint64)])


def _port(name: str) -> Dimension:
    def words(flows: FlowColumns, _: Mapping[int, int]) -> list[Words]:
        ports: Words = getattr(flows, name).astype(np.uint64) | np.uint64(1 << 16)
        ports[~np.isin(flows.protocol, np.array(WITH_PORTS, np.uint8), kind="sort")] = 0
        return [ports]

    return _of_field(name, words)


def _interface(flows: FlowColumns, numbers: Mapping[int, int]) -> list[Words]:
    """Return a number of each flow's interface: those that had a name one after the other are one."""
    known = np.array(sorted(numbers), np.uint32)
    number_of = np.array([numbers[index] for index in known.tolist()], np.uint64)
    if not len(known):
        return [np.zeros(len(flows), np.uint64)]
    place = np.minimum(np.searchsorted(known, flows.ifindex), len(known) - 1)
    return [np.where(known[place] == flows.ifindex, number_of[place], np.uint64(len(known)))]


def _addresses(name: str, length4: int = 32, length6: int = 128) -> Callable[[FlowColumns, Any], list[Words]]:
    """Return the words of an address, or of its network: the family and one word, or two."""
    netmasks = {
        family: np.frombuffer(kind((0, length)).netmask.packed, dtype)
        for family, kind, length, dtype in (
            ("ipv4", ipaddress.IPv4Network, length4, np.uint32),
            ("ipv6", ipaddress.IPv6Network, length6, np.uint64),
        )
    }

    def words(flows: FlowColumns, _: Mapping[int, int]) -> list[Words]:
        netmask = netmasks[flows.family]
        column = getattr(flows, name).reshape(len(flows), -1) & netmask
        first = column[:, 0].astype(np.uint64)
        second = column[:, 1] if flows.family == "ipv6" else np.full(len(flows), 1 << 63, np.uint64)
        return [first, second]

    return words


def _networks(name: str, length4: int, length6: int) -> Values:
    def values(shown: Shown) -> list[str]:
        length = length4 if shown.part.family == "ipv4" else length6
        return [str(ipaddress.ip_network((address, length), strict=False)) for address in shown.addresses(name)]

    return values


_WORDS: Final[Mapping[str, tuple[Dimension, ...]]] = {
    "src": (_of_field("src_addr", _addresses("src_addr")),),
    "dst": (_of_field("dst_addr", _addresses("dst_addr")),),
    "pair": (_of_field("src_addr", _addresses("src_addr")), _of_field("dst_addr", _addresses("dst_addr"))),
    "port": (_port("dst_port"),),
    "src-port": (_port("src_port"),),
    "protocol": (_column("protocol"),),
    "interface": (_of_field("interface", _interface),),
    "direction": (_of_field("direction", lambda flows, _: [(flows.flags & FLOW_EGRESS).astype(np.uint64)]),),
    "vlan": (_column("vlan"),),
}
_NETWORK: Final = re.compile(r"(src-|dst-)?net/([0-9]{1,2})(?:/([0-9]{1,3}))?")
EXPECTED: Final = ", ".join((*_WORDS, "net/24", "src-net/24", "net/24/48"))
More = Mapping[str, tuple[Dimension, ...]]
"""Further words, each with what flows are then grouped by."""


def dimensions(by: str, more: More = MappingProxyType({})) -> tuple[Dimension, ...]:
    """Read what to group by, words with commas between them; ``more`` words are what others know of flows.

    ``port`` is the destination's; so is ``net/24``, and ``src-net/24`` is the source's. A third number is the length
    of IPv6 networks, 64 without one.

    Raises:
        UsageError: for a word that is none.

    """
    found = {dimension.field: dimension for word in by.split(",") for dimension in _dimension(word.strip(), more)}
    return tuple(found.values())


def _dimension(word: str, more: More) -> tuple[Dimension, ...]:
    words = {**_WORDS, **more}
    if word in words:
        return words[word]
    network = _NETWORK.fullmatch(word)
    if network:
        length4, length6 = int(network[2]), int(network[3] or IPV6_LENGTH)
        if length4 <= ipaddress.IPV4LENGTH and length6 <= ipaddress.IPV6LENGTH:
            end = "src" if network[1] == "src-" else "dst"
            lengths = (f"{end}_addr", length4, length6)
            return (Dimension(f"{end}_net", _addresses(*lengths), _networks(*lengths)),)
    near = nearest(word, list(words))
    meant = f", did you mean {near}?" if near else ":"
    raise UsageError(
        f"flows cannot be grouped by {word!r}{meant} expected one or more of {', '.join((EXPECTED, *more))}"
    )


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of flows in the order to show them, and what they were made of."""

    snapshot: Snapshot
    dimensions: tuple[Dimension, ...]
    parts: tuple[Part, ...]
    part: npt.NDArray[np.uint8]
    """Shape (N,): the part that a flow of each group is of."""
    row: npt.NDArray[np.uint32]
    """Shape (N,): its row there."""
    sums: Mapping[str, npt.NDArray[Any]]
    """Shape (N,), by SORTS."""
    share: npt.NDArray[np.float64]
    """Shape (N,): of the sum of all groups and the rest, by which they are sorted."""
    matched: int
    """Groups, also those that are not shown."""
    flows: int | None
    """Flows in all groups; None where nobody knows, of any group."""
    totals: Count
    """Packets and bytes of all groups."""
    sort: str
    """What they are sorted by, of SORTS."""
    whole: float
    """The sum of all groups, by which they are sorted."""
    rest: Mapping[str, float] | None = None
    """By SUMS, what is in no group: the last row, which has no name, and no number of flows."""

    def with_rest(self, rest: Mapping[str, float]) -> Groups:
        """Return the groups with what is in none of them: by SUMS, rates in bytes."""
        whole = self.whole + rest.get(self.sort, 0)
        return replace(self, rest=rest, share=self.share * (self.whole / (whole or 1.0)), whole=whole)

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the fields of a group as an object."""
        return (*(dimension.field for dimension in self.dimensions), *SORTS, "share")

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yield the groups as JSON objects, and what is in none of them."""
        clock, names = self.snapshot.clock, self.snapshot.names
        for start in range(0, len(self.row), CHUNK):
            rows = slice(start, start + CHUNK)
            which, row = self.part[rows], self.row[rows]
            described = {
                number: zip(*(each.values(shown) for each in self.dimensions), strict=True)
                for number in np.unique(which).tolist()
                for shown in [Shown(self.parts[number], row[which == number], clock, names)]
            }
            sums = [_written(name, self.sums[name][rows]) for name in SORTS]
            if self.flows is None:
                sums[SORTS.index("flows")] = [None] * len(row)
            shares = self.share[rows].round(6).tolist()
            for number, *values, share in zip(which.tolist(), *sums, shares, strict=True):
                yield dict(zip(self.fields, (*next(described[number]), *values, share), strict=True))
        if self.rest:
            counts = [_written(name, np.array([self.rest[name]]))[0] for name in SUMS]
            nameless = [None] * len(self.dimensions)
            share = self.rest.get(self.sort, 0) / (self.whole or 1.0)
            yield dict(zip(self.fields, (*nameless, None, *counts, round(share, 6)), strict=True))


def _written(name: str, values: npt.NDArray[Any]) -> list[Any]:
    """Return sums as an answer has them: rates in bits, to three decimals."""
    if name not in RATES:
        return list(values.tolist())
    return list(np.round(values * (8 if name == "bits_per_second" else 1), 3).tolist())


def group(  # noqa: PLR0913 - what is chosen, and how
    snapshot: Snapshot, expression: str, by: str, sort: str, count: int | None, *, more: More = MappingProxyType({})
) -> Groups:
    """Return the ``count`` largest groups by ``sort`` (all if None) of the flows that match ``expression``.

    ``more`` has further words for ``by``.

    Raises:
        UsageError: the expression, what to group by, or the name of the field.

    """
    wanted, sort = dimensions(by, more), SHORT.get(sort, sort)
    if sort not in SORTS:
        raise UsageError(f"groups cannot be sorted by {sort!r}: expected one of {', '.join((*SORTS, *SHORT))}")
    parts = snapshot.parts()
    rows = _matching(snapshot, parts, expression)
    order, starts = _grouped(_words(parts, rows, wanted, snapshot.names))

    def added(column: str, kind: type[np.generic]) -> npt.NDArray[Any]:
        columns = [part.column(column, chosen).astype(kind) for part, chosen in zip(parts, rows, strict=True)]
        values = np.concatenate(columns)[order]
        return np.add.reduceat(values, starts) if len(starts) else values

    sums: dict[str, npt.NDArray[Any]] = {"flows": np.diff(starts, append=len(order))}
    sums |= {name: added(column, np.float64 if name in RATES else np.uint64) for name, column in SUMS.items()}
    chosen = largest(sums[sort], count)
    some = order[starts[chosen]]
    part_of = np.searchsorted(np.cumsum(list(map(_size, parts, rows))), some, side="right")
    numbers = [np.arange(part.size, dtype=np.uint32)[these] for part, these in zip(parts, rows, strict=True)]
    whole = float(sums[sort].sum())
    return Groups(
        snapshot,
        wanted,
        parts,
        part_of.astype(np.uint8),
        np.concatenate(numbers)[some],
        {name: values[chosen] for name, values in sums.items()},
        sums[sort][chosen] / (whole or 1.0),
        len(starts),
        len(order),
        Count(int(sums["packets"].sum()), int(sums["bytes"].sum())),
        sort,
        whole,
    )


def _matching(snapshot: Snapshot, parts: Sequence[Part], expression: str) -> list[Rows | slice]:
    """Return the rows of each part that match."""
    if not expression.strip():
        return [slice(None) for _ in parts]
    matches, names = compile_filter(expression), Names(snapshot.all_names())
    return [np.flatnonzero(part.matching(matches, names)) for part in parts]


def _size(part: Part, rows: Rows | slice) -> int:
    return part.size if isinstance(rows, slice) else len(rows)


def _words(
    parts: Sequence[Part], rows: Sequence[Rows | slice], wanted: Sequence[Dimension], names: Mapping[int, str]
) -> list[Words]:
    """Return the words of all flows that are grouped, each of shape (N,)."""
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
    numbers = {index: number_of[name] for index, name in names.items()}
    columns: list[list[Words]] = []
    for part, chosen in zip(parts, rows, strict=True):
        blocks = [
            [word for dimension in wanted for word in dimension.words(block, numbers)]
            for _, block in part.flows.blocks()
        ]
        columns += [[np.concatenate(column)[chosen] for column in zip(*blocks, strict=True)]] if blocks else []
    return [np.concatenate(column) for column in zip(*columns, strict=True)] or [np.empty(0, np.uint64)]


def _grouped(words: Sequence[Words]) -> tuple[Rows, Rows]:
    """Return the rows, those of a group one after the other, and where each group starts."""
    count = len(words[0])
    bits = np.uint64(max(count, 1).bit_length())
    # The upper bits of a hash with the row's number below are sorted several times as fast as rows by a hash.
    keys = (mixed(words) >> bits << bits) | np.arange(count, dtype=np.uint64)
    keys.sort()
    order = (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.intp)
    same = (keys[1:] ^ keys[:-1]) >> bits == 0
    agree = np.ones(len(same), np.bool_)
    for word in words:
        in_order = word[order]
        agree &= in_order[1:] == in_order[:-1]
    if (same & ~agree).any():  # two groups of one hash, by a rare chance
        order = np.lexsort(words)
        same = np.logical_and.reduce([word[order][1:] == word[order][:-1] for word in words])
    return order, np.flatnonzero(np.concatenate(([True] * (count > 0), ~same)))
