"""The fields of a flow as programs and people read them, each said once: for JSON, CSV, sorting and metrics' labels."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from cnf.abi import (
    DIRECTIONS,
    FLOW_EGRESS,
    FLOW_FRAGMENT,
    ICMP,
    ICMPV6,
    PROTOCOL_NAMES,
    UNASSIGNED_INTERFACE,
    VLAN_ID,
    WITH_PORTS,
    Family,
)
from cnf.arrays import Mask, Records, Rows
from cnf.clock import WallClock
from cnf.flows.snapshot import Finish

TCP_FLAG_LETTERS: Final = (
    (0x02, "S"),
    (0x10, "A"),
    (0x08, "P"),
    (0x01, "F"),
    (0x04, "R"),
    (0x20, "U"),
    (0x40, "E"),
    (0x80, "W"),
)
"""By bit of byte 13 of the TCP header, tcpdump's letters, SYN first."""

_PROTOCOLS: Final = tuple(PROTOCOL_NAMES.get(number) or str(number) for number in range(256))


@cache
def tcp_flags(flags: int) -> str:
    """Return the letters of the flags that are set."""
    return "".join(letter for bit, letter in TCP_FLAG_LETTERS if flags & bit)


class Columns(Protocol):
    """Flows of one family, or connections, that all live, or have all finished in one way."""

    @property
    def family(self) -> Family:
        """Return the IP version."""

    @property
    def finish(self) -> Finish | None:
        """Return how they have finished; None while they live."""

    @property
    def size(self) -> int:
        """Return how many there are."""

    def column(self, name: str, rows: Rows | slice) -> Any:  # noqa: ANN401 - an array of the dtype that the column has
        """Return the values of some rows."""


class RecordPart:
    """Records of one family that have columns of these names, as the fields take them."""

    finish = None

    def __init__(self, family: Family, records: Records) -> None:
        """Have ``records``, shape (N,)."""
        self.family: Family = family
        self.size = len(records)
        self._records = records

    def column(self, name: str, rows: Rows | slice) -> Any:  # noqa: ANN401 - an array of the dtype that the column has
        """Return the values of some rows."""
        return self._records[name][rows]


class Shown(NamedTuple):
    """Rows of a snapshot's part, and what their indexes and ticks mean."""

    part: Columns
    rows: Rows
    clock: WallClock
    names: Mapping[int, str]
    """Interface name by ifindex."""

    def column(self, name: str) -> Any:  # noqa: ANN401 - an array of whichever dtype the column has
        """Return the rows of a column."""
        return self.part.column(name, self.rows)

    # The methods below return a field's values, a list as long as the rows. They take whole columns at once: to take
    # numbers from numpy one by one takes three times as long.

    def numbers(self, column: str) -> list[int]:
        """Return integers as they are."""
        values: list[int] = self.column(column).tolist()
        return values

    def rates(self, column: str, factor: int = 1) -> list[float]:
        """Return rates, ``factor`` times as high, to three decimals."""
        return [round(factor * rate, 3) for rate in self.column(column).tolist()]

    def times(self, column: str) -> list[str]:
        """Return jiffies as RFC 3339 has a time."""
        return self.clock.texts(self.column(column))

    def addresses(self, column: str) -> list[str]:
        """Return addresses as text."""
        family, size = (socket.AF_INET, 4) if self.part.family == "ipv4" else (socket.AF_INET6, 16)
        packed = self.column(column).tobytes()
        return [socket.inet_ntop(family, packed[start : start + size]) for start in range(0, len(packed), size)]

    def ports(self, column: str) -> list[int | None]:
        """Return ports; None where the protocol has none."""
        return _where(np.isin(self.column("protocol"), WITH_PORTS), self.numbers(column))

    def icmp(self, column: str) -> list[int | None]:
        """Return what ICMP has in place of a port; None for other protocols, and where a fragment does not show it."""
        number = ICMP if self.part.family == "ipv4" else ICMPV6
        known = (self.column("protocol") == number) & ((self.column("flags") & FLOW_FRAGMENT) == 0)
        return _where(known, self.numbers(column))

    def flags(self, bit: int) -> list[bool]:
        """Return whether ``bit`` of the key's flags is set."""
        values: list[bool] = ((self.column("flags") & bit) != 0).tolist()
        return values


class Field(NamedTuple):
    """One field: how its values are written, and the column that flows are sorted by where it orders them."""

    values: Callable[[Shown], Iterable[Any]]
    sorts_by: str | None = None


FIELDS: Final[Mapping[str, Field]] = {
    "interface": Field(
        lambda flows: [flows.names.get(index, UNASSIGNED_INTERFACE) for index in flows.numbers("ifindex")]
    ),
    "direction": Field(lambda flows: [DIRECTIONS[egress] for egress in flows.flags(FLOW_EGRESS)]),
    "protocol": Field(lambda flows: [_PROTOCOLS[number] for number in flows.numbers("protocol")]),
    "src_addr": Field(lambda flows: flows.addresses("src_addr")),
    "src_port": Field(lambda flows: flows.ports("src_port")),
    "dst_addr": Field(lambda flows: flows.addresses("dst_addr")),
    "dst_port": Field(lambda flows: flows.ports("dst_port")),
    "icmp_type": Field(lambda flows: flows.icmp("src_port")),
    "icmp_code": Field(lambda flows: flows.icmp("dst_port")),
    "vlan": Field(lambda flows: _where(flows.column("vlan") != 0, (flows.column("vlan") & VLAN_ID).tolist())),
    "fragment": Field(lambda flows: flows.flags(FLOW_FRAGMENT)),
    "packets": Field(lambda flows: flows.numbers("packets"), "packets"),
    "bytes": Field(lambda flows: flows.numbers("bytes"), "bytes"),
    "dropped_packets": Field(lambda flows: flows.numbers("dropped_packets"), "dropped_packets"),
    "dropped_bytes": Field(lambda flows: flows.numbers("dropped_bytes"), "dropped_bytes"),
    "packets_per_second": Field(lambda flows: flows.rates("packet_rate"), "packet_rate"),
    "bits_per_second": Field(lambda flows: flows.rates("byte_rate", 8), "byte_rate"),
    "tcp_flags": Field(lambda flows: map(tcp_flags, flows.numbers("tcp_flags"))),
    "first_seen": Field(lambda flows: flows.times("first_seen"), "first_seen"),
    "last_seen": Field(lambda flows: flows.times("last_seen"), "last_seen"),
    "ended": Field(lambda flows: [flows.part.finish] * len(flows.rows)),
}
"""The fields of a flow of /v1/flows, in their order."""
FIELDS_OF_KEY: Final = tuple(FIELDS)[: list(FIELDS).index("packets")]
"""Those that a flow's key tells."""


def _one_way(way: str) -> dict[str, Field]:
    """Return the fields of one direction of a connection."""
    return {
        f"{way}_packets": Field(lambda pairs: pairs.numbers(f"{way}_packets"), f"{way}_packets"),
        f"{way}_bytes": Field(lambda pairs: pairs.numbers(f"{way}_bytes"), f"{way}_bytes"),
        f"{way}_bits_per_second": Field(lambda pairs: pairs.rates(f"{way}_byte_rate", 8), f"{way}_byte_rate"),
        f"{way}_tcp_flags": Field(lambda pairs: map(tcp_flags, pairs.numbers(f"{way}_tcp_flags"))),
    }


PAIR_FIELDS: Final[Mapping[str, Field]] = {**FIELDS, **_one_way("forward"), **_one_way("reverse")}
"""Those of a connection: of both directions together, then of the initiator's, and of the other one."""


def describe(flows: Shown, fields: Mapping[str, Field] = FIELDS) -> Iterator[dict[str, Any]]:
    """Yield each flow as a JSON object with the keys of ``fields``."""
    for values in zip(*(field.values(flows) for field in fields.values()), strict=True):
        yield dict(zip(fields, values, strict=True))


def _where(known: Mask, values: list[int]) -> list[int | None]:
    return [value if is_known else None for is_known, value in zip(known.tolist(), values, strict=True)]
