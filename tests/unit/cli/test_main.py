"""The command line of cnfctl: what it accepts, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Final

import pytest

from cnf import VERSION
from cnf.cli import main
from tests.unit.cli.stand_in import Answer, StandIn
from tests.unit.cli.terminal import PATIENCE

ARGUMENTS: Final = ("cnf.cli.api", "cnf.cli.api.replies", "cnf.cli.arguments")
"""A flow's fields are those that flows can be sorted by."""
CAPTURE: Final = ("cnf.cli.capture", "cnf.cli.capture.arguments")
LIMITS: Final = ("cnf.cli.limits", "cnf.cli.limits.arguments")
"""Its arguments are many, and so have a module."""
TIMES: Final = ("cnf.cli.times",)
"""Two commands take times of the past."""
SLOW = {"attrs", "http", "numpy"}
"""What is slow to import."""
CNFCTL = [sys.executable, "-m", "cnf.cli"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND (see cnfctl --help)"),
        (["flow"], "invalid choice: 'flow'"),
        (["flows", "--top", "0"], "a number from 1 on is expected, not '0'"),
        (["flows", "--top", "²"], "a number from 1 on is expected, not '²'"),
        (["flows", "--top", "9" * 5000], "a number from 1 on is expected"),
        (["flows", "--sort", "byte"], "unknown field 'byte', did you mean bytes? Fields: packets, bytes, "),
        (["flows", "--sort", "zzz"], "unknown field 'zzz'; Fields: packets, bytes, "),
        (["flows", "--watch", "0"], "seconds are expected, 0.1 to 86400, not '0'"),
        (["flows", "--watch", "nan"], "seconds are expected, 0.1 to 86400, not 'nan'"),
        (["flows", "--watch", "99999999999"], "seconds are expected, 0.1 to 86400, not '99999999999'"),
        (["flows", "--pairs", "--by", "src"], "argument --by: not allowed with argument --pairs"),
        (["flows", "-o", "yaml"], "invalid choice: 'yaml'"),
        (["limits", "lst"], "invalid choice: 'lst'"),
        (["limits", "-o", "csv"], "invalid choice: 'csv'"),
        (["limits", "mode", "on"], "invalid choice: 'on'"),
        (["limits", "allow", "ad"], "invalid choice: 'ad'"),
        (
            ["limits", "deny", "add", "::1", "--until", "noon"],
            "a time such as 12:00 or 2026-03-01T12:00:00Z is expected",
        ),
        (["limits", "deny", "add", "::1", "--for", "999999999h"], "999999999h from now is later than a time can be"),
        (["limits", "deny", "add", "::1", "--until", "9999-12-31T23:59:59-12:00"], "a time such as 12:00 or"),
        (["limits", "deny", "add", "::1", "--for", "1h", "--until", "12:00"], "not allowed with argument --for"),
        (["limits", "deny", "add"], "the following arguments are required: PREFIX (see cnfctl limits deny add --help)"),
        (["limits", "reset", "--confirm", "60"], "a number and its unit (ms, s, m or h) are expected, such as 60s"),
        (["limits", "confirm", "--confirm=60s"], "unrecognized arguments: --confirm=60s"),
        (["limits", "set", "a"], "nothing to set for a, expected --packets-per-second or another option"),
        (["limits", "set", "a", "--packets-per-second", "1k"], "a number from 1 on is expected, not '1k'"),
        (["limits", "set", "a", "--protocol", "sctp"], "invalid choice: 'sctp'"),
        (["limits", "set", "a", "--protocol", "none", "--protocol", "udp"], "none takes all back"),
        (["limits", "sources", "--sort", "rule"], "invalid choice: 'rule'"),
        (["limits", "explain", "192.0.2.66", "--protocol", "none"], "invalid choice: 'none'"),
        (["flows", "--no\nsuch\x1b[2J"], r"unrecognized arguments: --no such\x1b[2J"),
    ],
)
def test_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be understood ends with 64 and one line that says what was expected."""
    assert main(arguments) == 64
    captured = capsys.readouterr()
    assert captured.err.startswith("cnfctl: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_stderr_is_closed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What is meant for stderr is not put among the output."""
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["flow"]) == 64
    if sys.stderr:
        sys.stderr.close()
    assert capsys.readouterr().out == ""


def test_too_many_prefixes_at_once(daemon: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon's words are about its protocol; what to do is said besides."""
    daemon.say_to_post("/v1/limits", {"error": "too long", "exit_status": 64}, status=413)
    assert main(["--socket", str(daemon.socket), "limits", "deny", "add", "192.0.2.1"]) == 64
    message = "cnfctl: too long (name fewer prefixes at once; thousands are for a file: [[limits.sets]])\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("exit_status", [64, 69, 71, 77, 78])
def test_daemon_errors(daemon: StandIn, exit_status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the daemon is its line, and its exit status is cnfctl's."""
    daemon.say("/v1/flows", {"error": "the daemon's words", "exit_status": exit_status}, status=500)
    assert main(["--socket", str(daemon.socket), "flows"]) == exit_status
    assert capsys.readouterr().err == "cnfctl: the daemon's words\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the package."""
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"cnfctl {VERSION}\n"


@pytest.mark.parametrize("command", [["flows"], ["limits", "set"]])
def test_help_loads_little(command: list[str]) -> None:
    """Help takes no module that is slow to import, and of the commands only the arguments."""
    tell = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    arguments = [sys.executable, "-c", f"{tell}; from cnf.cli import main; main()", *command, "--help"]
    found = subprocess.run(arguments, check=True, capture_output=True, text=True)
    assert found.stdout.startswith("usage: ")
    loaded = set(found.stderr.split())
    assert not loaded & SLOW
    assert {name for name in loaded if name.startswith("cnf.cli.")} == {*ARGUMENTS, *CAPTURE, *LIMITS, *TIMES}


def test_only_arguments_at_first() -> None:
    """Importing the command line imports no command, nor anything that is slow to import."""
    code = f"import sys, cnf.cli; print(*sorted(m for m in sys.modules if m.startswith('cnf') or m in {SLOW}))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["cnf", "cnf.cli", *ARGUMENTS, *CAPTURE, *LIMITS, *TIMES, "cnf.errors"]


def ending(daemon: StandIn, shell: str) -> subprocess.CompletedProcess[str]:
    """Run "$@", which is cnfctl flows -o jsonl, as ``shell`` says."""
    command = ["bash", "-c", shell, "bash", *CNFCTL, "--socket", str(daemon.socket), "flows", "-o", "jsonl"]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


def test_reader_that_leaves(daemon: StandIn) -> None:
    """A reader that has enough ends cnfctl as SIGPIPE would, in silence."""
    daemon.answer("/v1/flows", Answer(b"{}\n" * 100_000), output="jsonl")
    ended = ending(daemon, '"$@" | head -n 1; exit "${PIPESTATUS[0]}"')
    assert (ended.returncode, ended.stdout, ended.stderr) == (141, "{}\n", "")


def test_output_that_cannot_be_written(daemon: StandIn) -> None:
    """A full disk, and a closed stdout, are one line and the status of an output error."""
    ended = ending(daemon, '"$@" > /dev/full')
    assert ended.returncode == os.EX_IOERR
    assert ended.stderr == "cnfctl: the output cannot be written: No space left on device\n"
    ended = ending(daemon, '"$@" >&-')
    assert (ended.returncode, ended.stderr) == (os.EX_IOERR, "cnfctl: stdout is closed\n")


def test_interrupt(daemon: StandIn) -> None:
    """^C ends cnfctl with 130, in silence."""
    command = [*CNFCTL, "--socket", str(daemon.socket), "flows", "--watch", "60", "-o", "jsonl"]
    # Not as these tests may have inherited it: a shell without job control has what runs in its background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE)[1] == b""
    assert process.returncode == 130
