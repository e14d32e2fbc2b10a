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
            "set": None,
            "interface": "eth0",
            "seq": 6,
        }
    ]


def test_a_flood_is_few_lines_a_minute() -> None:
    """Of thousands, within any minute no more are written than of a minute; a line says how many were not."""
    now = 0.0
    lines = FirstDropLines(lambda: now)
    flood = np.concatenate([drop("192.0.2.1", 1, 1)] * 1000)
    at: list[float] = []
    left_out = 0
    for second in range(150):
        now = float(second)
        found = written(lines, flood)
        at += [now] * len(found)
        left_out += sum(line.get("left_out", 0) for line in found)
    most = max(sum(begin <= each < begin + 60 for each in at) for begin in at)
    assert A_MINUTE - 1 <= most <= A_MINUTE
    assert left_out + len(at) == 1000 * int(at[-1]) + 1
