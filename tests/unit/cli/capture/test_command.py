"""The command ``cnfctl capture``: it shows or writes what comes, says what is missing, and takes no part for all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals, default_int_handler, signal
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from cnf.capture import pcapng
from cnf.cli import main
from tests.unit.cli.stand_in import Answer, StandIn

FRAME: Final[dict[str, Any]] = {
    "time": "2026-03-01T10:00:00.123456789Z",
    "interface": "eth0",
    "direction": "ingress",
    "protocol": "udp",
    "src_addr": "192.0.2.1",
    "src_port": 4000,
    "dst_addr": "192.0.2.2",
    "dst_port": 53,
    "icmp_type": None,
    "icmp_code": None,
    "vlan": None,
    "fragment": False,
    "tcp_flags": "",
    "kind": "udp",
    "length": 60,
    "packets": 1,
    "verdict": "denied",
    "reason": "limits.deny 192.0.2.0/24",
}
END: Final = {"stream": {"frames": 1, "lost": {"over_budget": 2, "ring_full": 3}}}
LINE: Final = (
    "10:00:00.123456 UTC  eth0 in  udp 192.0.2.1:4000 > 192.0.2.2:53, 60 B  dropped, denied: limits.deny 192.0.2.0/24\n"
)
LOST: Final = "2 over the budget (--budget), 3 with the ring full"
SUMMARY: Final = f"cnfctl: 1 packet captured; lost: {LOST}\n"
HEAD: Final = pcapng.section("cnfd", "Linux") + pcapng.interface("eth0", pcapng.ETHERNET, 128)
BLOCKS: Final = HEAD + pcapng.packet(0, 1, b"abc", 60, pcapng.INBOUND, (pcapng.XDP_VERDICT, 1))
FILE: Final = BLOCKS + pcapng.statistics(0, 2, 1, 5, LOST)


def answer(daemon: StandIn, body: bytes, form: str, *, promised: int | None = None, **more: str | int) -> None:
    """Answer who captures in ``form``, and asks for what is no default as ``more`` says."""
    query = {"which": "all", "snaplen": 128, "budget": 1000, **more, "format": form}
    daemon.answer(f"/v1/capture?{urlencode(query)}", Answer(body, promised=promised), "POST")


def lines(*documents: dict[str, Any]) -> bytes:
    """Return documents as the daemon writes them."""
    return "".join(json.dumps(each) + "\n" for each in documents).encode()


def run(daemon: StandIn, *arguments: str) -> int:
    """Run the command."""
    return main(["--socket", str(daemon.socket), "capture", *arguments])


def test_packets_are_shown(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """As lines or JSON, with what was lost behind them."""
    answer(daemon, lines(FRAME, END), "jsonl")
    assert run(daemon) == 0
    assert capfd.readouterr() == (LINE, SUMMARY)
    assert run(daemon, "-o", "jsonl") == 0
    assert capfd.readouterr() == (lines(FRAME).decode(), SUMMARY)


def test_what_is_asked_for(daemon: StandIn) -> None:
    """An expression may be one argument or, as tcpdump has it, several."""
    body = lines(FRAME, END)
    answer(daemon, body, "jsonl", which="would", snaplen=64, budget=5, filter="udp and port 53", count=1)
    options = ("--would", "-s", "64", "--budget", "5", "-c", "1")
    assert run(daemon, *options, "udp and port 53") == 0
    assert run(daemon, *options, "udp", "and", "port", "53") == 0


def test_a_file(daemon: StandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It has what the daemon sends, and nobody else may read it."""
    answer(daemon, FILE, "pcapng")
    file = tmp_path / "a.pcapng"
    assert run(daemon, "-w", str(file)) == 0
    assert file.read_bytes() == FILE
    assert file.stat().st_mode & 0o777 == 0o600
    assert capfd.readouterr() == ("", SUMMARY)


def test_a_file_needs_nobody_who_reads_stdout(daemon: StandIn, tmp_path: Path) -> None:
    """Also behind a pipe whose reader has gone all is written."""
    answer(daemon, FILE, "pcapng")
    file = tmp_path / "a.pcapng"
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "cnf.cli", "--socket", str(daemon.socket), "capture", "-w", str(file)]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=True, text=True)
    os.close(writer)
    assert (file.read_bytes(), ended.stderr) == (FILE, SUMMARY)


def test_a_capture_that_breaks_off_is_an_error(
    daemon: StandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What has come is shown, or is in the file, and counted; a script sees that it is not all."""
    answer(daemon, lines(FRAME), "jsonl", promised=10_000)
    assert run(daemon) == 69
    shown = capfd.readouterr()
    assert shown.out == LINE
    assert "it broke off before its end" in shown.err

    answer(daemon, BLOCKS, "pcapng", promised=10_000)
    file = tmp_path / "a.pcapng"
    assert run(daemon, "-w", str(file)) == 69
    assert file.read_bytes() == BLOCKS
    captured, broke_off = capfd.readouterr().err.splitlines()
    assert captured == "cnfctl: 1 packet captured"
    assert "it broke off before its end" in broke_off


def test_a_refusal_leaves_no_file(daemon: StandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is the daemon's line, and a file that is there already stays as it is."""
    query = urlencode({"which": "all", "snaplen": 128, "budget": 1000, "format": "pcapng"})
    refusal = {"error": "uid 0, pid 7 captures already", "exit_status": 69}
    daemon.say_to_post(f"/v1/capture?{query}", refusal, status=503)
    there, new = tmp_path / "there", tmp_path / "new"
    there.write_bytes(b"before")
    assert (run(daemon, "-w", str(there)), run(daemon, "-w", str(new))) == (69, 69)
    assert (there.read_bytes(), new.exists()) == (b"before", False)
    assert capfd.readouterr().err == 2 * "cnfctl: uid 0, pid 7 captures already\n"


def test_a_file_that_cannot_be_written_is_named(
    daemon: StandIn, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the kernel's words: a full disk, or a folder that is not there."""
    answer(daemon, FILE, "pcapng")
    assert run(daemon, "-w", "/dev/full") == 74
    assert "cnfctl: /dev/full cannot be written: No space left on device\n" in capfd.readouterr().err
    missing = tmp_path / "missing" / "a.pcapng"
    assert run(daemon, "-w", str(missing)) == 74
    assert f"cnfctl: {missing} cannot be written: No such file or directory\n" in capfd.readouterr().err


def test_a_file_is_pcapng(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """Who asks for JSON, too, is not left to find out."""
    assert run(daemon, "-w", "a.jsonl", "-o", "jsonl") == 64
    assert "not allowed with argument -w/--write" in capfd.readouterr().err


@pytest.mark.parametrize("options", [(), ("-w", "/dev/null")])
@pytest.mark.parametrize(("number", "status"), [(SIGINT, 130), (SIGTERM, -SIGTERM)])
def test_before_it_has_begun_one_signal_ends_it(
    tmp_path: Path, options: tuple[str, ...], number: Signals, status: int
) -> None:
    """As it does any command that waits for an answer, in silence."""
    command = [sys.executable, "-m", "cnf.cli", "--socket", str(tmp_path / "cnf.sock"), "capture", *options]
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "cnf.sock"))
        silent.listen()
        # Not as these tests may have inherited it: a shell without job control has its background ignore SIGINT.
        before = signal(SIGINT, default_int_handler)
        try:
            client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        finally:
            signal(SIGINT, before)
        with client, silent.accept()[0] as connection:
            assert connection.recv(1 << 16)
            client.send_signal(number)
            assert client.communicate()[0] == b""
    assert client.returncode == status


def test_another_ones_capture_is_ended(daemon: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
    """It is said whether there was one."""
    daemon.say_to_post("/v1/capture/end", {"ended": True})
    assert run(daemon, "--end") == 0
    daemon.say_to_post("/v1/capture/end", {"ended": False})
    assert run(daemon, "--end") == 0
    assert capfd.readouterr().err == "cnfctl: ended\ncnfctl: nobody captures\n"
