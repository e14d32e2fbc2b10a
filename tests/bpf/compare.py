"""Run frames through the program and through the reference, and tell where they part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP
from tests.bpf.conftest import Datapath
from tests.bpf.reference import Tally, tally
from tests.bpf.skb import TC_ACT_UNSPEC

XDP_PASS: Final = 2
PASS: Final = {XDP: XDP_PASS, TC_INGRESS: TC_ACT_UNSPEC, TC_EGRESS: TC_ACT_UNSPEC}


def disagreement(datapath: Datapath, frames: Sequence[bytes]) -> str:
    """Return how program and reference differ after ``frames``, with the frame at fault in hex, or "" if they agree."""
    difference = _difference(datapath, frames)
    if not difference:
        return ""
    for frame in frames:
        alone = _difference(datapath, [frame])
        if alone:
            return f"frame of {len(frame)} bytes {frame.hex()}\n{alone}"
    return f"no frame alone, but all {len(frames)} together\n{difference}"


def _difference(datapath: Datapath, frames: Sequence[bytes]) -> str:
    datapath.reset()
    verdicts = {datapath.run(frame) for frame in frames} - {PASS[datapath.hook]}
    expected = tally(frames)
    unparsed = expected.unparsed if datapath.sends else datapath.unparsed()  # what is sent is counted by label only
    counted = Tally(datapath.flows(), datapath.received(), unparsed)
    if counted == expected and not verdicts:
        return ""
    return f"verdicts {verdicts or 'as expected'}\nexpected {expected}\ncounted  {counted}"
