"""The command ``cnfctl flows``, without --watch."""

from __future__ import annotations

import json
import socket

import pytest

from cnf.cli import main
from cnf.cli.flows import names
from tests.unit.cli.samples import FLOW, PAIR, PING, flows, pairs
from tests.unit.cli.stand_in import Answer, StandIn
from tests.unit.cli.terminal import on_terminal


def run(daemon: StandIn, *arguments: str) -> dict[str, str]:
    """Run ``cnfctl flows`` and return the query that the daemon was sent."""
    assert main(["--socket", str(daemon.socket), "flows", *arguments]) == 0
    return daemon.asked.get()[1]


def test_table(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The table is the default, of the 20 largest flows; in a pipe it has neither colour nor limits."""
    assert run(daemon) == {"sort": "bytes", "top": "20", "format": "json"}
    output = capsys.readouterr().out
    assert output.startswith("SOURCE                 DESTINATION   DIR  PROTO  INFO")
    assert output.endswith("drained 1.2 s ago\n")
    assert "\x1b" not in output


def test_selection(daemon: StandIn) -> None:
    """What the user selects, the daemon is asked for, in his words."""
    query = run(daemon, "--top", "5", "--sort", "bps", "--filter", "tcp and port 443")
    assert query == {"top": "5", "sort": "bps", "filter": "tcp and port 443", "format": "json"}


def test_pairs(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Connections are asked for as such, in every format, and shown as such."""
    daemon.say("/v1/flows", pairs(PAIR))
    query = run(daemon, "--pairs", "--sort", "reverse_bytes")
    assert query == {"pairs": "1", "top": "20", "sort": "reverse_bytes", "format": "json"}
    assert "BYTES <" in capsys.readouterr().out
    assert run(daemon, "--pairs", "-o", "csv") == {"pairs": "1", "sort": "bytes", "format": "csv"}
    assert run(daemon, "--pairs", "-o", "json") == {"pairs": "1", "sort": "bytes", "format": "jsonl"}


def test_json(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is one array of all flows, indented by two."""
    assert run(daemon, "-o", "json") == {"sort": "bytes", "format": "jsonl"}
    assert capsys.readouterr().out == json.dumps([FLOW, PING], indent=2) + "\n"


def test_json_of_nothing(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """No flow is an empty array, not empty output."""
    daemon.answer("/v1/flows", Answer(b""), output="jsonl")
    run(daemon, "-o", "json")
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(("output", "start"), [("jsonl", b'{"interface": "eth0"'), ("csv", b"interface,packets\r\n")])
def test_lines(daemon: StandIn, capfdbinary: pytest.CaptureFixture[bytes], output: str, start: bytes) -> None:
    """JSON lines and CSV are the daemon's bytes, of all flows."""
    assert run(daemon, "-o", output) == {"sort": "bytes", "format": output}
    assert capfdbinary.readouterr().out.startswith(start)


def test_lines_cannot_control_the_terminal(daemon: StandIn) -> None:
    """On a terminal, CSV too has its control characters escaped."""
    daemon.answer("/v1/flows", Answer(b"interface\r\na\x1b[2Jb\xff\r\n"), output="csv")
    with on_terminal(["--socket", str(daemon.socket), "flows", "-o", "csv"]) as terminal:
        assert terminal.end() == 0
    assert terminal.seen == b"interface\r\n" + rb"a\x1b[2Jb\xff" + b"\r\n"


@pytest.mark.parametrize("columns", [80, 120])
def test_table_on_a_terminal(daemon: StandIn, columns: int) -> None:
    """On a terminal the table has its width, a bold title and a faint summary."""
    daemon.say("/v1/flows", flows(*[FLOW] * 3, matched=9))
    with on_terminal(["--socket", str(daemon.socket), "flows"], columns=columns) as terminal:
        assert terminal.end() == 0
    title, *rows, summary, end = terminal.seen.decode().split("\r\n")
    assert title.startswith("\x1b[1mSOURCE")
    assert summary.startswith("\x1b[2m3 of 9 flows")
    assert ("IDLE" in title) == (columns == 120)
    assert len(rows) == 3
    assert max(map(len, rows)) <= columns
    assert end == ""


def test_owner(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """Owners are asked for only where the user does, in every format."""
    daemon.say("/v1/flows", flows({**FLOW, "owner": "nginx.service", "uid": 33}))  # type: ignore[typeddict-unknown-key]
    assert run(daemon, "--owner") == {"owner": "1", "sort": "bytes", "top": "20", "format": "json"}
    assert "nginx.service" in capsys.readouterr().out
    assert run(daemon, "--owner", "-o", "csv") == {"owner": "1", "sort": "bytes", "format": "csv"}


def test_names(daemon: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are looked for only where the user asks, in every format; those that are late are counted on stderr."""
    monkeypatch.setattr(socket, "getnameinfo", lambda address, _: (f"h{address[0].rpartition('.')[2]}.example", "0"))
    run(daemon, "--names")
    assert "h200.example" in capsys.readouterr().out
    run(daemon, "--names", "-o", "json")
    named = [{**flow, "src_name": name, "dst_name": "h1.example"} for flow, name in ((FLOW, "h200"), (PING, "h7"))]
    expected = [{**flow, "src_name": f"{flow['src_name']}.example"} for flow in named]
    assert json.loads(capsys.readouterr().out) == expected
    run(daemon, "--names", "-o", "jsonl")
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == expected
    run(daemon, "-o", "json")
    assert json.loads(capsys.readouterr().out) == [FLOW, PING]

    monkeypatch.setattr(names, "MOST", 1)
    run(daemon, "--names")
    assert "cnfctl: 2 names had not come within 1 s" in capsys.readouterr().err
