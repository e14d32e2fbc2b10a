"""First drops become log lines, and a flood of them a few."""

from __future__ import annotations

from typing import Any

import numpy as np
from structlog.testing import capture_logs

from cnf.events.journal import A_MINUTE, FirstDropLines
from cnf.events.log import Batch, Context
from tests.unit.events.test_log import drop, dropper, generations
from tests.unit.samples import CLOCK, NAMES

CONTEXT = Context(CLOCK, NAMES, dropper)


def written(lines: FirstDropLines, *batches: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - arrays of events
    """Return what is logged of events."""
    with capture_logs() as log:
        for events in batches:
            lines.write(Batch(5, events, CONTEXT))
    return [dict(line) for line in log]


def test_a_first_drop_is_a_line() -> None:
    """It says who, by which rule and where; other events are no lines."""
    assert written(FirstDropLines(), np.concatenate((generations(1), drop("2001:db8::1:5", 7, 1)))) == [
        {
            "event": "first drop",
            "log_level": "info",
            "source": "2001:db8::/64",
            "address": "2001:db8::1:5",
            "rule": "six",
            "denied": False,
            "interface": "eth0",
            "seq": 6,
        }
    ]


def test_a_flood_is_a_minutes_lines() -> None:
    """Of thousands at once so many are written as of a minute; a line after that says how many were not."""
    now = 0.0
    lines = FirstDropLines(lambda: now)
    flood = np.concatenate([drop("192.0.2.1", 1, 1)] * 1000)
    assert len(written(lines, flood)) == A_MINUTE
    now = 60 / A_MINUTE
    (line,) = written(lines, flood)
    assert line["left_out"] == 1000 - A_MINUTE
