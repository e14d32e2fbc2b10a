"""The reference parser of ``tests/bpf`` agrees with the hand-written table, and has an answer to any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bpf.forms import FORMS, Form
from tests.bpf.packets import UDP, VLAN, IPv4, frame
from tests.bpf.reference import Outcome, Tally, Value, parse, tally

LEAST_FORMS = 60
STARTS = (b"", b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00\x00\x05\x08\x00\x46")
"""What stands behind the MAC addresses: nothing in particular, IPv4, IPv6, IPv4 with options in a VLAN."""


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
def test_reference_agrees_with_the_table(form: Form) -> None:
    """The reference makes of each form what is written beside it."""
    assert parse(form.frame) == Outcome(form.label, form.reason, form.key, form.tcp_flags)


def test_the_table_names_each_form_once() -> None:
    """The table holds at least 60 forms, no two of one name or of the same bytes."""
    assert len(FORMS) >= LEAST_FORMS
    assert len({form.name for form in FORMS}) == len(FORMS)
    assert len({form.frame for form in FORMS}) == len(FORMS)


@pytest.mark.parametrize("size", range(14))
def test_reference_calls_a_runt_truncated(size: int) -> None:
    """A frame too short for an Ethernet header is malformed: truncated."""
    assert parse(frame(IPv4(), UDP())[:size]) == Outcome("malformed", "truncated", None, 0)


@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=200), size=st.integers(0, 220))
def test_reference_answers_any_bytes(start: bytes, rest: bytes, size: int) -> None:
    """Whatever the bytes, one outcome comes back: malformed with a reason, not IP, or a flow."""
    label, reason, key, tcp_flags = parse((bytes(12) + start + rest)[:size])

    assert (reason is not None) == (label == "malformed")
    assert (key is None) == (label in {"malformed", "non_ip"})
    assert tcp_flags == 0 or label == "tcp"


def test_tally_adds_up_by_flow_label_and_reason() -> None:
    """A tally holds the sums of packets and bytes, the OR of TCP flags, and that the first was a SYN."""
    forms = {form.name: form for form in FORMS}
    syn, ack = forms["TCP SYN"], forms["TCP data"]
    short = frame(VLAN(1), VLAN(2), VLAN(3))
    key = syn.key
    assert key is not None
    octets = len(syn.frame) + len(ack.frame)

    total = tally([syn.frame, ack.frame, short])

    assert total == Tally({key: Value(2, octets, 0x21A)}, {"tcp": (2, octets), "malformed": (1, 26)}, {"vlan_depth": 1})
