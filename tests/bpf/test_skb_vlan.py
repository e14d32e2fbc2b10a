"""A tag that stands beside the frame is the outermost one, and each packet of the frame has it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cnf.datapath.blueprint import Blueprint, Table
from cnf.kernel.hooks import TC_EGRESS, TC_INGRESS
from tests.bpf import kept
from tests.bpf.conftest import SMALL_TABLE, Datapath
from tests.bpf.forms import VLAN_FORMS, Form
from tests.bpf.packets import TCP, VLAN, IPv4, frame
from tests.bpf.reference import Value
from tests.bpf.skb import ETHERNET, has_skb

SOURCE: Final = Path(__file__).with_name("tagging.c")
HOOKS: Final = tuple(hook._replace(entry=f"tagged_{hook.direction}") for hook in (TC_INGRESS, TC_EGRESS))
TAG: Final = 4


def untagged(packet: bytes) -> bytes:
    """Return a frame without its outermost tag."""
    return packet[:12] + packet[12 + TAG :]


FORMS: Final = [
    form
    for form in VLAN_FORMS
    if form.frame[12:14] in (b"\x81\x00", b"\x88\xa8")
    and len(form.frame) >= ETHERNET + TAG
    and has_skb(untagged(form.frame))
    and form.name != "375 priority tags"  # one too many in the frame only
]
"""Those that have a whole tag."""


class Tagging(Blueprint):
    """That of tagging.c, with the maps of both directions."""

    @property
    def programs(self) -> dict[str, int]:
        """Return the names of the programs, with those that tag frames."""
        return super().programs | {hook.entry: hook.program_type for hook in HOOKS}


@pytest.fixture(scope="module", params=HOOKS, ids=[hook.entry for hook in HOOKS])
def tagging(request: pytest.FixtureRequest, table: Table) -> Iterator[Datapath]:
    """Load the programs once."""
    loaded = kept.load(Tagging(SMALL_TABLE, table, hooks=(TC_EGRESS,), source=SOURCE))
    yield Datapath(loaded, request.param)
    loaded.close()


def run(datapath: Datapath, packet: bytes, **skb: int) -> None:
    """Run a tagged frame with its tag beside it."""
    ethertype, tag = struct.unpack("!HH", packet[12:16])
    datapath.run(untagged(packet), mark=ethertype << 16 | tag, **skb)


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_a_form_is_counted_as_with_its_tag_in_the_frame(tagging: Datapath, form: Form) -> None:
    """Key, counters and bytes are those of the frame as it is on the wire."""
    tagging.reset()
    run(tagging, form.frame)

    size = len(form.frame)
    assert tagging.received() == {form.label: (1, size)}
    assert tagging.flows() == ({form.key: Value(1, size, form.tcp_flags)} if form.key else {})


def test_every_segment_has_the_tag(tagging: Datapath) -> None:
    """On the short way as on the general one."""
    packet = frame(VLAN(5), IPv4(), TCP(), bytes(1000))
    headers = ETHERNET + TAG + 20 + 20
    tagging.reset()
    for _ in range(2):
        run(tagging, packet, gso_segs=3, gso_size=400, wire_len=len(packet) - TAG + 2 * (headers - TAG))

    ((key, value),) = tagging.flows().items()
    assert (key.vlan, value.packets, value.bytes) == (5, 2 * 3, 2 * (len(packet) + 2 * headers))
    assert tagging.received() == {"tcp": (6, 2 * (len(packet) + 2 * headers))}


def test_where_vlans_are_switched_off_a_tagged_frame_is_not_ip() -> None:
    """Its tag is seen, wherever it stands; it counts, and makes no flow."""
    loaded = kept.load(Tagging(SMALL_TABLE, vlan=False, hooks=(TC_EGRESS,), source=SOURCE))
    packet = frame(VLAN(5), IPv4(), TCP())
    for hook in HOOKS:
        datapath = Datapath(loaded, hook)
        datapath.reset()
        run(datapath, packet)
        assert (datapath.received(), datapath.flows()) == ({"non_ip": (1, len(packet))}, {})
    loaded.close()
