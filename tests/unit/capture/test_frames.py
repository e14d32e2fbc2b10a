"""Frames of the ring: a VLAN tag that stands beside a frame is where it is on the wire."""

from __future__ import annotations

import numpy as np
import pytest

from cnf.abi import CAPTURE_RECORD
from cnf.capture.frames import Frames

ADDRESSES = bytes(range(12))


@pytest.mark.parametrize(
    ("tag", "data", "whole"),
    [
        (0, ADDRESSES + b"\x08\0rest", (ADDRESSES + b"\x08\0rest", 100)),
        (0x6007_8100, ADDRESSES + b"\x08\0rest", (ADDRESSES + b"\x81\0\x60\x07\x08\0rest", 104)),
        (0x0001_88A8, ADDRESSES, (ADDRESSES + b"\x88\xa8\0\x01", 104)),
        (0x0001_8100, ADDRESSES[:6], (ADDRESSES[:6], 104)),
    ],
)
def test_a_tag(tag: int, data: bytes, whole: tuple[bytes, int]) -> None:
    """It counts in the frame's length, however little was captured."""
    head = np.zeros((), CAPTURE_RECORD)
    head["tag"], head["length"] = tag, 100
    assert Frames([head.tobytes() + data], 0).bytes(0) == whole
