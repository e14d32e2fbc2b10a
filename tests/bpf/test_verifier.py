"""The kernel's verifier gives up at a million instructions: a program stays far away, for other compilers' sake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from cnf.datapath.blueprint import CAPTURES, Blueprint, Table
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP
from tests.bpf import kept
from tests.bpf.limited import SIZE

HOOKS: Final = (XDP, TC_INGRESS, TC_EGRESS)
MOST: Final = 400_000
"""Of instructions that the verifier follows."""


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "IPv6 and VLANs for limits only"])
def test_verifier_is_far_from_giving_up(table: Table, whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Not even with all that can be compiled in."""
    for limiter in (SIZE, None):
        told = whole and table == "cache"
        blueprint = Blueprint(1024, table, whole, whole, limiter, told, told, hooks=HOOKS)
        loaded = kept.load(blueprint)
        assert {*(hook.entry for hook in HOOKS), *(each.entry for each in CAPTURES.values())} <= loaded.programs.keys()
        for entry, program in loaded.programs.items():
            fdinfo = Path(f"/proc/self/fdinfo/{program}").read_text(encoding="ascii")
            (followed,) = re.findall(r"^verified_insns:\t(\d+)$", fdinfo, re.MULTILINE)
            assert 0 < int(followed) < MOST, entry
        loaded.close()
