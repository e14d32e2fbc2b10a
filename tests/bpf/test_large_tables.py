"""Tables that are too large for the program to address are looked up by number, and count the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from cnf.abi import FAMILIES, Family
from cnf.datapath import blueprint
from cnf.datapath.blueprint import TABLES, Blueprint
from tests.bpf import kept
from tests.bpf.compare import XDP_PASS
from tests.bpf.limited import FLOWS, SIZE, XDP_DROP, Limited
from tests.bpf.packets import UDP, IPv4, IPv6, frame

LAYERS: Final = {"ipv4": IPv4(), "ipv6": IPv6()}
LIMITS: Final[dict[str, Any]] = {
    "mode": "enforce",
    "rules": [{"name": "r", "prefixes": ["0.0.0.0/0", "::/0"], "packets_per_second": 1, "burst_packets": 3}],
}


@pytest.fixture(scope="module")
def large() -> Iterator[Limited]:
    """Load a program whose tables are said to be too large."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blueprint, "DIRECT_ENTRIES", FLOWS - 1)
        plan = Blueprint(FLOWS, limiter=replace(SIZE, sources=FLOWS), flow_records=True)
        assert {*plan.counts} - {*plan.direct} == TABLES
        large = Limited(kept.load(plan))
    yield large
    large.loaded.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_flows_sources_and_drops_are_counted(large: Limited, family: Family) -> None:
    """Of a flow that goes on: what passes, what is dropped beside it, and its source; the second as the first."""
    large.start(LIMITS)
    packets = [frame(LAYERS[family], UDP(src_port=port)) for port in (1, 2)]

    verdicts = [large.run(packet) for packet in packets * 4]

    assert verdicts == [XDP_PASS] * 3 + [XDP_DROP] * 5
    ((_keys, values),) = large.tables[family].batches()
    assert sorted(zip(values["packets"].tolist(), values["dropped_packets"].tolist(), strict=True)) == [(1, 3), (2, 2)]
    ((_prefix, _group, source),) = large.sources()
    assert (int(source["packets"]), int(source["over_packets"]), int(source["dropped_packets"])) == (3, 5, 5)
