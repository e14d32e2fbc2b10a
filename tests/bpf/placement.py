"""Where the program puts a flow in a cache: ``cache_hash()`` and ``cache_place()`` of cache.h, in numpy."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from cnf.abi import SECRETS, Family
from cnf.arrays import Records
from cnf.flows.recorder import SETS
from tests.bpf.changing import FRAMES, Flows
from tests.bpf.conftest import LOOPBACK

Words = npt.NDArray[np.uint64]
LOW: Final = np.uint64(0xFFFFFFFF)
HALF: Final = np.uint64(32)
_ADDRESSES: Final = {"ipv4": slice(26, 34), "ipv6": slice(22, 54)}
"""Where both stand in FRAMES."""
_UDP: Final = 17


def keys_of(family: Family, flows: Flows) -> Records:
    """Return the keys under which the program has flows of ``changing.c``, shape (N,)."""
    keys = np.zeros(len(flows), SETS[family]["slots"].base["key"])
    source, destination = np.frombuffer(FRAMES[family][_ADDRESSES[family]], "<u4").reshape(2, -1)
    halves = keys.view("<u4").reshape(len(keys), -1)
    words = len(source)
    halves[:, :words], halves[:, words : 2 * words] = source, destination
    halves[:, words - 1] = flows["addr"].astype(">u4").view("<u4")
    keys["src_port"], keys["dst_port"] = flows["src_port"], flows["dst_port"]
    keys["ifindex"], keys["protocol"] = LOOPBACK, _UDP
    return keys


def place(keys: Records, secrets: Words, sets: int) -> tuple[Words, Words]:
    """Return (set, tag) of each key, shapes (N,), in a cache of so many sets; ``secrets`` are SECRETS words."""
    words = np.ascontiguousarray(keys).view("<u8").reshape(len(keys), -1)
    total = np.zeros(len(keys), np.uint64)
    for index in range(words.shape[1]):
        word = words[:, index]
        total += (secrets[2 * index] + (word & LOW)) * (secrets[2 * index + 1] + (word >> HALF))
    total ^= total >> HALF
    total *= secrets[SECRETS - 1] | np.uint64(1)
    tags = total >> np.uint64(20) & np.uint64(0xFF)
    return (total >> HALF) * np.uint64(sets) >> HALF, np.maximum(tags, np.uint64(1))


def too_many(places: npt.NDArray[np.uint64], sets: int, ways: int) -> float:
    """Return the share of keys that have no slot, where each of the sets has ``ways``."""
    fill = np.bincount(places.astype(np.int64), minlength=sets)
    return float(np.maximum(fill - ways, 0).sum() / len(places))
