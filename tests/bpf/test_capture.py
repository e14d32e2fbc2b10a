"""Frames are copied with their verdicts, exactly as many as are counted, and only while somebody captures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Final

import numpy as np
import pytest

from cnf.abi import CAPTURE_BYTES, CAPTURE_RECORD, LIMIT_VERDICTS
from cnf.capture.asked import Asked
from cnf.capture.frames import Frames
from cnf.datapath import build
from cnf.datapath.blueprint import Blueprint, Table
from cnf.datapath.capture_maps import CaptureMaps
from cnf.kernel.hooks import HOOKS, TC_INGRESS
from tests.bpf import kept
from tests.bpf.conftest import LOOPBACK, Datapath
from tests.bpf.limited import SIZE, Limited
from tests.bpf.packets import ARP, TCP, UDP, IPv4, IPv6, frame

SESSION: Final = 7
FOR_EVER: Final = (1 << 63) - 1
BUDGET: Final = 1 << 31
DENY: Final = {"mode": "enforce", "deny": ["192.0.2.0/24"]}
KNOWN: Final = frame(IPv4(), UDP(), bytes(100))


class Capturing:
    """A program, and who captures."""

    def __init__(self, datapath: Datapath) -> None:
        """Take a datapath; nobody captures yet."""
        self.datapath = datapath
        self.maps = CaptureMaps(datapath.loaded.maps)
        self.before = self.maps.counts()

    def begin(self, which: str = "all", snaplen: int = 128, budget: int = BUDGET, until: int = FOR_EVER) -> None:
        """Begin as the daemon does."""
        self.maps.set(SESSION, Asked(which=which).verdicts, snaplen, budget)
        self.datapath.interfaces.hide(hidden=True)
        self.maps.extend(until)

    def end(self) -> None:
        """End it, and forget what is left."""
        self.maps.extend(0)
        self.datapath.interfaces.hide(hidden=False)
        self.maps.ring.read(1 << 20)
        self.before = self.maps.counts()

    def frames(self) -> Frames:
        """Return what was copied."""
        return Frames(self.maps.ring.read(1 << 20), 0)

    def counts(self) -> dict[str, int]:
        """Return what has been counted since the beginning, where it is not zero."""
        return {name: more for name, now in self.maps.counts().items() if (more := now - self.before[name])}


@pytest.fixture(scope="module")
def loaded_hooks(table: Table) -> Iterator[build.Datapath]:
    """Load the programs of all hooks once."""
    loaded = kept.load(Blueprint(4096, table, limiter=SIZE, hooks=HOOKS))
    yield loaded
    loaded.close()


@pytest.fixture(params=HOOKS, ids=lambda hook: hook.entry)
def capturing(request: pytest.FixtureRequest, loaded_hooks: build.Datapath) -> Iterator[Capturing]:
    """Give each test a hook of its own, and end its capture."""
    limited = Limited(loaded_hooks, request.param)
    limited.start({})
    capturing = Capturing(limited)
    with closing(capturing.maps.ring):
        yield capturing
        capturing.end()


def test_a_frame_is_copied_byte_for_byte(capturing: Capturing) -> None:
    """Of a flow that is known, of one that is new, and of none, each with what the program knows of it."""
    capturing.datapath.run(KNOWN)
    capturing.begin(snaplen=CAPTURE_BYTES)
    sent = [KNOWN, frame(IPv6(), TCP(), bytes(50)), frame(ARP(), pad_to=60)]
    for each in sent:
        capturing.datapath.run(each)

    frames = capturing.frames()
    assert frames.data == sent
    assert frames.heads["length"].tolist() == [len(each) for each in sent]
    assert frames.heads["session"].tolist() == [SESSION] * 3
    assert frames.heads["ifindex"].tolist() == [LOOPBACK] * 3
    described = frames.fields({LOOPBACK: "lo"})
    assert [each["kind"] for each in described] == ["udp", "tcp", "non_ip"]
    assert [each["src_addr"] for each in described] == ["192.0.2.1", "2001:db8::1", None]
    assert [each["dst_port"] for each in described] == [53, 443, None]
    assert {each["direction"] for each in described} == {capturing.datapath.hook.direction}
    assert (np.diff(frames.heads["time"].astype(np.int64)) > 0).all()
    assert capturing.counts() == {"captured": 3}


def test_no_more_is_copied_than_was_asked_for(capturing: Capturing) -> None:
    """The first bytes; the length is the frame's."""
    capturing.begin(snaplen=20)
    capturing.datapath.run(KNOWN)

    frames = capturing.frames()
    assert (frames.data, frames.heads["length"].tolist()) == ([KNOWN[:20]], [len(KNOWN)])


def test_what_is_over_the_budget_is_counted(capturing: Capturing) -> None:
    """Each second has the same; captured and lost together are all."""
    capturing.begin(budget=5)
    capturing.datapath.run(KNOWN, 12)

    counts = capturing.counts()
    assert sum(counts.values()) == 12
    assert len(capturing.frames()) == counts["captured"] in (5, 10)  # the second may have ended meanwhile


def test_what_finds_the_ring_full_is_counted(capturing: Capturing) -> None:
    """Captured is what is in the ring."""
    capturing.begin(snaplen=128)
    capturing.datapath.run(KNOWN, 6000)

    counts = capturing.counts()
    assert counts["captured"] + counts["ring_full"] == 6000
    assert len(capturing.frames()) == counts["captured"]


def test_a_capture_ends_by_itself(capturing: Capturing) -> None:
    """At the tick that the daemon has said last."""
    capturing.begin(until=1)
    capturing.datapath.run(KNOWN, 3)

    assert capturing.counts() == {}
    assert len(capturing.frames()) == 0


def test_only_what_was_dropped(capturing: Capturing) -> None:
    """As it is counted; what is sent is never dropped."""
    limited = capturing.datapath
    assert isinstance(limited, Limited)
    limited.start(DENY)
    capturing.begin("dropped")
    limited.run(KNOWN, 3)
    limited.run(frame(IPv4(src="198.51.100.9"), UDP()), 2)

    frames = capturing.frames()
    assert [frames.verdict(row) for row in range(len(frames))] == ([] if limited.sends else ["denied"] * 3)


def test_what_would_be_dropped(capturing: Capturing) -> None:
    """In mode shadow the packets over the limit are told from those within."""
    limited = capturing.datapath
    assert isinstance(limited, Limited)
    rule = {"name": "r", "prefixes": ["0.0.0.0/0"], "bits_per_second": 8, "burst_bytes": 1514}
    limited.start({"mode": "shadow", "rules": [rule]})
    capturing.begin()
    within = 1514 // len(KNOWN)
    limited.run(KNOWN, within + 2)

    frames = capturing.frames()
    over = [] if limited.sends else ["would_drop"] * 2
    assert [frames.verdict(row) for row in range(len(frames))] == ["passed"] * (within + 2 - len(over)) + over


def test_a_tag_beside_the_frame_is_put_into_it(loaded_hooks: build.Datapath) -> None:
    """The record has it; what is written has it where it was on the wire."""
    heads = np.zeros(1, CAPTURE_RECORD)
    heads["length"], heads["tag"] = len(KNOWN), 0x8100 | 5 << 16
    data, length = Frames([heads.tobytes() + KNOWN], 0).bytes(0)

    assert data == KNOWN[:12] + b"\x81\x00\x00\x05" + KNOWN[12:]
    assert length == len(KNOWN) + 4
    assert TC_INGRESS.entry in loaded_hooks.programs


def test_verdicts_are_in_the_order_of_the_header() -> None:
    """As enum cnf_limit has them."""
    assert LIMIT_VERDICTS.index("would_drop") == 4
