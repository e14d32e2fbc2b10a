"""The check that an answer is of its type."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.cli.replies import Flows, Status, check
from tests.unit.cli.samples import FLOW, STATUS, flows


def test_good_replies_pass() -> None:
    """What a daemon says passes, with keys that a later daemon may add."""
    check(flows(FLOW), Flows)
    check({**STATUS, "limits": {}}, Status)


@pytest.mark.parametrize(
    ("path", "value", "culprit"),
    [
        (("drain", "age_seconds"), "1.2", "reply.drain.age_seconds is '1.2'"),
        (("drain", "interval_seconds"), None, "reply.drain.interval_seconds is None"),
        (("rates", "bits_per_second"), float("nan"), "reply.rates.bits_per_second is nan"),
        (("rates", "bits_per_second"), float("inf"), "reply.rates.bits_per_second is inf"),
        (("daemon", "pid"), 10**400, "reply.daemon.pid is 1000"),
        (("daemon", "started"), "2026-03-01T08:55:00", "reply.daemon.started is '2026-03-01T08:55:00'"),
        (("daemon", "started"), "noon", "noon"),
        (("interfaces", 0, "name"), 7, "reply.interfaces.0.name is 7"),
        (("interfaces",), {}, "reply.interfaces is {}"),
        (("flow_table", "ipv6"), [], r"reply.flow_table.ipv6 is \[\]"),
        (("ledger", "bytes"), {}, "reply.ledger.bytes has no difference"),
    ],
)
def test_bad_reply_is_named(path: tuple[str | int, ...], value: object, culprit: str) -> None:
    """A value of the wrong kind is refused, and the error names where it stands."""
    reply: Any = copy.deepcopy(STATUS)
    place = reply
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=culprit):
        check(reply, Status)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(STATUS)), inner, max_size=6),
)


@given(JSON)
def test_no_other_exception(reply: object) -> None:
    """Whatever JSON comes, it passes or is refused with ValueError; nothing else happens."""
    with pytest.raises(ValueError, match="reply"):
        check(json.loads(json.dumps(reply)), Status)
