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
    FAMILIES,
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
from cnf.flows.ledger import by_direction
from cnf.flows.records import KEY_FIELDS
from cnf.flows.snapshot import Snapshot
from cnf.flows.top import COUNTERS
from cnf.history import grouping
from cnf.history.block import Block
from cnf.history.held import COUNTS
from cnf.history.increase import NOTHING, sum_of
from cnf.history.minute import ADDRESSES
from cnf.history.reader import Found, text_of
from cnf.history.stored import ADDRESS, FLOW


def seconds(blocks: Sequence[Block]) -> float:
    """Return how long the blocks are together."""
    return sum(block.end - block.begin for block in blocks) / 1e9


def as_snapshot(blocks: Sequence[Block]) -> Snapshot:
    """Return the flows of ``blocks`` as a drain at their end would have them: counts, and the rates over that time."""
    length = seconds(blocks)
    names: dict[tuple[str, ...], int] = {}
    runs: dict[Family, list[Records]] = {family: [np.empty(0, FLOW[family])] for family in FAMILIES}
    for block in blocks:
        numbers = np.array([names.setdefault(each, len(names)) for each in block.names], np.uint32)
        for family, flows in block.flows.items():
            if len(flows):
                copy = flows.copy()
                copy["ifindex"] = numbers[flows["ifindex"]]
                runs[family].append(copy)
    flows_by_family = {
        family: columns(family, grouping.grouped(np.concatenate(each), grouping.FLOW[family]), length)
        for family, each in runs.items()
    }
    return replace(
        snapshot_of(blocks, flows_by_family),
        names={number: name for (name, *_), number in names.items()},
        altnames={number: tuple(altnames) for (_, *altnames), number in names.items()},
    )


def summary(found: Found, past: Snapshot) -> dict[str, Any]:
    """Return the sums of all that was counted, as a JSON object; ``past`` is the snapshot of the blocks."""
    blocks = found.blocks
    lost = {way: total(block.lost.get(way, Count()) for block in blocks) for way in DIRECTIONS}
    return {
        "begin": text_of(blocks[0].begin),
        "end": text_of(blocks[-1].end),
        "seconds": round(seconds(blocks), 3),
        "blocks": [{"begin": text_of(block.begin), "end": text_of(block.end)} for block in blocks],
        "damaged": found.damaged,
        "complete": all(block.complete for block in blocks),
        "flow_count": sum(block.flow_count for block in blocks),
        **{
            name: {way: count._asdict() for way, count in counts.items()}
            for name, counts in {**balance(past), "lost": lost}.items()
        },
        "interfaces": list(_by_interface(past.received)),
        "dropped_by": list(_by_reason(past.received)),
        "rules": _by_rule(blocks),
        "sources": _addresses([block.sources for block in blocks]),
        "destinations": _addresses([block.destinations for block in blocks]),
    }


def dropped_of(received: Mapping[str, Records], reason: str | None = None) -> Count:
    """Return what was dropped, for one reason or any."""
    places = slice(None) if reason is None else DROP_REASONS.index(reason)
    return total(
        Count(*(int(counters[f"dropped_{unit}"][places].sum()) for unit in Count._fields))
        for counters in received.values()
    )


def held(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Return the sources that were over a limit, with the sums of what they have counted."""
    sums: dict[tuple[object, ...], dict[str, Any]] = {}
    for each in (held for block in blocks for held in block.held):
        key = tuple(each[name] for name in ("source", "shared", "rule", "mode"))
        before = sums.get(key)
        more = {name: before[name] + each[name] for name in COUNTS} if before else {}
        sums[key] = {**each, **more}
    return list(sums.values())


def snapshot_of(blocks: Sequence[Block], flows: Mapping[Family, FlowColumns]) -> Snapshot:
    """Return a drain at the end of ``blocks`` that has found these flows, of interfaces without names."""
    end = blocks[-1].end
    return Snapshot(
        clock=WallClock(Reading(end, end, end, end), tick_ns=1),
        duration=0.0,
        flows=flows,
        tables={},
        received=sum_of(block.interfaces for block in blocks),
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


def _by_rule(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    sums: dict[str, list[Count]] = {}
    for block in blocks:
        for rule, counts in block.rules.items():
            sums[rule] = [old.plus(new) for old, new in zip(sums.get(rule, NOTHING), counts, strict=True)]
    return [
        {"rule": rule} | {verdict: count._asdict() for verdict, count in zip(VERDICTS, counts, strict=True)}
        for rule, counts in sums.items()
    ]


def _addresses(blocks: Sequence[Mapping[Family, Records]]) -> list[dict[str, Any]]:
    """Return the largest sources, or destinations; of several blocks, what each of them has of these."""
    rows: list[dict[str, Any]] = []
    for family in FAMILIES:
        runs = [np.empty(0, ADDRESS[family]), *(block[family] for block in blocks)]
        for row in grouping.largest_groups(runs, grouping.ADDRESS[family], ADDRESSES).records:
            kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
            rows.append(
                {
                    "address": socket.inet_ntop(kind, row["addr"].tobytes()),
                    "direction": DIRECTIONS[bool(row["flags"] & FLOW_EGRESS)],
                    **{name: int(row[name]) for name in ("packets", "bytes", "dropped_packets", "dropped_bytes")},
                }
            )
    return sorted(rows, key=lambda row: int(row["bytes"]), reverse=True)[:ADDRESSES]
