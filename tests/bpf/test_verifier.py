"""The kernel's verifier gives up at a million instructions: a program stays far away, for other compilers' sake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from cnf.datapath import build
from cnf.datapath.blueprint import Blueprint, Table
from tests.bpf.limited import SIZE

MOST: Final = 300_000
"""Of instructions that the verifier follows."""


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "IPv6 and VLANs for limits only"])
def test_verifier_is_far_from_giving_up(table: Table, whole: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Not even with all that can be compiled in."""
    blueprint = Blueprint(1024, table, ipv6=whole, vlan=whole, limiter=SIZE, evicted_records=whole and table == "cache")
    loaded = build.load(blueprint)
    fdinfo = Path(f"/proc/self/fdinfo/{loaded.programs['cnf_ingress']}").read_text(encoding="ascii")
    loaded.close()

    (followed,) = re.findall(r"^verified_insns:\t(\d+)$", fdinfo, re.MULTILINE)
    assert 0 < int(followed) < MOST
