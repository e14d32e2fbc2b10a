"""What stands before the IP header is known of each flow, so that a record can tell the bytes of layer 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from cnf.abi import LINK_BYTES_SHIFT
from cnf.datapath.blueprint import Blueprint, Table
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS, XDP, Hook
from tests.bpf import kept
from tests.bpf.conftest import LOOPBACK, SMALL_TABLE, Datapath
from tests.bpf.packets import UDP, VLAN, IPv4, IPv6, frame
from tests.bpf.skb import ETHERNET
from tests.bpf.test_skb_vlan import HOOKS, SOURCE, Tagging, run

ENDS: Final = {"ipv4": IPv4("8.0.0.1"), "ipv6": IPv6("2001:db8:86dd::1")}
"""As those of test_skb_link.py."""
TAGS: Final = {"none": (), "one": (5,), "two": (5, 6), "priority": (0,), "priority and others": (0, 0, 5)}


def link_bytes(datapath: Datapath) -> set[int]:
    """Return those of all flows."""
    return {int(value.tcp_flags) >> LINK_BYTES_SHIFT for value in datapath.flows().values()}


@pytest.fixture(scope="module", params=[XDP, TC_INGRESS, TC_EGRESS], ids=lambda hook: hook.entry)
def datapath(request: pytest.FixtureRequest, table: Table) -> Iterator[Datapath]:
    """Load a program of each hook once."""
    hook: Hook = request.param
    loaded = kept.load(Blueprint(SMALL_TABLE, table, flow_records=True, hooks=(hook,)))
    yield Datapath(loaded, hook)
    loaded.close()


@pytest.mark.parametrize("tags", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("family", ENDS)
def test_every_tag_counts(datapath: Datapath, family: str, tags: tuple[int, ...]) -> None:
    """Those with an id and those without one."""
    datapath.reset()
    datapath.run(frame(*map(VLAN, tags), ENDS[family], UDP(), bytes(30)), 2)
    # Of an skb the kernel has taken the first tag off: here BPF_PROG_TEST_RUN has not.
    assert link_bytes(datapath) == {14 + 4 * len(tags)}


@pytest.mark.parametrize("family", ENDS)
def test_without_ethernet_there_is_nothing(datapath: Datapath, family: str) -> None:
    """Where the hook sees such frames."""
    if datapath.hook == XDP:
        return
    datapath.reset()
    datapath.interfaces.release(LOOPBACK)
    datapath.interfaces.assign(LOOPBACK, ethernet=False)
    datapath.run(frame(ENDS[family], UDP(), bytes(30))[ETHERNET:])
    datapath.interfaces.release(LOOPBACK)
    datapath.interfaces.assign(LOOPBACK)
    assert link_bytes(datapath) == {0}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.entry)
def test_a_tag_beside_the_frame_counts(table: Table, hook: Hook) -> None:
    """It is on the wire, as the bytes have it."""
    loaded = kept.load(Tagging(SMALL_TABLE, table, flow_records=True, hooks=(TC_EGRESS,), source=SOURCE))
    datapath = Datapath(loaded, hook)
    run(datapath, frame(VLAN(5), VLAN(6), IPv4(), UDP(), bytes(30)))
    assert link_bytes(datapath) == {14 + 2 * 4}
    loaded.close()
