"""Random packets through the program in the kernel: mutated forms and noise."""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Callable
from typing import Final

import numpy as np

from tests.bpf.compare import disagreement
from tests.bpf.conftest import Datapath
from tests.bpf.forms import FORMS, LONGEST
from tests.bpf.reference import tally

SEED: Final = int(os.environ.get("CNF_SEED") or secrets.randbits(32))
BATCHES: Final = 100
BATCH: Final = 1_000
MOST_NOISE: Final = 200
HEADERS_END: Final = 120
PROTOCOLS: Final = (0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 255)
IPV4_TYPE: Final = b"\x08\x00"
VLAN_TYPES: Final = (b"\x81\x00", b"\x88\xa8")
NOISE_STARTS: Final = (b"", IPV4_TYPE + b"\x45", b"\x86\xdd\x60", *VLAN_TYPES)


def test_random_packets_are_counted_as_by_the_reference(datapath: Datapath) -> None:
    """100,000 mutated forms and pieces of noise are passed, and counted as the reference says."""
    for batch in range(BATCHES):
        found = disagreement(datapath, random_frames(batch))
        assert not found, f"CNF_SEED={SEED}, batch {batch}: {found}"


def test_random_packets_reach_every_label_and_reason() -> None:
    """The mixture leaves no outcome of the parser untried."""
    total = tally(frame for batch in range(10) for frame in random_frames(batch))

    labels = {"tcp", "udp", "icmp", "icmpv6", "sctp", "gre", "esp", "other", "non_ip", "malformed"}
    assert set(total.received) == labels, f"CNF_SEED={SEED}"
    assert set(total.unparsed) == {"truncated", "bad_header", "vlan_depth", "ext_header_depth"}, f"CNF_SEED={SEED}"
    assert {key.fragment for key in total.flows} == {True, False}, f"CNF_SEED={SEED}"


def random_frames(batch: int) -> list[bytes]:
    """Return the frames of one batch: eight mutated forms to two pieces of noise."""
    rng = np.random.default_rng((SEED, batch))
    return [_noise(rng) if rng.random() < 0.2 else _mutant(rng) for _ in range(BATCH)]


def _noise(rng: np.random.Generator) -> bytes:
    """Return random bytes, most of them behind a start that is parsed further."""
    frame = _set(rng.bytes(int(rng.integers(14, MOST_NOISE))), 12, NOISE_STARTS[rng.integers(len(NOISE_STARTS))])
    return _fit_length(rng, frame) if rng.random() < 0.5 else frame


def _mutant(rng: np.random.Generator) -> bytes:
    frame = FORMS[rng.integers(len(FORMS))].frame
    for _ in range(rng.integers(1, 4)):
        frame = MUTATIONS[rng.integers(len(MUTATIONS))](rng, frame)
    return frame[:LONGEST]


def _set_byte(rng: np.random.Generator, frame: bytes) -> bytes:
    return _set(frame, _place(rng, frame), rng.bytes(1))


def _set_protocol(rng: np.random.Generator, frame: bytes) -> bytes:
    """Put an IP protocol anywhere: now and then it is where one is read."""
    return _set(frame, _place(rng, frame), bytes((PROTOCOLS[rng.integers(len(PROTOCOLS))],)))


def _cut(rng: np.random.Generator, frame: bytes) -> bytes:
    return frame[: rng.integers(14, len(frame) + 1)]


def _grow(rng: np.random.Generator, frame: bytes) -> bytes:
    return frame + rng.bytes(int(rng.integers(1, 50)))


def _fit_length(rng: np.random.Generator, frame: bytes) -> bytes:
    """Write the bytes that are there, give or take a few, into the IP header as its length."""
    at = 14
    while frame[at - 2 : at] in VLAN_TYPES:
        at += 4
    there = len(frame) - at + int(rng.integers(-4, 5))
    if frame[at - 2 : at] == IPV4_TYPE:
        return _set(frame, at + 2, struct.pack("!H", max(0, there)))
    return _set(frame, at + 4, struct.pack("!H", max(0, there - 40)))


MUTATIONS: Final[tuple[Callable[[np.random.Generator, bytes], bytes], ...]] = (
    _set_byte,
    _set_protocol,
    _cut,
    _grow,
    _fit_length,
)


def _place(rng: np.random.Generator, frame: bytes) -> int:
    """Return a byte of the headers behind the MAC addresses."""
    return int(rng.integers(12, min(len(frame), HEADERS_END)))


def _set(frame: bytes, at: int, data: bytes) -> bytes:
    return frame[:at] + data + frame[at + len(data) :]
