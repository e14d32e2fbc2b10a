"""How much of the kernel's memory the tables take when they are made."""

from __future__ import annotations

import os
from typing import Any, Final

import numpy as np

from cnf.abi import (
    COUNTER,
    FLOW4_KEY,
    FLOW4_SET,
    FLOW6_KEY,
    FLOW6_SET,
    FLOW_DROPS,
    FLOW_RECORDED,
    FLOW_UNTIL,
    FLOW_VALUE,
    INTERFACE,
    LIMIT4_KEY,
    LIMIT4_SET,
    LIMIT6_KEY,
    LIMIT6_SET,
    LIMIT_OVER,
    LIMIT_SOURCE,
    OUTCOMES,
    SLOT_COUNTERS,
    WAYS,
)
from cnf.datapath.blueprint import Blueprint

# kernel/bpf/hashtab.c: struct htab_elem and struct bucket, the head of a chain
ELEMENT_BYTES: Final = 48
CHAIN_BYTES: Final = 16


def flow_bytes(blueprint: Blueprint) -> int:
    """Return the bytes of the tables of flows, and of the ring of events."""
    families = 1 + blueprint.ipv6
    if blueprint.table == "lru_hash":
        keys = (FLOW4_KEY, FLOW6_KEY)[:families]
        return blueprint.ring_bytes + sum(_hash_bytes(blueprint.max_entries, key, FLOW_VALUE) for key in keys)
    beside = FLOW_DROPS.itemsize if blueprint.limiter else 0
    beside += FLOW_RECORDED.itemsize + FLOW_UNTIL.itemsize if blueprint.flow_records else 0
    sets = (FLOW4_SET, FLOW6_SET)[:families]
    return blueprint.ring_bytes + sum(_cache_bytes(blueprint.max_entries, each, beside) for each in sets)


def source_bytes(blueprint: Blueprint, max_sources: int) -> int:
    """Return the bytes of the limiter's tables of sources."""
    if blueprint.table == "lru_hash":
        return sum(_hash_bytes(max_sources, key, LIMIT_SOURCE) for key in (LIMIT4_KEY, LIMIT6_KEY))
    return sum(_cache_bytes(max_sources, each, LIMIT_OVER.itemsize) for each in (LIMIT4_SET, LIMIT6_SET))


def interface_bytes(blueprint: Blueprint) -> int:
    """Return the bytes of the interfaces' counters, and of the maps that find them."""
    entries, places = blueprint.max_interfaces, blueprint.counts["interfaces_direct"]
    slot = SLOT_COUNTERS + OUTCOMES * blueprint.defines["CNF_EGRESS"]
    counters = os.sysconf("SC_NPROCESSORS_CONF") * (entries + 1) * slot * COUNTER.itemsize
    return counters + places * INTERFACE.itemsize + _hash_bytes(entries, np.dtype("<u4"), INTERFACE)


def _hash_bytes(entries: int, key: np.dtype[Any], value: np.dtype[Any]) -> int:
    chains = CHAIN_BYTES << (entries - 1).bit_length()
    return entries * (ELEMENT_BYTES + key.itemsize + value.itemsize) + chains


def _cache_bytes(entries: int, set_of_slots: np.dtype[Any], beside: int) -> int:
    """Return the bytes of a cache with twice as many slots as entries, and ``beside`` bytes more a slot."""
    return -(-2 * entries // WAYS) * (set_of_slots.itemsize + WAYS * beside)
