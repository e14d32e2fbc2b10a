"""``--watch``, on a terminal and in a stream."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys

import pytest

from tests.unit.cli.samples import FLOW, GROUP, flows, groups
from tests.unit.cli.stand_in import Answer, StandIn
from tests.unit.cli.terminal import CNFCTL, PATIENCE, Terminal, on_terminal

TAKEN = ("\x1b[?1049h", "\x1b[?25l", "\x1b[?7l")
GIVEN_BACK = b"\x1b[?7h\x1b[?25h\x1b[?1049l"


def watch(daemon: StandIn, *arguments: str, seconds: str = "0.1") -> list[str]:
    """Return the arguments of a watch that redraws quickly."""
    return ["--socket", str(daemon.socket), "flows", *arguments, "--watch", seconds]


def assert_given_back(terminal: Terminal, modes: list[object]) -> None:
    """Check that the terminal is as it was, and that nothing was written after it was given back."""
    assert terminal.seen.endswith(GIVEN_BACK)
    assert terminal.modes() == modes


def test_frames(daemon: StandIn) -> None:
    """The screen is taken over and drawn again and again, each frame from the top and in place; q ends it."""
    with on_terminal(watch(daemon, "--filter", "tcp or icmp"), columns=80, rows=24) as terminal:
        modes = terminal.modes()
        terminal.wait_for("\x1b[H\x1b[K\x1b[1mcnfctl flows\x1b[m  ", times=3)
        assert terminal.modes() != modes
        terminal.press(b"q")
        assert terminal.end() == 0
        assert_given_back(terminal, modes)
    assert all(terminal.seen.count(sequence.encode()) == 1 for sequence in TAKEN)
    first = terminal.seen.decode().split("\x1b[H")[1]
    title, node, restriction, *table, summary, rest = first.split("\r\n\x1b[")
    assert "every 0.1 s, most rate first" in title
    assert node == "Kin 123 Mbit/s 12.3k/s, out 2.3 Mbit/s 346/s; 124k flows, 24 % full; 12 drops/s"
    assert restriction == "Kfilter: tcp or icmp"
    assert len(table) == 3
    assert "2 of 1,234 matching flows" in summary
    assert rest.startswith("J")
    assert "\x1b[2J" not in first


def test_as_many_flows_as_fit(daemon: StandIn) -> None:
    """The daemon is asked for the flows that fit, and at once for more when the terminal grows."""
    with on_terminal(watch(daemon, seconds="60"), rows=10) as terminal:
        terminal.wait_for("drained")
        assert flows_asked(daemon)["top"] == "5"
        terminal.resize(120, 30)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.wait_for("IDLE")
        assert flows_asked(daemon)["top"] == "25"
        terminal.press(b"x")
        terminal.wait_for("IDLE", times=2)


def test_keys(daemon: StandIn) -> None:
    """What a key asks for is asked of the daemon at once, and the screen says it; a refused filter is taken back."""
    daemon.say("/v1/flows", flows(FLOW))
    with on_terminal(watch(daemon, seconds="60"), columns=100) as terminal:
        terminal.wait_for("drained")
        assert flows_asked(daemon) == {"sort": "rate", "top": "19", "format": "json"}
        terminal.press(b">")
        terminal.wait_for("most pps first")
        assert flows_asked(daemon)["sort"] == "pps"
        daemon.say("/v1/flows", groups(GROUP))
        terminal.press(b"gg")
        terminal.wait_for("by src, most pps first")
        assert flows_asked(daemon)["by"] == "src"
        terminal.press(b"/udp")
        terminal.wait_for("filter: udp_")
        while not daemon.asked.empty():
            daemon.asked.get()
        terminal.press(b"\r")
        terminal.wait_for("filter: udp\r")
        assert flows_asked(daemon)["filter"] == "udp"
        daemon.say("/v1/flows", {"error": "filter: bad", "exit_status": 64}, status=400)
        terminal.press(b"/!\r")
        terminal.wait_for("filter: bad")
        assert flows_asked(daemon)["filter"] == "udp!"
        daemon.say("/v1/flows", groups(GROUP))
        terminal.press(b"u")
        terminal.wait_for("15.6 MB/s")
        assert flows_asked(daemon)["filter"] == "udp"
        terminal.press(b"?")
        terminal.wait_for("as in tcpdump; Enter takes it")
        terminal.press(b"? ")
        terminal.wait_for("paused")
        terminal.press(b"q")
        assert terminal.end() == 0


def test_what_is_paused(daemon: StandIn) -> None:
    """Nothing is asked while it is paused but what another choice needs; units and a new size show the same rows."""
    daemon.say("/v1/flows", flows(FLOW))
    with on_terminal(watch(daemon, seconds="60"), columns=100) as terminal:
        terminal.wait_for("drained")
        terminal.press(b" ")
        terminal.wait_for("paused")
        daemon.say("/v1/flows", flows({**FLOW, "src_addr": "10.9.8.7"}))
        flows_asked(daemon)
        terminal.press(b"u")
        terminal.wait_for("15.4 MB/s")
        terminal.resize(120, 30)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.wait_for("192.168.100.200", times=4)
        assert daemon.asked.empty()
        terminal.press(b">")
        terminal.wait_for("paused, most pps first")
        terminal.wait_for("10.9.8.7")
        assert flows_asked(daemon)["sort"] == "pps"
        daemon.say("/v1/flows", {"error": "filter: bad", "exit_status": 64}, status=400)
        terminal.press(b"/!\r")
        terminal.wait_for("filter: bad")
        daemon.say("/v1/flows", groups(GROUP))
        terminal.press(b"gg")
        terminal.wait_for("paused, by src, most pps first")
        terminal.press(b"q")
        assert terminal.end() == 0


def test_a_character_that_comes_in_two_parts(daemon: StandIn) -> None:
    """A filter may name an interface in UTF-8, of which a slow line brings a byte at a time."""
    with on_terminal(watch(daemon, seconds="60")) as terminal:
        terminal.wait_for("drained")
        terminal.press("/iface ü".encode()[:-1])
        terminal.wait_for("filter: iface _")
        terminal.press("ü".encode()[-1:])
        terminal.wait_for("filter: iface ü_")


def flows_asked(daemon: StandIn) -> dict[str, str]:
    """Return the next question about flows that the daemon was asked."""
    while True:
        path, query = daemon.asked.get(timeout=PATIENCE)
        if path == "/v1/flows":
            return query


def test_a_terminal_that_cannot_be_drawn_on(daemon: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told so, and has one table after the other."""
    monkeypatch.setenv("TERM", "dumb")
    with on_terminal(watch(daemon)) as terminal:
        terminal.wait_for("SOURCE", times=2)
    assert terminal.seen.startswith(b"cnfctl: this terminal cannot be drawn on again (TERM)")
    assert TAKEN[0].encode() not in terminal.seen


def test_fits_a_tiny_terminal(daemon: StandIn) -> None:
    """A frame never has more lines than the terminal, which would scroll."""
    with on_terminal(watch(daemon, seconds="60"), rows=3) as terminal:
        terminal.wait_for("drops/s")
        terminal.press(b"q")
        terminal.end()
    assert terminal.seen.count(b"\r\n") == 2


def test_the_drains_pace(daemon: StandIn) -> None:
    """Without SECONDS it redraws at the drain's interval."""
    with on_terminal(["--socket", str(daemon.socket), "flows", "--watch"]) as terminal:
        terminal.wait_for("every 5 s")


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_signals_give_the_terminal_back(daemon: StandIn, number: signal.Signals, status: int) -> None:
    """However it is ended, the terminal is as it was before, and nothing else is said."""
    with on_terminal(watch(daemon, seconds="60")) as terminal:
        modes = terminal.modes()
        terminal.wait_for("drained")
        terminal.process.send_signal(number)
        assert terminal.end() == status
        assert_given_back(terminal, modes)


def test_ended_in_the_background(daemon: StandIn) -> None:
    """A job that the terminal has stopped, as it does to one of timeout(1), is not stopped again as it ends."""
    child, terminal = pty.fork()
    if child == 0:
        command = ["sh", "-c", 'timeout 1 "$@"; exit $?', "sh", sys.executable, "-m", "cnf.cli", *watch(daemon)]
        os.execvp("sh", command)  # noqa: S606 - it becomes the leader of the terminal's session
    ended = os.pidfd_open(child)
    try:
        assert select.select([ended], [], [], PATIENCE)[0]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 124
    finally:
        os.close(ended)
        os.close(terminal)


def test_stdin_is_closed(daemon: StandIn) -> None:
    """There are no keys then; a signal ends it."""
    without_keys = ("sh", "-c", 'exec "$@" <&-', "sh", *CNFCTL)
    with on_terminal(watch(daemon), command=without_keys) as terminal:
        terminal.wait_for("drained")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == 128 + signal.SIGTERM
        assert terminal.seen.endswith(GIVEN_BACK)


def test_stop_and_continue(daemon: StandIn) -> None:
    """^Z gives the terminal back while stopped, and fg takes it again."""
    with on_terminal(watch(daemon, seconds="60")) as terminal:
        modes = terminal.modes()
        terminal.wait_for("drained")
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.wait_for(GIVEN_BACK.decode())
        terminal.wait_until_stopped()
        assert terminal.modes() == modes
        terminal.process.send_signal(signal.SIGCONT)
        terminal.wait_for("drained", times=2)
        assert terminal.seen.count(TAKEN[0].encode()) == 2


def test_daemon_restarts(daemon: StandIn) -> None:
    """While the daemon is away its error stands above the latest flows; when it is back, so are the flows."""
    with on_terminal(watch(daemon)) as terminal:
        terminal.wait_for("drained")
        away = daemon.socket.rename(daemon.socket.with_suffix(".away"))
        terminal.wait_for("cnfd is not running, or still starting:")
        terminal.wait_for("again")
        terminal.wait_for("192.168.100.200:51234", times=terminal.seen.count(b"192.168.100.200:51234") + 1)
        away.rename(daemon.socket)
        daemon.say("/v1/flows", flows({**FLOW, "src_addr": "10.9.8.7"}))
        terminal.wait_for("10.9.8.7:51234")


@pytest.mark.parametrize("output", ["table", "jsonl"])
def test_error_at_first(daemon: StandIn, output: str) -> None:
    """A filter that the daemon refuses is an error at once, and the screen is never taken."""
    refusal = Answer(b'{"error": "filter: bad", "exit_status": 64}', status=400)
    daemon.answer("/v1/flows", refusal, output="json" if output == "table" else output)
    with on_terminal(watch(daemon, "-o", output)) as terminal:
        assert terminal.end() == 64
    assert terminal.seen == b"cnfctl: filter: bad\r\n"


def test_stream_of_tables(daemon: StandIn) -> None:
    """Without a terminal tables follow each other after an empty line, and an error is said once and outlived."""
    command = [sys.executable, "-m", "cnf.cli", *watch(daemon)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(9)]
        one_table = ["SOURCE", "192.16", "10.0.0", "2 of 1"]
        assert [line[:6] for line in lines] == [*one_table, "\n", *one_table]
        while not daemon.asked.empty():
            daemon.asked.get()
        daemon.say("/v1/flows", {"error": "cnfd is starting", "exit_status": 69}, status=503)
        assert process.stderr.readline() == "cnfctl: cnfd is starting; trying again\n"
        for _ in range(4):  # one question may have been on its way, one was said, two more were not
            daemon.asked.get(timeout=PATIENCE)
        daemon.say("/v1/flows", flows({**FLOW, "src_addr": "10.9.8.7"}))
        while not process.stdout.readline().startswith("10.9.8.7"):
            pass
        process.terminate()
        assert process.communicate()[1] == ""


def test_stream_of_csv(daemon: StandIn) -> None:
    """A watched CSV has one title line, so that all of it is one file."""
    command = [sys.executable, "-m", "cnf.cli", *watch(daemon, "-o", "csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
    assert lines == [b"interface,packets\r\n", b"eth0,12\r\n", b"eth0,12\r\n"]
