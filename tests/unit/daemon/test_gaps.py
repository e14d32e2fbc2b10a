"""Flows that can finish without a record are named, with what to do."""

from __future__ import annotations

import attrs

from cnf import config
from cnf.config import Settings
from cnf.daemon.gaps import gaps
from cnf.datapath.blueprint import Blueprint
from cnf.recording import Export, History, Ipfix

KEPT = Settings((config.Interface("eth0"),))
EXPORTED = attrs.evolve(KEPT, export=Export((Ipfix("192.0.2.9:4739"),)))
SHORT = config.Flows(ended_timeout=1.0, drain_interval=2.0)
CACHE, TOLD, LRU_HASH = Blueprint(64), Blueprint(64, finished_events=True), Blueprint(64, "lru_hash")


def test_a_flow_that_is_shorter_than_a_drain() -> None:
    """It can be gone before a drain sees it, unless the program tells of it, or user space alone deletes it."""
    short = attrs.evolve(KEPT, flows=SHORT)
    (remedy,) = gaps(short, CACHE).values()
    assert remedy == "set flows.drain_interval to no more than 1 s"
    assert gaps(short, TOLD) == gaps(short, LRU_HASH) == gaps(KEPT, CACHE) == {}
    assert gaps(attrs.evolve(short, history=History(keep=0.0)), CACHE) == {}


def test_an_evicted_flow() -> None:
    """It is in no record where the program was built without export, or the kernel tells nobody."""
    assert gaps(EXPORTED, TOLD) == {}
    assert [*gaps(EXPORTED, CACHE).values()] == ["restart cnfd: its program was built without export"]
    assert [*gaps(EXPORTED, LRU_HASH).values()] == ['set flows.table to "cache"']
