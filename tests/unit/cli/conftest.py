"""What the tests of cnfctl share: a stand-in for the daemon that answers as a healthy one does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.limit_samples import CASE, CHANGE, LIMITS, SOURCE, explained, sources
from tests.unit.cli.samples import FLOW, PING, STATUS, flows
from tests.unit.cli.stand_in import Answer, StandIn


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[StandIn]:
    """Return a listening stand-in that knows two flows, a rule and a source that it limits."""
    stand_in = StandIn(tmp_path / "cnf.sock")
    stand_in.say("/v1/status", STATUS)
    stand_in.say("/v1/flows", flows(FLOW, PING, matched=1_234))
    lines = b"".join(json.dumps(flow).encode() + b"\n" for flow in (FLOW, PING))
    stand_in.answer("/v1/flows", Answer(lines), output="jsonl")
    stand_in.answer("/v1/flows", Answer(b"interface,packets\r\neth0,12\r\n"), output="csv")
    stand_in.say("/v1/limits", LIMITS)
    stand_in.say_to_post("/v1/limits", CHANGE)
    stand_in.say("/v1/limits/sources", sources(SOURCE))
    stand_in.answer("/v1/limits/sources", Answer(json.dumps(SOURCE).encode() + b"\n"), output="jsonl")
    stand_in.answer("/v1/limits/sources", Answer(b"source,shared\r\n192.0.2.66/32,false\r\n"), output="csv")
    stand_in.say("/v1/limits/explain", explained(CASE))
    with stand_in.listening():
        yield stand_in
