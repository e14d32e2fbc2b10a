"""The command ``cnfctl export``: it copies records, goes on from a number, and says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

import pytest

from cnf.cli import main
from tests.unit.cli.stand_in import Answer, StandIn

STARTED: Final = "2026-03-01T10:00:00.000000Z"


def answer(*lines: dict[str, Any], **promise: int) -> Answer:
    """Return what the daemon answers until the connection ends."""
    return Answer("".join(json.dumps(line) + "\n" for line in lines).encode(), **promise)


def about(at: int, *, stream: int = 5, missed: int = 0, started: str = STARTED, lost: int = 0) -> dict[str, Any]:
    """Return a line about the stream; ``lost`` sent packets of 100 bytes."""
    losses = {"ingress": {"packets": 0, "bytes": 0}, "egress": {"packets": lost, "bytes": 100 * lost}}
    return {"stream": {"id": stream, "started": started, "at": at, "last": 100, "missed": missed, "lost": losses}}


def record(seq: int) -> dict[str, Any]:
    """Return a record."""
    return {"seq": seq, "interface": "eth\x1b0"}


def lines(*records: dict[str, Any]) -> str:
    """Return records as the daemon writes them."""
    return "".join(json.dumps(each) + "\n" for each in records)


def run(daemon: StandIn, *arguments: str) -> int:
    """Run the command."""
    return main(["--socket", str(daemon.socket), "export", *arguments])


def test_what_there_is_is_copied(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Records go to stdout as they are; what the stream says of itself does not."""
    daemon.answer("/v1/export", answer(about(0), record(1), record(2)))
    assert run(daemon) == 0
    assert run(daemon, "--since", "7", "--filter", "port 53", "-o", "jsonl") == 0
    assert capfd.readouterr() == (2 * lines(record(1), record(2)), "")
    assert [daemon.asked.get() for _ in range(2)] == [
        ("/v1/export", {}), ("/v1/export", {"since": "7", "filter": "port 53"}),
    ]  # fmt: skip


def test_what_is_missing_is_said(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """How many records are kept no more, and what is in none."""
    daemon.answer("/v1/export", answer(about(3, lost=12), about(1500, missed=1497, lost=12), record(1501)))
    assert run(daemon, "--since", "3") == 0
    written = capfd.readouterr()
    assert written.out == lines(record(1501))
    assert written.err.splitlines() == [
        "cnfctl: 12 packets (1.2 kB) sent since cnfd began are in no record: flows had to make room",
        "cnfctl: 1,497 records not shown: the daemon keeps the latest ones only",
    ]


def test_a_number_of_another_stream_is_no_end(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Who goes on after a number that there never was gets all that is kept, and is told."""
    daemon.answer("/v1/export", answer(about(0), record(1)))
    assert run(daemon, "--since", "101") == 0
    assert capfd.readouterr() == (
        lines(record(1)), "cnfctl: the latest record is 100: records are numbered anew, and shown from the first\n",
    )  # fmt: skip
    assert [daemon.asked.get()[1] for _ in range(2)] == [{"since": "101"}, {"since": "0"}]


def test_an_answer_that_breaks_off_is_an_error(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --follow the end is known: a script must not take a part for all."""
    daemon.answer("/v1/export", answer(about(0), record(1), promised=1000))
    assert run(daemon) == 69
    assert "it broke off before its end" in capfd.readouterr().err


def test_a_refusal_is_an_error(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """It is the daemon's line."""
    daemon.say("/v1/export", {"error": "no flow records are made", "exit_status": 78}, status=409)
    assert (run(daemon), run(daemon, "--follow")) == (78, 78)
    assert capfd.readouterr().err == 2 * "cnfctl: no flow records are made\n"


def test_it_follows_over_a_restart(daemon: StandIn) -> None:
    """It goes on after the latest record shown, or looked at, and says that the daemon was restarted."""
    daemon.answer("/v1/export", answer(about(6), record(7), about(9)))
    command = [sys.executable, "-m", "cnf.cli", "--socket", str(daemon.socket), "export", "--follow", "--since", "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline()) == record(7)
        daemon.answer("/v1/export", answer(about(9, started="2026-03-01T11:00:00.000000Z", lost=1), record(10)))
        assert json.loads(process.stdout.readline()) == record(10)
        assert process.stderr.readline() == (
            "cnfctl: cnfd was restarted, and goes on with the records that came meanwhile\n"
        )
        assert process.stderr.readline().startswith("cnfctl: 1 packet (100 B) sent since cnfd began are in no record")
        assert daemon.asked.get() == ("/v1/export", {"since": "6", "follow": "1"})
        while (asked := daemon.asked.get()[1]) == {"since": "9", "follow": "1"}:
            pass
        assert asked == {"since": "10", "follow": "1"}
        process.terminate()
        process.communicate()
