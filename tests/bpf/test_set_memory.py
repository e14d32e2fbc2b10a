"""What the prefixes of sets take of the kernel's memory, as the cgroup of who has made the maps counts it."""

from __future__ import annotations

import random
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Final

import pytest

from cnf.abi import Family
from cnf.datapath.blueprint import Blueprint, LimiterSize
from cnf.limiter.set_maps import SetMaps
from cnf.limits.prefix_file import read
from cnf.limits.prefixes import merged
from tests.bpf import kept
from tests.net import cgroups
from tests.net.wait import PATIENCE

PREFIXES: Final = 100_000
AT_MOST: Final[dict[Family, int]] = {"ipv4": 15_000_000, "ipv6": 18_000_000}
"""Bytes, as docs/limits.md has it."""
LEAST: Final = 64 * PREFIXES
"""Bytes: a node for each prefix."""
ROOM: Final = 1 << 30


@pytest.mark.needs("memory cgroup")
@pytest.mark.parametrize("family", AT_MOST)
def test_what_many_prefixes_take(family: Family) -> None:
    """Prefixes that are anywhere, so that each takes two nodes; and a second bank as much."""
    code = f"from tests.bpf.test_set_memory import measure; measure({family!r})"
    with cgroups.bounded(ROOM) as inside:
        done = subprocess.run(
            (*inside, sys.executable, "-c", code),
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=6 * PATIENCE,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = map(int, done.stdout.split())
    assert LEAST < first < AT_MOST[family]
    assert LEAST < second < AT_MOST[family]


def measure(family: Family) -> None:
    """Print what each of two banks takes."""
    drawn = random.Random(1)  # noqa: S311 - no secret
    numbers = drawn.sample(range(1 << 28), PREFIXES)
    form = "{0}.{1}.{2}.{3}" if family == "ipv4" else "2001:{0:02x}{1:02x}:{2:02x}{3:02x}::/48"
    text = "\n".join(form.format(*(16 << 24 | number).to_bytes(4)) for number in numbers)
    table = merged({0: read(BytesIO(text.encode()))})
    loaded = kept.load(Blueprint(1024, "lru_hash", limiter=LimiterSize(4096, 64, 1024)))
    maps = SetMaps(loaded.maps, 0)
    for bank in (1, 2):
        before = cgroups.kernel_memory()
        maps.write(bank, table)
        print(cgroups.kernel_memory() - before)  # noqa: T201 - for the test, in another process
