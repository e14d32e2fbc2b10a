"""The commands ``cnfctl limits ...``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnf.cli import main
from cnf.cli.api.limit_replies import Change
from tests.unit.cli.limit_samples import CASE, CHANGE, CHANGED, LIMITS, PENDING, SOURCE, explained, sources
from tests.unit.cli.stand_in import Answer, StandIn
from tests.unit.cli.terminal import on_terminal


@pytest.fixture(autouse=True)
def _outside_of_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnf.cli.limits.command.ssh_connection", lambda: None)


def run(daemon: StandIn, *arguments: str) -> None:
    """Run ``cnfctl limits``, which must succeed."""
    assert main(["--socket", str(daemon.socket), "limits", *arguments]) == 0


def posted(daemon: StandIn, *arguments: str) -> dict[str, Any]:
    """Run ``cnfctl limits`` and return the change that the daemon was asked for."""
    run(daemon, *arguments)
    path, request = daemon.posted.get()
    assert path == "/v1/limits"
    return dict(request)


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_list(daemon: StandIn, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """Without an action the limits are listed; in a pipe without colour or limits of width."""
    run(daemon, *arguments)
    assert daemon.asked.get() == ("/v1/limits", {})
    output = capsys.readouterr().out
    assert output.startswith("mode enforce (file), generation 7\n\nNAME     ORIGIN  MODE ")
    assert "\x1b" not in output


@pytest.mark.parametrize("arguments", [("-o", "json"), ("list", "-o", "json"), ("-o", "json", "list")])
def test_list_json(daemon: StandIn, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    """JSON is the daemon's document, wherever on the command line it is asked for."""
    run(daemon, *arguments)
    assert json.loads(capsys.readouterr().out) == LIMITS


@pytest.mark.parametrize("columns", [80, 200])
def test_list_on_a_terminal(daemon: StandIn, columns: int) -> None:
    """On a terminal the list has its width, bold titles and yellow warnings."""
    daemon.say("/v1/limits", CHANGED)
    with on_terminal(["--socket", str(daemon.socket), "limits"], columns=columns, rows=40) as terminal:
        assert terminal.end() == 0
    lines = terminal.seen.decode().split("\r\n")
    assert lines[0] == "\x1b[1mmode enforce\x1b[m (runtime), generation 9, what cannot be read is dropped"
    assert lines[1].startswith("\x1b[33m! undone in 41 s unless confirmed: ")
    plain = [line.replace("\x1b[1m", "").replace("\x1b[33m", "").replace("\x1b[m", "") for line in lines]
    assert max(map(len, plain)) <= columns


@pytest.mark.parametrize(
    ("arguments", "request_body"),
    [
        (["remove", "loud"], {"op": "remove", "name": "loud"}),
        (["allow", "add", "10.0.0.0/8"], {"op": "allow_add", "prefix": ["10.0.0.0/8"]}),
        (["allow", "remove", "::/0"], {"op": "allow_remove", "prefix": ["::/0"]}),
        (["deny", "add", "fd00::/8"], {"op": "deny_add", "prefix": ["fd00::/8"]}),
        (
            ["deny", "add", "10.0.0.1", "::1", "--until", "2026-03-01T12:00:00Z", "--reason", "scans"],
            {
                "op": "deny_add",
                "prefix": ["10.0.0.1", "::1"],
                "until": "2026-03-01T12:00:00Z",
                "reason": "scans",
            },
        ),
        (
            ["deny", "add", "::1", "--keep-longer"],
            {"op": "deny_add", "prefix": ["::1"], "keep_longer": True},
        ),
        (["deny", "remove", "fd00::/8"], {"op": "deny_remove", "prefix": ["fd00::/8"]}),
        (["deny", "remove", "--reason", "scans"], {"op": "deny_remove", "reason": "scans"}),
        (["mode", "enforce"], {"op": "mode", "mode": "enforce"}),
        (["reset"], {"op": "reset"}),
        (["set", "a", "--mode", "off"], {"op": "set", "rule": {"name": "a", "mode": "off"}}),
        (
            ["set", "a", "--mode", "off", "--until", "2026-03-01T12:00:00Z", "--reason", "scans"],
            {
                "op": "set",
                "rule": {"name": "a", "mode": "off"},
                "until": "2026-03-01T12:00:00Z",
                "reason": "scans",
            },
        ),
    ],
)
def test_change(daemon: StandIn, arguments: list[str], request_body: dict[str, object]) -> None:
    """Every change is asked for in the daemon's words; --confirm is a duration as the configuration has it."""
    assert posted(daemon, *arguments) == {**request_body, "confirm": None, "ssh_connection": None}
    for text, seconds in (("60s", 60.0), ("5m", 300.0), ("1h", 3600.0), ("0.5s", 0.5), ("500ms", 0.5)):
        assert posted(daemon, *arguments, "--confirm", text)["confirm"] == seconds


def test_confirm(daemon: StandIn) -> None:
    """A confirmation waits for none itself."""
    assert posted(daemon, "confirm") == {"op": "confirm", "ssh_connection": None, "number": None}
    assert posted(daemon, "confirm", "3")["number"] == 3


def test_set_everything(daemon: StandIn) -> None:
    """Each option of a rule is sent under its name in the configuration, bits and bytes as they were written."""
    arguments = (
        "set dns --prefix 192.0.2.0/24 --prefix ::/0 --packets-per-second 1000 --burst-packets 2000 "
        "--bits-per-second 1.5M --burst-bytes 64k --bucket prefix --protocol udp --protocol fragment "
        "--interface eth* --interface wan0 --mode shadow"
    )
    assert posted(daemon, *arguments.split())["rule"] == {
        "name": "dns",
        "prefixes": ["192.0.2.0/24", "::/0"],
        "packets_per_second": 1000,
        "burst_packets": 2000,
        "bits_per_second": "1.5M",
        "burst_bytes": "64k",
        "bucket": "prefix",
        "protocols": ["udp", "fragment"],
        "interfaces": ["eth*", "wan0"],
        "mode": "shadow",
    }


@pytest.mark.parametrize(
    ("option", "key"),
    [
        ("--packets-per-second", "packets_per_second"),
        ("--burst-packets", "burst_packets"),
        ("--bits-per-second", "bits_per_second"),
        ("--burst-bytes", "burst_bytes"),
        ("--protocol", "protocols"),
        ("--interface", "interfaces"),
        ("--mode", "mode"),
    ],
)
def test_take_back(daemon: StandIn, option: str, key: str) -> None:
    """The word none takes an option back, and what is not given is not touched."""
    assert posted(daemon, "set", "dns", option, "none")["rule"] == {"name": "dns", key: None}


def test_ssh_connection(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caller comes from is sent with every change, so that it cannot lock itself out."""
    monkeypatch.setattr("cnf.cli.limits.command.ssh_connection", lambda: "192.0.2.7 51234 192.0.2.1 22")
    assert posted(daemon, "mode", "enforce")["ssh_connection"] == "192.0.2.7 51234 192.0.2.1 22"
    assert posted(daemon, "confirm")["ssh_connection"] == "192.0.2.7 51234 192.0.2.1 22"


@pytest.mark.parametrize(
    ("arguments", "reply", "text"),
    [
        (["mode", "off"], CHANGE, "set default packets_per_second=100 (generation 8)\n"),
        (["reset"], {**CHANGE, "changes": []}, "nothing changed (generation 8)\n"),
        (["confirm"], {**CHANGE, "changes": ["confirm a", "confirm b"]}, "confirm a; confirm b (generation 8)\n"),
        (
            ["mode", "off"],
            {**CHANGE, "pending": [{**PENDING, "seconds_left": 59.99}]},
            (
                "\nundone in 60 s unless confirmed: set default packets_per_second=100, by uid 0, pid 4711"
                " (cnfctl limits confirm 3)\n"
            ),
        ),
        (
            ["mode", "off"],
            {**CHANGE, "protected": ["192.0.2.7/32", "::1/128"]},
            (
                "\nprotected, whatever the rules say, until confirmed or logged out:"
                " 192.0.2.7/32, ::1/128 (cnfctl limits confirm)\n"
            ),
        ),
        (
            ["deny", "add", "::1"],
            {**CHANGE, "mode": "off"},
            (
                "\nthe limiter is off: only rules with a mode of their own are applied, and nothing is denied"
                " (cnfctl limits mode shadow)\n"
            ),
        ),
        (["mode", "off"], {**CHANGE, "changes": ["allow \x1b[2J"]}, r"allow \x1b[2J (generation 8)"),
    ],
)
def test_what_changed(
    daemon: StandIn, capsys: pytest.CaptureFixture[str], arguments: list[str], reply: Change, text: str
) -> None:
    """A change says in a line what it did, and then only what the caller has still to do or to know."""
    daemon.say_to_post("/v1/limits", reply)
    run(daemon, *arguments)
    output = capsys.readouterr().out
    assert text in output
    assert output.count("\n") == 1 + bool(reply["pending"]) + bool(reply["protected"]) + (reply["mode"] == "off")


def test_who_is_denied_in_mode_off(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The list says that nobody is, where it has any."""
    for mode, deny, said in (("off", CHANGED["deny"], True), ("enforce", CHANGED["deny"], False), ("off", [], False)):
        daemon.say("/v1/limits", {**CHANGED, "mode": mode, "deny": deny})
        run(daemon, "deny")
        assert ("nothing is denied" in capsys.readouterr().out) is said


def test_what_changed_json(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """A script gets the daemon's document."""
    run(daemon, "remove", "loud", "-o", "json")
    assert json.loads(capsys.readouterr().out) == CHANGE


def test_refused_change(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """What the daemon refuses is its line and its exit status, whether a bad rule or no table [limits]."""
    for status, exit_status in ((400, 64), (500, 78)):
        daemon.say_to_post("/v1/limits", {"error": "the daemon's words", "exit_status": exit_status}, status=status)
        assert main(["--socket", str(daemon.socket), "limits", "remove", "loud"]) == exit_status
        assert capsys.readouterr().err == "cnfctl: the daemon's words\n"


@pytest.mark.parametrize(
    ("path", "arguments"),
    [("/v1/limits", ["list"]), ("/v1/limits/sources", ["sources"]), ("/v1/limits/explain", ["explain", "::1"])],
)
def test_foreign_answer(daemon: StandIn, capsys: pytest.CaptureFixture[str], path: str, arguments: list[str]) -> None:
    """An answer that is not cnfd's ends with 69 and one line, and nothing is shown of it."""
    daemon.say(path, {"mode": "\x1b[2J", "sources": [3]})
    assert main(["--socket", str(daemon.socket), "limits", *arguments]) == 69
    captured = capsys.readouterr()
    assert captured.err.startswith("cnfctl: no answer of cnfd on ")
    assert (captured.err.count("\n"), captured.out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([], {"sort": "over", "top": "20", "format": "json"}),
        (["--top", "5", "--sort", "bytes"], {"sort": "bytes", "top": "5", "format": "json"}),
        (["-o", "json"], {"sort": "over", "format": "jsonl"}),
        (["-o", "jsonl"], {"sort": "over", "format": "jsonl"}),
        (["-o", "csv", "--top", "5"], {"sort": "over", "top": "5", "format": "csv"}),
    ],
)
def test_which_sources(daemon: StandIn, arguments: list[str], query: dict[str, str]) -> None:
    """A table has the 20 that were held back most; for scripts there are all, unless fewer are asked for."""
    run(daemon, "sources", *arguments)
    assert daemon.asked.get() == ("/v1/limits/sources", query)


def test_sources(daemon: StandIn, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Sources are a table, one JSON array, or the daemon's own lines."""
    run(daemon, "sources")
    assert capfdbinary.readouterr().out.startswith(b"SOURCE         RULE     VERDICT ")
    run(daemon, "sources", "-o", "json")
    assert capfdbinary.readouterr().out == json.dumps([SOURCE], indent=2).encode() + b"\n"
    run(daemon, "sources", "-o", "jsonl")
    assert json.loads(capfdbinary.readouterr().out) == SOURCE
    run(daemon, "sources", "-o", "csv")
    assert capfdbinary.readouterr().out == b"source,shared\r\n192.0.2.66/32,false\r\n"


def test_sources_on_a_terminal(daemon: StandIn) -> None:
    """On a terminal CSV has its control characters escaped, and the table its width."""
    daemon.answer("/v1/limits/sources", Answer(b"rule\r\na\x1b[2Jb\r\n"), output="csv")
    with on_terminal(["--socket", str(daemon.socket), "limits", "sources", "-o", "csv"]) as terminal:
        assert terminal.end() == 0
    assert terminal.seen == b"rule\r\n" + rb"a\x1b[2Jb" + b"\r\n"
    daemon.say("/v1/limits/sources", sources(SOURCE, total=9))
    with on_terminal(["--socket", str(daemon.socket), "limits", "sources"]) as terminal:
        assert terminal.end() == 0
    assert b"\x1b[2m1 of 9 sources by what was over the limit; drained 1.2 s ago\x1b[m" in terminal.seen


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (["192.0.2.66"], {"address": "192.0.2.66"}),
        (["::1", "--protocol", "tcp_syn"], {"address": "::1", "protocol": "tcp_syn"}),
        (["::1", "--interface", "e&h\udcff"], {"address": "::1", "interface": "e&h\udcff"}),
    ],
)
def test_explain(
    daemon: StandIn, capsys: pytest.CaptureFixture[str], arguments: list[str], query: dict[str, str]
) -> None:
    """An address is explained for all of its traffic, or for what the caller asks for."""
    run(daemon, "explain", *arguments)
    assert daemon.asked.get() == ("/v1/limits/explain", query)
    assert capsys.readouterr().out.startswith("192.0.2.66: rule default (file) limits it to 10 k packets/s")


def test_explain_json(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is the daemon's document."""
    run(daemon, "explain", "192.0.2.66", "-o", "json")
    assert json.loads(capsys.readouterr().out) == explained(CASE)
