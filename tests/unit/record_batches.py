"""Batches of flow records, as drains make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from cnf.abi import FAMILIES, Direction, Family
from cnf.arrays import Records
from cnf.counts import Count
from cnf.flows.records import FLOW_RECORD, KEY_FIELDS, REASONS, Reason
from cnf.flows.stream import RecordBatch
from tests.unit.samples import CLOCK, NAMES, Flow, records

NOTHING: Final[Mapping[Direction, Count]] = {"ingress": Count(), "egress": Count()}


def of_flows(flows: Sequence[Flow], family: Family, reason: Reason, link_bytes: int) -> Records:
    """Return the FLOW_RECORD of each flow of ``family``, from its first packet to its latest."""
    keys, values = records([flow for flow in flows if flow.family == family], family)
    made = np.zeros(len(keys), FLOW_RECORD[family])
    for name in KEY_FIELDS:
        made[name] = keys[name]
    for name in ("packets", "bytes", "dropped_packets", "dropped_bytes", "tcp_flags"):
        made[name] = values[name]
    made["start"], made["end"] = values["first_seen"], values["last_seen"]
    made["reason"], made["link_bytes"] = REASONS.index(reason), link_bytes
    return made


def batch(
    first: int,
    *flows: Flow,
    reason: Reason = "idle",
    link_bytes: int = 14,
    names: Mapping[int, str] = NAMES,
    lost: Mapping[Direction, Count] = NOTHING,
) -> RecordBatch:
    """Return a batch with a record of each flow, those of IPv4 first."""
    made = {family: of_flows(flows, family, reason, link_bytes) for family in FAMILIES}
    return RecordBatch(first, CLOCK, made, names, {1: ("wan",)}, lost)


def many(first: int, count: int, names: Mapping[int, str] = NAMES) -> RecordBatch:
    """Return a batch of ``count`` records of IPv4, each with its own number as its packets."""
    made = np.zeros(count, FLOW_RECORD["ipv4"])
    made["packets"] = np.arange(first, first + count)
    made["ifindex"] = 1
    return RecordBatch(first, CLOCK, {"ipv4": made}, names, {}, NOTHING)
