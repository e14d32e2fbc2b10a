"""The hash of the caches spreads keys as well as chance does, however regular they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pytest

from cnf.abi import CACHE_SECRETS, FAMILIES, WAYS, Family
from cnf.kernel.maps import Array
from tests.bpf.changing import FLOW, Changing, Flows, draw
from tests.bpf.placement import keys_of, place, too_many
from tests.bpf.tables import CacheFlows

SETS: Final = 8192
COUNT: Final = SETS * WAYS * 3 // 4
"""Three quarters of the slots."""
DRAWS: Final = 60
BY_CHANCE: Final = 0.0526
"""The share of so many keys that have no slot if every key's set is chance."""
MEAN, WORST = 0.001, 0.0075
"""By how much regular keys may have more: on the average of all draws of secrets, and with the worst."""
NUMBERS: Final = np.arange(COUNT)


def flows(addresses: object = 0, src_ports: object = 0, dst_ports: object = 0) -> Flows:
    """Return COUNT flows."""
    made = np.zeros(COUNT, FLOW)
    made["addr"], made["src_port"], made["dst_port"] = addresses, src_ports, dst_ports
    return made


REGULAR: Final = {
    "addresses in a row": flows(NUMBERS + 0x0A000000),
    "ports in a row": flows(0x0A000001, NUMBERS % 65536),
    "both ports": flows(0x0A000001, NUMBERS % 256 + 1024, NUMBERS // 256),
    "addresses and ports": flows(NUMBERS // 64 + 0x0A000000, NUMBERS % 64 + 32768),
    "addresses and ports together": flows(NUMBERS + 0x0A000000, NUMBERS % 65536),
    **{f"addresses 2^{bits} apart": flows((NUMBERS << bits) & 0xFFFFFFFF) for bits in (1, 4, 8, 12, 16)},
    "byte for byte backwards": flows(NUMBERS.astype(">u4").view("<u4")),
    "ports 256 apart": flows(NUMBERS >> 8, (NUMBERS & 0xFF) << 8),
}
# A stride that leaves the word's end wraps onto the same addresses: what is lost comes back as ports.
for bits in (12, 16):
    REGULAR[f"addresses 2^{bits} apart"]["src_port"] = NUMBERS << bits >> 32


@pytest.fixture(scope="module")
def changing() -> Iterator[Changing]:
    """Load a program with that many sets."""
    changing = Changing("cache", SETS * WAYS // 2)
    yield changing
    changing.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_flows_stand_where_the_hash_says(changing: Changing, family: Family) -> None:
    """With any secrets, each flow is in the set, and has the tag, that the same arithmetic gives in numpy."""
    fd = changing.datapath.loaded.maps["cache_secrets"]
    secrets = Array("cache_secrets", fd, CACHE_SECRETS)
    table = changing.datapath.tables[family]
    assert isinstance(table, CacheFlows)
    for seed, regular in enumerate(REGULAR.values()):
        drawn = np.zeros((), CACHE_SECRETS)
        drawn["words"] = draw(seed)
        secrets.write(0, drawn)
        changing.start(regular)
        changing.run(family, 2000)
        tags = table.sets.window(0, table.sets.size)[:, :1].view(np.uint8)
        met = 0
        for block in table.cache.blocks():
            keys = table.cache.records(block.words)["key"]
            sets, expected = place(keys, drawn["words"], SETS)
            assert (sets == block.places // WAYS).all()
            assert (tags[block.places // WAYS, block.places % WAYS] == expected).all()
            assert np.isin(keys, keys_of(family, regular[:2000])).all()
            met += len(keys)
        assert met == changing.datapath.inserted(family) == 2000


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", REGULAR)
def test_regular_keys_are_spread_as_by_chance(family: Family, name: str) -> None:
    """At three quarters of the slots, no more flows go without one than if their sets were chance."""
    keys = keys_of(family, REGULAR[name])
    assert len(np.unique(keys)) == COUNT
    shares = [too_many(place(keys, draw(seed), SETS)[0], SETS, WAYS) for seed in range(DRAWS)]
    assert np.mean(shares) < BY_CHANCE + MEAN
    assert max(shares) < BY_CHANCE + WORST


def test_chance_leaves_as_many_out() -> None:
    """The share that the others are held against is what chance gives."""
    rng = np.random.default_rng(1)
    shares = [too_many(rng.integers(SETS, size=COUNT).astype(np.uint64), SETS, WAYS) for _ in range(DRAWS)]
    assert np.mean(shares) == pytest.approx(BY_CHANCE, abs=0.0002)
