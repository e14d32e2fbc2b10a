"""Some blocks together: their flows as those of one drain, so that all that lists flows lists them, and their sums."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnf.abi import (
    DIRECTIONS,
    DROP_REASONS,
    FLOW_DROPS,
    FLOW_EGRESS,
    MALFORMED,
    NON_IP,
    PROTOCOL_LABELS,
    VERDICTS,
    Direction,
    Family,
)
from cnf.arrays import Records
from cnf.clock import Reading, WallClock
from cnf.counts import Count, total
from cnf.flows.columns import RECORDS, FlowColumns
from cnf.flows.largest import largest
from cnf.flows.ledger import by_direction
from cnf.flows.records import KEY_FIELDS
from cnf.flows.snapshot import Snapshot
from cnf.flows.top import COUNTERS
from cnf.history.joined import Joined
from cnf.history.minute import ADDRESSES
from cnf.history.reader import Found, text_of


def as_snapshot(joined: Joined) -> Snapshot:
    """Return the flows of blocks as a drain at their end would have them: counts, and the rates over that time."""
    length = joined.seconds
    flows = {family: columns(family, each, length) for family, each in joined.flows.items()}
    return replace(
        snapshot_of(joined, flows),
        names={number: name for (name, *_), number in joined.names.items()},
        altnames={number: tuple(altnames) for (_, *altnames), number in joined.names.items()},
    )


def summary(found: Found, past: Snapshot) -> dict[str, Any]:
    """Return the sums of all that was counted, as a JSON object; ``past`` is the snapshot of what was found."""
    joined = found.joined
    return {
        "begin": text_of(joined.spans[0].begin),
        "end": text_of(joined.spans[-1].end),
        "seconds": round(joined.seconds, 3),
        "blocks": [{"begin": text_of(span.begin), "end": text_of(span.end)} for span in joined.spans],
        "damaged": found.damaged,
        "complete": joined.complete,
        "flow_count": joined.flow_count,
        **{
            name: {way: count._asdict() for way, count in counts.items()}
            for name, counts in {**balance(past), "lost": joined.lost}.items()
        },
        "interfaces": list(_by_interface(past.received)),
        "dropped_by": list(_by_reason(past.received)),
        "rules": [
            {"rule": rule} | {verdict: count._asdict() for verdict, count in zip(VERDICTS, counts, strict=True)}
            for rule, counts in joined.rules.items()
        ],
        "sources": _addresses(joined.ends("sources")),
        "destinations": _addresses(joined.ends("destinations")),
    }


def dropped_of(received: Mapping[str, Records], reason: str | None = None) -> Count:
    """Return what was dropped, for one reason or any."""
    places = slice(None) if reason is None else DROP_REASONS.index(reason)
    return total(
        Count(*(int(counters[f"dropped_{unit}"][places].sum()) for unit in Count._fields))
        for counters in received.values()
    )


def snapshot_of(joined: Joined, flows: Mapping[Family, FlowColumns]) -> Snapshot:
    """Return a drain at the end of the latest block that has found these flows, of interfaces without names."""
    end = joined.spans[-1].end
    return Snapshot(
        clock=WallClock(Reading(end, end, end, end), tick_ns=1),
        duration=0.0,
        flows=flows,
        tables={},
        received=joined.interfaces,
        ledgers={},
        names={},
    )


def balance(past: Snapshot) -> dict[str, dict[Direction, Count]]:
    """Return, by direction, all that was seen, and how much of it flows have, was dropped, and is the rest.

    ``no_flow`` is the part of the rest that makes no flow, because it is not IP, or malformed.
    """
    seen = {way: _seen(past.received, way) for way in DIRECTIONS}
    listed = {way: Count() for way in DIRECTIONS}
    for flows in past.flows.values():
        sums = by_direction(flows.flags, flows.packets, flows.bytes)
        listed = {way: listed[way].plus(sums[way]) for way in DIRECTIONS}
    dropped: dict[Direction, Count] = {"ingress": dropped_of(past.received), "egress": Count()}
    return {
        "seen": seen,
        "listed": listed,
        "dropped": dropped,
        "rest": {way: seen[way].minus(listed[way]).minus(dropped[way]) for way in DIRECTIONS},
        "no_flow": {way: _seen(past.received, way, [NON_IP, MALFORMED]) for way in DIRECTIONS},
    }


def columns(family: Family, flows: Records, length: float) -> FlowColumns:
    """Return records of FLOW as a drain has them, with the rates over so many seconds."""
    records = np.zeros(len(flows), RECORDS[family])
    for name in (*KEY_FIELDS, "packets", "bytes", "tcp_flags"):
        records[name] = flows[name]
    records["first_seen"], records["last_seen"] = flows["start"], flows["end"]
    records["packet_rate"], records["byte_rate"] = flows["packets"] / length, flows["bytes"] / length
    dropped = np.zeros(len(flows), FLOW_DROPS)
    dropped["packets"], dropped["bytes"] = flows["dropped_packets"], flows["dropped_bytes"]
    return FlowColumns(family, records, dropped)


def _seen(interfaces: Mapping[str, Records], way: Direction, protocols: Sequence[int] | None = None) -> Count:
    packets, octets = COUNTERS[way]
    places = slice(None) if protocols is None else protocols
    return total(
        Count(int(each[packets][places].sum()), int(each[octets][places].sum())) for each in interfaces.values()
    )


def _by_interface(interfaces: Mapping[str, Records]) -> Iterator[dict[str, Any]]:
    for name, counters in interfaces.items():
        for way, (packets, octets) in COUNTERS.items():
            for index in np.flatnonzero(counters[packets]).tolist():
                count = Count(int(counters[packets][index]), int(counters[octets][index]))
                labels = {"interface": name, "direction": way, "protocol": PROTOCOL_LABELS[index]}
                yield labels | count._asdict()


def _by_reason(interfaces: Mapping[str, Records]) -> Iterator[dict[str, Any]]:
    for name, counters in interfaces.items():
        for index in np.flatnonzero(counters["dropped_packets"]).tolist():
            count = Count(*(int(counters[f"dropped_{unit}"][index]) for unit in Count._fields))
            yield {"interface": name, "reason": DROP_REASONS[index]} | count._asdict()


def _addresses(ends: Mapping[Family, Records]) -> list[dict[str, Any]]:
    """Return the largest sources, or destinations; of several blocks, what each of them has of these."""
    rows: list[dict[str, Any]] = []
    for family, addresses in ends.items():
        for row in addresses[largest(addresses["bytes"], ADDRESSES)]:
            kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
            rows.append(
                {
                    "address": socket.inet_ntop(kind, row["addr"].tobytes()),
                    "direction": DIRECTIONS[bool(row["flags"] & FLOW_EGRESS)],
                    **{name: int(row[name]) for name in ("packets", "bytes", "dropped_packets", "dropped_bytes")},
                }
            )
    return sorted(rows, key=lambda row: int(row["bytes"]), reverse=True)[:ADDRESSES]
