"""Both directions of a connection in one record (RFC 5103). Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cnf.abi import WITH_PORTS, Family
from cnf.arrays import Mask, Records
from cnf.flows.columns import KeyColumns
from cnf.flows.connections import Connections


class Biflows(NamedTuple):
    """Pairs of records: FLOW_RECORD, each of shape (N,)."""

    forward: Records
    reverse: Records
    initiated: Mask
    """Whether forward is known to be the direction of the initiator."""


def join(records: Mapping[Family, Records]) -> tuple[dict[Family, Records], dict[Family, Biflows]]:
    """Return the records, FLOW_RECORD of shape (N,), that have no partner among them, and the pairs."""
    alone, biflows = {}, {}
    for family, all_records in records.items():
        alone[family], biflows[family] = _join(family, all_records)
    return alone, biflows


def _join(family: Family, records: Records) -> tuple[Records, Biflows]:
    columns = KeyColumns(family, records)
    connections = Connections(columns)
    received, sent = connections.join()
    is_alone = np.ones(len(records), np.bool_)
    is_alone[received] = is_alone[sent] = False
    # Who asks by ICMP, or has the higher port, is the initiator. Flags and times differ from part to part; this does
    # not, and a collector must find all parts of a connection the same way round.
    ports = columns.src_port[received].astype(np.int32) - columns.dst_port[received]
    leads = np.where(np.isin(columns.protocol[received], WITH_PORTS), ports, connections.asks(received))
    turned = leads < 0
    forward, reverse = np.where(turned, sent, received), np.where(turned, received, sent)
    return records[is_alone], Biflows(records[forward], records[reverse], leads != 0)
