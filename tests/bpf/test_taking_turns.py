"""The plain program and the limiting one take turns on the same maps: neither finds what is not so."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from cnf.datapath.blueprint import WAYS, Blueprint, Table
from cnf.kernel import libbpf
from cnf.kernel.hooks import HOOKS
from tests.bpf import kept
from tests.bpf.conftest import only
from tests.bpf.limited import SIZE, XDP_DROP, Limited
from tests.bpf.packets import UDP, IPv4, frame

DENY: Final = {"mode": "enforce", "deny": ["192.0.2.1"]}


@only("cache")
def test_drops_stay_with_their_flow(table: Table) -> None:
    """A flow that gets the slot of one with drops by the plain program has none, and then just its own."""
    first = [frame(IPv4("192.0.2.1"), UDP(src_port=port)) for port in range(1, WAYS + 1)]
    later = [frame(IPv4("192.0.2.1"), UDP(src_port=port)) for port in range(101, 101 + WAYS)]
    blueprint = Blueprint(WAYS // 2, table, limiter=SIZE, plain=True, hooks=HOOKS)
    with closing(kept.load(blueprint)) as loaded:
        limited = Limited(loaded)
        limiting = loaded.limiting[limited.hook.entry]
        _run(limited, first)
        limited.switch(DENY)
        assert {libbpf.run(limiting, each, 1)[0] for each in first} == {XDP_DROP}
        assert _drops(limited) == dict.fromkeys(range(1, WAYS + 1), 1)

        _run(limited, later)
        taken = {port: drops for port, drops in _drops(limited).items() if port > 100}
        assert taken
        assert not any(taken.values())
        for each in later:
            libbpf.run(limiting, each, 1)
        assert {port: drops for port, drops in _drops(limited).items() if port in taken} == dict.fromkeys(taken, 1)


def _run(limited: Limited, frames: list[bytes]) -> None:
    for each in frames:
        limited.run(each)


def _drops(limited: Limited) -> dict[int, int]:
    """Return the dropped packets of each flow, by source port."""
    return {
        int(key["src_port"]): int(value["dropped_packets"])
        for keys, values in limited.tables["ipv4"].batches()
        for key, value in zip(keys, values, strict=True)
    }
