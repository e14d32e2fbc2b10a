"""The kernel's verifier gives up at a million instructions: a program stays far away, for other compilers' sake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cnf.datapath import build
from tests.bpf.limited import SIZE

MOST: Final = 300_000
"""Of instructions that the verifier follows."""


def test_verifier_is_far_from_giving_up(table: build.Table) -> None:
    """Not even with all that can be compiled in."""
    loaded = build.load(build.Blueprint(1024, table, limiter=SIZE, evicted_records=table == "cache"))
    fdinfo = Path(f"/proc/self/fdinfo/{loaded.programs['cnf_ingress']}").read_text(encoding="ascii")
    loaded.close()

    (followed,) = re.findall(r"^verified_insns:\t(\d+)$", fdinfo, re.MULTILINE)
    assert 0 < int(followed) < MOST
