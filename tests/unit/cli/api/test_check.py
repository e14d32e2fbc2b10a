"""The check that an answer is of its type."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnf.cli.api.check import check
from cnf.cli.api.limit_replies import Change, Explanation, Limits, Sources
from cnf.cli.api.replies import Flows, Status
from tests.unit.cli.limit_samples import (
    CASE,
    CHANGE,
    CHANGED,
    FORGOTTEN,
    LIMITER,
    SHARED,
    SOURCE,
    SOURCE6,
    UNLIMITED,
    explained,
    sources,
)
from tests.unit.cli.samples import FLOW, STATUS, flows


def test_good_replies_pass() -> None:
    """What a daemon says passes, with keys that a later daemon may add."""
    check(flows(FLOW), Flows)
    check({**STATUS, "later": {}}, Status)
    check({**STATUS, "limiter": LIMITER}, Status)
    check(CHANGED, Limits)
    check(CHANGE, Change)
    check(sources(SOURCE, SOURCE6, SHARED, FORGOTTEN), Sources)
    check(explained(CASE, UNLIMITED), Explanation)


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
        (("limiter",), {}, "reply.limiter has no generation"),
        (("limiter", "pending"), {}, r"reply.limiter.pending is \{\}"),
    ],
)
def test_bad_reply_is_named(path: tuple[str | int, ...], value: object, culprit: str) -> None:
    """A value of the wrong kind is refused, and the error names where it stands."""
    with pytest.raises(ValueError, match=culprit):
        check(spoilt({**STATUS, "limiter": LIMITER}, path, value), Status)


@pytest.mark.parametrize(
    ("reply", "kind", "path", "value", "culprit"),
    [
        (CHANGED, Limits, ("rules", 1, "prefixes"), "::/0", "reply.rules.1.prefixes is '::/0'"),
        (CHANGED, Limits, ("rules", 0, "bits_per_second"), "1G", "reply.rules.0.bits_per_second is '1G'"),
        (CHANGED, Limits, ("allow", 0), "::/0", "reply.allow.0 is '::/0'"),
        (CHANGED, Limits, ("pending", 1, "seconds_left"), None, "reply.pending.1.seconds_left is None"),
        (CHANGE, Change, ("changes",), None, "reply.changes is None"),
        (sources(SOURCE), Sources, ("sources", 0, "last_drop"), "noon", "noon"),
        (sources(SOURCE), Sources, ("sources", 0, "last_drop"), 3, "reply.sources.0.last_drop is 3"),
        (sources(SOURCE), Sources, ("sources", 0, "tokens_bytes"), [], r"reply.sources.0.tokens_bytes is \[\]"),
        (explained(CASE), Explanation, ("cases", 0, "rule"), {}, "reply.cases.0.rule has no "),
        (explained(CASE), Explanation, ("cases", 0, "bucket", "shared"), 1, "reply.cases.0.bucket.shared is 1"),
    ],
)
def test_bad_reply_about_limits_is_named(
    reply: object, kind: object, path: tuple[str | int, ...], value: object, culprit: str
) -> None:
    """So it is with what the daemon says about its limits, where much may be null, but nothing else."""
    with pytest.raises(ValueError, match=culprit):
        check(spoilt(reply, path, value), kind)


def spoilt(reply: object, path: tuple[str | int, ...], value: object) -> object:
    """Return ``reply`` with ``value`` at ``path``."""
    copied: Any = copy.deepcopy(reply)
    place = copied
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copied


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(STATUS)), inner, max_size=6),
)


@given(JSON)
def test_no_other_exception(reply: object) -> None:
    """Whatever JSON comes, it passes or is refused with ValueError; nothing else happens."""
    with pytest.raises(ValueError, match="reply"):
        check(json.loads(json.dumps(reply)), Status)
