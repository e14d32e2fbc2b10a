"""Every packet form, whole and cut anywhere, through the program in the kernel."""

from __future__ import annotations

import pytest

from tests.bpf.compare import XDP_PASS, disagreement
from tests.bpf.conftest import Datapath
from tests.bpf.forms import FORMS, Form
from tests.bpf.reference import Value, first_flags

SHORTEST = 14  # BPF_PROG_TEST_RUN takes nothing shorter than an Ethernet header

each_form = pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])


@each_form
def test_a_form_is_passed_and_counted_once_where_the_table_says(datapath: Datapath, form: Form) -> None:
    """A whole frame is passed, and stands in exactly the counters and the flow that the table names."""
    size = len(form.frame)

    assert datapath.run(form.frame) == XDP_PASS

    assert datapath.received() == {form.label: (1, size)}
    assert datapath.unparsed() == ({form.reason: 1} if form.reason else {})
    assert datapath.flows() == ({form.key: Value(1, size, first_flags(form.tcp_flags))} if form.key else {})


@each_form
def test_every_truncation_of_a_form_is_counted_as_by_the_reference(datapath: Datapath, form: Form) -> None:
    """A frame cut after any byte is passed, and counted as the reference says for what is left of it."""
    assert not disagreement(datapath, [form.frame[:size] for size in range(SHORTEST, len(form.frame))])
